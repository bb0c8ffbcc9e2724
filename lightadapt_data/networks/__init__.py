"""Torch modules of our own, and where they go in other people's models.

All but `insertion_points` and `linear_layers` import torch or peft at the top; they are therefore
imported only inside functions.
"""
