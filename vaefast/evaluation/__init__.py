"""Measures of a trained model, such as log p(x) and active units, and the published table that `vaefast.reproduce` repeats.

The engines compute the importance sampling itself.
"""
