"""Every figure: arrays in, matplotlib figures out; nothing else imports matplotlib.

Which arrays a run's figures need stands in `gallery`.
"""
