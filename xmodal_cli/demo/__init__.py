"""The whole pipeline as one run; the only client of recipes besides the command line."""
