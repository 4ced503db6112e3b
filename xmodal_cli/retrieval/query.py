"""Parse the terms of a search into weighted sentences and images.

A term is ``[+|-] WORDS-OR-FILE [^WEIGHT]``: ``"two dogs"``, ``+snow``, ``-person``, ``"beach^0.5"``, ``me.jpg``.
A minus sign makes the weight negative; the default weight is 1. A term that is written like a path or an option, and is
neither a file nor an option, is an error: a model has hits for every text, also for a misspelled path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.image_names import has_file_suffix, is_image_name
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.file_identity import reason_not_regular
from xmodal_cli.paths import expand_home
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.text_filter import TextFilter, parse_text_filter

_WEIGHT = re.compile(r"(?P<text>.*)\^(?P<weight>[^^\s]*)", re.DOTALL)
_HINT = 'for example: xmodal search "two dogs" +snow -person "beach^0.5"'
_OPTION = re.compile(r"--[A-Za-z][\w-]*(=.*)?|-[A-Za-z]\d{0,4}|-[\w-]+=.*|-(index|json|help)", re.DOTALL)
# hyphens, dashes and minus signs that word processors write instead of "-"
_DASHED = re.compile(r"[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]+(\w\S*)")
_NUMBER = re.compile(r"-k=?(\d+)")  # the option whose value follows a space
_OPTION_HINT = "`xmodal search --help` lists the options"
_PATH_START = re.compile(r"[/\\]|\.{1,2}[/\\]|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\.{1,2}$|~$|[A-Za-z][A-Za-z0-9+.-]*://")
_SUFFIX = re.compile(r"[^\s.]\.[A-Za-z][A-Za-z0-9]{1,5}$")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Term:
    """A sentence, or the file ``image``; a term with a negative ``weight`` lowers the scores of its matches."""

    text: str
    weight: float = 1.0
    image: Path | None = None


@dataclass(frozen=True)
class Query:
    """The terms of a search, the ``texts`` that its photos contain, and its options; ``words`` are as typed."""

    words: tuple[str, ...]
    terms: tuple[Term, ...]
    texts: tuple[TextFilter, ...]
    options: SearchOptions


def parse_query(
    words: Sequence[str], options: SearchOptions = SearchOptions(), photos: Sequence[Term] = (), find_files: bool = True
) -> Query:
    """Parse all terms and filters; ``photos`` are further terms. Without ``find_files`` all terms are sentences.

    Raises the errors of ``parse_term``, and ConfigError for invalid options.
    """
    options.check()
    found = [parse_text_filter(word) or word for word in words]
    texts = tuple(part for part in found if isinstance(part, TextFilter))
    others = [part for part in found if isinstance(part, str)]
    terms = () if (texts or photos or options.has_filters) and not others else parse_terms(others, find_files)
    return Query(tuple(words), (*terms, *photos), texts, options)


def parse_terms(words: Sequence[str], find_files: bool = True) -> tuple[Term, ...]:
    """Parse all terms. Raises ConfigError for an empty or malformed term, MissingData for a missing image file."""
    terms = tuple(parse_term(word, find_files) for word in words)
    if not terms:
        raise ConfigError("there is nothing to search for", _HINT)
    return terms


def parse_term(word: str, find_files: bool = True) -> Term:
    """Parse one term; without ``find_files`` it is a sentence.

    Raises ConfigError, MissingData, BadData for text that is not valid Unicode.
    """
    sign = -1.0 if word.startswith("-") else 1.0
    text = word[1:] if word.startswith(("+", "-")) else word
    if find_files and (image := _image_file(text)) is not None:  # a file called a^2.jpg is that file
        return Term(text, sign, image)
    weight, unweighted = 1.0, word
    if (match := _WEIGHT.fullmatch(text)) is not None:
        text, weight = match["text"], _weight(match["weight"], word)
        unweighted = word[: word.rindex("^")]
    text = text.strip()
    if not text:
        raise ConfigError(f"the term {word!r} is empty", _HINT)
    image = _image_file(text) if find_files else None
    if image is None:
        if find_files:
            _check_kind(text, unweighted)
        check_sentence(text)
    return Term(text, sign * weight, image)


def looks_like_path(text: str) -> bool:
    """Whether ``text`` is written like a file or folder: it begins like a path, or has the suffix of an image.

    A word with a slash, such as ``black/white``, is one only if its folder exists.
    """
    if _PATH_START.match(text):
        return True
    has_separator = "/" in text or os.sep in text
    is_word = re.search(r"\s", text) is None
    if (is_word or has_separator) and has_file_suffix(text):
        return True
    return has_separator and is_word and (_SUFFIX.search(text) is not None or _exists(str(Path(text).parent)))


def _check_kind(text: str, word: str) -> None:
    """Raise an error for text that is an option or a path by its look."""
    if _OPTION.fullmatch(word):
        name = word.lstrip("-")
        number = _NUMBER.fullmatch(word)
        help_ = f"the number of photos is -k {number[1]}" if number else _OPTION_HINT
        hint = f'{help_}; to rank photos of {name!r} lower, write "- {name}"'
        raise ConfigError(f"search has no option {word!r}", hint)
    if (dashed := _DASHED.fullmatch(word)) is not None:
        hint = f'write "-" or "--" for an option; to rank photos of {dashed[1]!r} lower, write "-{dashed[1]}"'
        raise ConfigError(f"{word!r} begins with U+{ord(word[0]):04X}, which is not a hyphen", hint)
    if looks_like_path(text):
        raise _path_error(text)


def check_sentence(text: str) -> str:
    """Return ``text``. Raises BadData for text that cannot be encoded, or has control characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadData(f"the query {text!a} is not valid UTF-8", "write it in UTF-8") from error
    if _CONTROLS.search(text):
        raise BadData(f"the query {text!a} has control characters", "write it as UTF-8 text")
    return text


def _path_error(text: str) -> ConfigError | MissingData:
    if "://" in text:
        return ConfigError(f"{text} is a URL, not a file", "download the image and search with its path")
    if not _exists(text):
        hint = "check the path; a term that is written like a path, or with the suffix of an image, is read as a file"
        return MissingData(f"the image {text} does not exist", hint)
    if _is_folder(text):
        return ConfigError(f"{text} is a folder, not an image", "give an image in it, or a sentence")
    problem = reason_not_regular(_expanded(text) or text)
    return ConfigError(f"{text} {problem}", "give an image file, or a sentence")


def _weight(text: str, word: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight <= 1000.0:
        raise ConfigError(f"the weight in {word!r} must be a number above 0 and at most 1000", _HINT)
    return weight


def _image_file(text: str) -> Path | None:
    """The file at ``text``, if it has a suffix or is written as a path; else None."""
    if not (is_image_name(text) or os.sep in text or _SUFFIX.search(text)):
        return None
    path = _expanded(text)
    try:
        return path if path is not None and path.is_file() else None
    except (OSError, ValueError):  # too long, a null byte, a folder that cannot be read
        return None


def _exists(text: str) -> bool:
    path = _expanded(text)
    try:
        return path is not None and os.path.lexists(path)
    except (OSError, ValueError):
        return False


def _is_folder(text: str) -> bool:
    path = _expanded(text)
    return path is not None and path.is_dir()


def _expanded(text: str) -> Path | None:
    try:
        return expand_home(text)
    except RuntimeError:  # ~USER of an unknown user
        return None
