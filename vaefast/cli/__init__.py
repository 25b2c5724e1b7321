"""The command line: flags, configuration files, help, exit codes, and what is printed.

The commands themselves are `vaefast/train.py` and its neighbours, where `python -m` finds them. Nothing here computes.
"""
