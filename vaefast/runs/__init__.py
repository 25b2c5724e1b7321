"""The folder of a run: its lock, its checkpoints and when they are written, and how a run is resumed or interrupted.

The training loop stands in `vaefast/training`, how files are written in `vaefast/files`.
"""
