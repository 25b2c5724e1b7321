"""Writing files whole or not at all, and the format of a model file.

The folder of a run is in `vaefast/runs`, and the reading of data in `vaefast/data`.
"""
