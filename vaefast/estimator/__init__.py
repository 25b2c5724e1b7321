"""`VAE`, the scikit-learn estimator that most people use from Python, `load`, which reads what it saved, and `VAEDetector`.

The class is in `vae.py`, the methods of a trained model are in `trained.py`. No mathematics.
"""

from vaefast.estimator.detector import VAEDetector
from vaefast.estimator.saving import load
from vaefast.estimator.vae import VAE

__all__ = ["VAE", "VAEDetector", "load"]
