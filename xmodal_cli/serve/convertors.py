"""Numbers in the paths of routes, bounded so that they are valid keys of SQLite."""

from __future__ import annotations

from starlette.convertors import IntegerConvertor, register_url_convertor


class NumberConvertor(IntegerConvertor):
    """A number of at most 17 digits; a path with a longer one is not found."""

    regex = "[0-9]{1,17}"


def register_convertors() -> None:
    """Make ``{key:number}`` available in the paths of routes."""
    register_url_convertor("number", NumberConvertor())
