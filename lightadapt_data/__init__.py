"""lightadapt-data: the smallest data set that makes a light adapter good at your domain."""

__version__ = "0.1.0"
