"""Split a query typed on one line, without a shell, into the terms that ``query`` parses.

Consecutive words form one sentence: ``two dogs running +snow -person`` has three terms. A sign, a quotation mark or
a word that is written like a path or a filter (``name:beach``) starts a new term; a weight ends one.
"""

from __future__ import annotations

import re

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.errors import ConfigError
from xmodal_cli.paths import expand_home
from xmodal_cli.retrieval.query import looks_like_path
from xmodal_cli.retrieval.text_filter import FIELDS

_QUOTED = re.compile(r'"((?:\\["\\]|[^"])*)"(\S*)')
_SINGLE = re.compile(r"'([^']*)'(?=\s|\^|$)(\S*)")  # otherwise it is an apostrophe
_FILTER = re.compile(rf"-?(?:{'|'.join(FIELDS)}):(?:\"[^\"]*\"|\S+)")
_PLAIN = re.compile(r"(?:\\[\s\"'\\]|\S)+")
_ESCAPED = re.compile(r"\\([\s\"'\\])")
_WEIGHTED = re.compile(r".*\^\S+")


def split_line(line: str, find_files: bool = True) -> tuple[str, ...]:
    """The terms of a line; empty for an empty line. Without ``find_files`` no word is a file.

    Raises ConfigError for an unclosed quotation mark.
    """
    terms: list[str] = []
    sentence: list[str] = []

    def end_sentence() -> None:
        if sentence:
            terms.append(" ".join(sentence))
            sentence.clear()

    position = 0
    while rest := line[position:].lstrip():
        word, length, is_term = _next_word(rest, find_files)
        position = len(line) - len(rest) + length
        if is_term:
            end_sentence()
            terms.append(word)
            continue
        sentence.append(word)
        if _WEIGHTED.fullmatch(word):
            end_sentence()
    end_sentence()
    return tuple(terms)


def _next_word(rest: str, find_files: bool) -> tuple[str, int, bool]:
    """The first word or quotation of ``rest``, its length in ``rest``, and whether it is a complete term."""
    if (match := _FILTER.match(rest)) is not None:
        return match[0], match.end(), True
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
        return sign + text, len(sign) + (match.end() if match else 0), bool(sign) or (find_files and _is_image(text))
    return sign + text + match[2], len(sign) + match.end(), True


def _is_image(text: str) -> bool:
    names = (text, text.rpartition("^")[0])  # with and without a weight: a file may be called a^2.jpg
    return any(map(_names_file, names))


def _names_file(name: str) -> bool:
    has_letters = re.search(r"\w", name) is not None  # the dot after a sentence is not a folder
    return is_image_name(name) or (has_letters and (looks_like_path(name) or _is_file(name)))


def _is_file(name: str) -> bool:
    """Whether a word with a suffix, such as ``scan.jp2``, is a file."""
    try:
        return "." in name and expand_home(name).is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown ~user
        return False
