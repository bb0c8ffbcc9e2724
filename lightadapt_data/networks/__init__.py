"""Torch modules of our own, and where they go in other people's models.

All but `insertion_points` define subclasses, so they import torch and peft at the top; they are
therefore imported only inside functions.
"""
