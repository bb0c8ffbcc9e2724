"""publish: being written"""

VERSION = 1
READS = ("ingest",)
from lightadapt_data.config import Config


class Settings(Config):
    """x"""
