"""Models: settings, the layout of the parameters, likelihoods, initial parameters and random numbers.

Engines, training and files share this plain NumPy code. Nothing here trains or reads a file.
"""
