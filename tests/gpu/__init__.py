"""Checks of the CUDA engine that need an interpreter of their own: the simulator, and the compilers without a GPU."""
