"""The version, in a module of its own, so that what stands on the lowest floor need not import the whole house."""

__version__ = "0.1.0"
