"""Responses with the JSON that the commands print with ``--json``."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

from xmodal_cli.printable import escape_json
from xmodal_cli.result_json import to_json


class ResultResponse(JSONResponse):
    """A result (see ``result_json``); bytes of names that are not UTF-8 are ``\\udcXX`` escapes."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(to_json(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return escape_json(text).encode()
