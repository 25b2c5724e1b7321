"""Tests of vaefast; `python -m tests.faults` runs the long ones."""
