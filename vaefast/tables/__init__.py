"""From a user's table to the inputs of the networks and back: checking, scaling, the order and the weights of rows.

Files are read in `vaefast/data`; here everything is an array.
"""
