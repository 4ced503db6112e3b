"""From a name to a model ready for use: find, describe and load models, encode images and text, generate captions."""
