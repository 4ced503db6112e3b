"""The version of xmodal."""

__version__ = "0.1.0"
