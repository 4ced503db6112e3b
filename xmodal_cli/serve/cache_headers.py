"""How long browsers keep a response."""

from __future__ import annotations

NO_CACHE = {"Cache-Control": "no-cache"}  # asks the server again each time
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # of an address that has the version of its content
REFRESH = {"Refresh": "2"}  # seconds; browsers load the page again
