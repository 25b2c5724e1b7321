"""What a model is: its settings, the layout of its parameters, its likelihoods, where it starts, and its random numbers.

Plain NumPy that engines, training and files share. Nothing here trains or reads a file.
"""
