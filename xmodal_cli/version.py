"""The version of xmodal, in one place."""

__version__ = "0.1.0"
