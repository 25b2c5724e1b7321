"""vaefast: variational auto-encoders at the speed the machine allows, every gradient derived by hand and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaefast.version import __version__

if TYPE_CHECKING:
    from vaefast.errors import DataWarning
    from vaefast.estimator import VAE, VAEDetector, load
    from vaefast.training.tensorboard import TensorBoard

__all__ = ["VAE", "DataWarning", "TensorBoard", "VAEDetector", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # scikit-learn alone takes a second to import: nothing is imported before somebody asks for it.
    if name in ("VAE", "VAEDetector", "load"):
        from vaefast import estimator

        return getattr(estimator, name)
    if name == "DataWarning":
        from vaefast.errors import DataWarning

        return DataWarning
    if name == "TensorBoard":
        from vaefast.training.tensorboard import TensorBoard

        return TensorBoard
    if name == "metrics":
        import vaefast.metrics as metrics

        return metrics
    raise AttributeError(f"module 'vaefast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
