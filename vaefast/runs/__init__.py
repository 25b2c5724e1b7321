"""The folder of a run: its lock, its checkpoints and when they are written, and how a run is resumed or interrupted.

The training loop is in `vaefast/training`, and the writing of files in `vaefast/files`.
"""
