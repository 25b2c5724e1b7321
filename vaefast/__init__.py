"""vaefast: variational auto-encoders at the speed the machine allows, every gradient derived by hand and checked."""

__version__ = "0.1.0"
