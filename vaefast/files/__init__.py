"""How files are written, whole or not at all, and what the file of a trained model holds.

What a run's folder holds stands in `vaefast/runs`, what people bring in `vaefast/data`.
"""
