"""The HTML of a report: one file that holds its thumbnails and its style, light or dark as the reader's system is."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from PIL import ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

THUMB, QUALITY = 160, 80  # pixels; of JPEG
SIDES = {"image_to_text": "image to text", "text_to_image": "text to image"}
LABELS = {"median_rank": "MedR", "mean_rank": "MeanR"}

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --dim: #666; --line: #ddd; --right: #1a9c4b }
:root { --wrong: #c6352b }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e6e6; --dim: #9a9a9a; --line: #35383d; --right: #3ecf78; --wrong: #ff6b5e }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem }
.dim { color: var(--dim); font-weight: normal }
table { border-collapse: collapse }
td, th { padding: .2rem .8rem .2rem 0; text-align: right }
td:first-child, th:first-child { text-align: left }
ol { list-style: none; padding: 0; margin: 0 }
.strip { display: flex; flex-wrap: wrap; gap: .5rem }
figure { margin: 0; width: 104px; text-align: center; font-size: .8rem }
figure img, .blank { width: 96px; height: 96px; border: 4px solid var(--line); border-radius: 4px }
figure img { object-fit: contain; display: block }
.blank { display: grid; place-items: center; overflow: hidden; overflow-wrap: anywhere }
.blank { color: var(--dim); font-size: .7rem }
.right img, .right .blank { border-color: var(--right) }
.wrong img, .wrong .blank { border-color: var(--wrong) }
.mark { font-weight: bold }
.right .mark { color: var(--right) }
.wrong .mark { color: var(--wrong) }
.pair { display: flex; gap: 1rem; align-items: flex-start; margin: 1.2rem 0 }
"""


@dataclass(frozen=True)
class Answer:
    """What was found at a place: a picture, or a caption."""

    place: int
    right: bool
    picture: Example | None
    caption: str = ""


@dataclass(frozen=True)
class Case:
    """A query, a caption or a picture, the rank of its right answer, and what was found."""

    caption: str | None
    picture: Example | None
    rank: int
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Section:
    """Cases under a heading."""

    title: str
    note: str
    cases: Sequence[Case]


def page(result: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The whole page: the figures of ``result``, as ``xmodal eval --json`` has them, then the sections."""
    title = escape(f"{result['model']} on {result['data']} {result['split']}")
    counts = f"{result['images']:,} images, {result['captions']:,} captions, {result['protocol']}"
    thumbnails: dict[str, str] = {}
    body = "\n".join(_section(section, thumbnails) for section in sections if section.cases)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{title}</h1>\n<p class="dim">{escape(counts)}</p>\n{_figures(result)}\n{body}\n</body>\n</html>\n'
    )


def _figures(result: Mapping[str, Any]) -> str:
    names = list(result["image_to_text"])
    head = "".join(f"<th>{escape(LABELS.get(name, name))}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{label}</td>" + "".join(f"<td>{_shown(name, result[side][name])}</td>" for name in names) + "</tr>"
        for side, label in SIDES.items()
    )
    return f"<table><tr><th></th>{head}</tr>{rows}</table>\n<p>rsum {result['rsum']:.1f}</p>"


def _shown(name: str, value: float) -> str:
    return f"{value:.3f}" if name.startswith("NDCG") else f"{value:.1f}"


def _section(section: Section, thumbnails: dict[str, str]) -> str:
    cases = "\n".join(_case(case, thumbnails) for case in section.cases)
    return f'<h2>{escape(section.title)}</h2>\n<p class="dim">{escape(section.note)}</p>\n{cases}'


def _case(case: Case, thumbnails: dict[str, str]) -> str:
    rank = f'<span class="dim">rank {case.rank:,}</span>'
    if case.picture is None:
        strip = "".join(_found_picture(answer, thumbnails) for answer in case.answers)
        return f'<h3>{escape(case.caption or "")} {rank}</h3>\n<ol class="strip">{strip}</ol>'
    lines = "".join(
        f'<li class="{_class(answer)}">{_mark(answer)} {escape(answer.caption)}</li>' for answer in case.answers
    )
    query = f"<figure>{_picture(case.picture, thumbnails)}{rank}</figure>"
    return f'<div class="pair">{query}<ol>{lines}</ol></div>'


def _found_picture(answer: Answer, thumbnails: dict[str, str]) -> str:
    picture = _picture(answer.picture, thumbnails) if answer.picture else ""
    return f'<li class="{_class(answer)}"><figure>{picture}<figcaption>{_mark(answer)}</figcaption></figure></li>'


def _class(answer: Answer) -> str:
    return "right" if answer.right else "wrong"


def _mark(answer: Answer) -> str:
    sign = "\N{CHECK MARK}" if answer.right else "\N{MULTIPLICATION X}"
    return f'<span class="mark">{sign} {answer.place:,}</span>'


def _picture(example: Example, thumbnails: dict[str, str]) -> str:
    """The thumbnail, or the id in its place where there is no picture to show."""
    name = escape(example.image_id)
    if example.image_id not in thumbnails:
        thumbnails[example.image_id] = _thumbnail(example)
    source = thumbnails[example.image_id]
    if not source:
        return f'<div class="blank" title="{name}">{name}</div>'
    return f'<img src="{source}" alt="{name}" title="{name}">'


def _thumbnail(example: Example) -> str:
    """A data URI, empty where the picture is not there or cannot be read."""
    if example.path is None:
        return ""
    try:
        small = ImageOps.contain(open_image(example.path, THUMB), (THUMB, THUMB))
    except BadData:
        return ""
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
