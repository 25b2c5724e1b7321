# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True, initializedcheck=True
# cython: show_performance_hints=False
"""The same as kernels.pyx with every index and every range of an array checked; for tests."""

cdef enum:
    CHECKED = 1

include "step.pxi"
