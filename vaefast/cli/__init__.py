"""The command line: flags, configuration files, help, exit codes, and what is printed.

The commands themselves stand in `vaefast/train.py` and beside it, as `python -m` needs. Nothing here computes.
"""
