"""A query as typed on one line, without a shell -> the terms that ``query`` reads. Knows no files but by their names.

Words that follow each other are one sentence: ``two dogs running +snow -person`` has three terms. Signs, quotes and
pictures begin a term of their own, and a weight ends one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.errors import ConfigError

_QUOTED = re.compile(r'"((?:\\["\\]|[^"])*)"(\S*)')
_SINGLE = re.compile(r"'([^']*)'(?=\s|\^|$)(\S*)")  # else it is an apostrophe
_PLAIN = re.compile(r"(?:\\[\s\"'\\]|\S)+")
_ESCAPED = re.compile(r"\\([\s\"'\\])")
_WEIGHTED = re.compile(r".*\^\S+")


def split_line(line: str) -> tuple[str, ...]:
    """The terms of a line, none for an empty one. Raises ConfigError for a quotation mark that is not closed."""
    terms: list[str] = []
    sentence: list[str] = []  # words that belong together, so far

    def end_sentence() -> None:
        if sentence:
            terms.append(" ".join(sentence))
            sentence.clear()

    place = 0
    while rest := line[place:].lstrip():
        word, length, alone = _next_word(rest)
        place = len(line) - len(rest) + length
        if alone:
            end_sentence()
            terms.append(word)
            continue
        sentence.append(word)
        if _WEIGHTED.fullmatch(word):
            end_sentence()
    end_sentence()
    return tuple(terms)


def _next_word(rest: str) -> tuple[str, int, bool]:
    """The first word or quotation of ``rest``, the length it has there, and whether it is a term of its own."""
    sign = rest[0] if rest[0] in "+-" else ""
    body = rest[len(sign) :]
    if (match := _QUOTED.match(body)) is not None:
        text = re.sub(r'\\(["\\])', r"\1", match[1])
    elif (match := _SINGLE.match(body)) is not None:
        text = match[1]
    elif body.startswith('"'):
        raise ConfigError("a quotation mark is not closed", 'for example: "two dogs" +snow')
    else:
        match = _PLAIN.match(body)
        text = _ESCAPED.sub(r"\1", match[0]) if match else ""
        return sign + text, len(sign) + (match.end() if match else 0), bool(sign) or _names_picture(text)
    return sign + text + match[2], len(sign) + match.end(), True


def _names_picture(text: str) -> bool:
    names = (text, text.rpartition("^")[0])  # a weight may follow, and a file may be called a^2.jpg
    return any(is_image_name(name) or (os.sep in name and _is_file(name)) for name in names)


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, an unknown ~user
        return False
