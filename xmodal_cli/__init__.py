"""xmodal: train image-text matchers and captioners, search and caption photos."""

__version__ = "0.1.0"
