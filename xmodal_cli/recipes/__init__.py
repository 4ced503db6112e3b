"""One function per command, which combines the lower layers. The public Python API is ``xmodal_cli.api``."""
