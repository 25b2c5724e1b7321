"""Every figure, from arrays: `draw_*` returns a matplotlib figure, and nothing outside this folder imports matplotlib.

`run_figures.py` computes the arrays for the figures of a run, and `sheet.py` has what all figures share.
"""
