# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The two phases of a training step and forward passes, compiled: see step.pxi."""

cdef enum:
    CHECKED = 0

include "step.pxi"
