"""Escapes for characters that control a terminal or the direction of text, in all that is printed or sent.

File names, captions, model headers and the names of datasets are written by others. Printed as they are, they could
move the cursor, set the title of the window, hide text or change its direction.
"""

from __future__ import annotations

import re

# controls (C0, DEL, C1), direction controls, line separators and directional overrides, directional isolates, BOM,
# interlinear annotations, and the surrogates that stand for bytes that are not valid UTF-8
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def escape_unprintable(text: str, keep: str = "") -> str:
    """``text`` with control characters as escapes such as ``\\x1b`` and ``\\u202e``, except those in ``keep``."""
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _escape(match[0]), text)


def escape_json(text: str) -> str:
    """JSON text with control characters as ``\\u`` escapes, which have the same meaning in its strings.

    ``json`` itself escapes only those below 0x20; the newlines between values are kept.
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
