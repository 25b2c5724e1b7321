"""`VAE`, the scikit-learn estimator that most people use from Python, and `load`, which reads what it saved.

The class is in `vae.py`, the methods of a trained model are in `trained.py`. No mathematics.
"""

from vaefast.estimator.saving import load
from vaefast.estimator.vae import VAE

__all__ = ["VAE", "load"]
