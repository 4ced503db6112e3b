"""Render the Jinja2 templates in ``templates/`` to HTML pages.

Every value is escaped: HTML by Jinja2, characters that cannot be displayed by ``xmodal_cli.printable``. A variable that
a template uses and the context does not have raises ``jinja2.UndefinedError``. Jinja2 is imported by the first
``render``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.printable import escape_unprintable
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "index.html"  # the page in the folder of a report
_KEPT = "\n\t"


def render(name: str, context: Mapping[str, object]) -> str:
    """The page of the template ``NAME.html.jinja``; the result can be encoded as UTF-8.

    Raises jinja2.TemplateNotFound, jinja2.UndefinedError.
    """
    return environment().get_template(f"{name}.html.jinja").render(context)


def is_page(file: Path) -> bool:
    """Whether ``file`` is a page that ``render`` wrote."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return content.startswith(b"<!doctype html>") and b"<footer>xmodal " in content


@cache
def environment() -> Environment:
    """The environment of all templates: autoescape, and an error for each undefined variable."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("xmodal_cli.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["thousands"] = _thousands
    made.globals["version"] = __version__
    return made


def _finalize(value: object) -> object:
    """What a ``{{ }}`` of a template outputs for ``value``; markup of a macro was made printable before."""
    return escape_unprintable(value, _KEPT) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _thousands(number: int) -> str:
    return f"{number:,}"
