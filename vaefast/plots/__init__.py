"""Every figure, from arrays: `draw_*` returns a matplotlib figure, and nothing outside this folder imports matplotlib.

Which arrays a run's figures need stands in `run_figures.py`, what all figures share in `sheet.py`.
"""
