"""One function per command: the public Python API, and the only place where parts are put together."""
