"""The version. It has a module of its own, so that the lowest layers need not import the package."""

__version__ = "0.1.0"
