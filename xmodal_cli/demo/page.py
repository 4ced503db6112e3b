"""The demo's page: one HTML file that holds its pictures, its curves and its style, and asks nothing of the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.demo.results import Captioned, CaptionerPart, DemoResult, MatcherPart, OwnPhotos, SearchExample
from xmodal_cli.demo.style import STYLE
from xmodal_cli.errors import BadData
from xmodal_cli.reports.attention_page import draw_tiles
from xmodal_cli.reports.svg_curves import Curve, chart
from xmodal_cli.training.log import read_log
from xmodal_cli.types import Example
from xmodal_cli.version import __version__

THUMB, LARGE, QUALITY = 200, 400, 82  # pixels of a picture's longer side; of JPEG
SIDES = {"image_to_text": "picture to caption", "text_to_image": "caption to picture"}
RECALLS = ("R@1", "R@5", "R@10")
NUM_SAMPLES, NUM_FALSE = 4, 5


def draw_page(result: DemoResult, samples: Sequence[Example]) -> bytes:
    """The whole page; ``samples`` are pictures of the set to show with a caption of theirs."""
    sections = [_sample_set(samples), _matcher(result.matcher), _captioner(result.captioner)]
    sections += [_own_photos(result.photos)] if result.photos is not None else []
    body = "\n".join([*sections, _steps(result.seconds), _next(result.next_commands)])
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>xmodal demo</title>\n<style>{STYLE}</style>'
    )
    html = (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{_title(result)}\n'
        f"<main>\n{body}\n</main>\n<footer>xmodal {escape(__version__)}</footer>\n</body>\n</html>\n"
    )
    return html.encode("utf-8", "backslashreplace")


def _title(result: DemoResult) -> str:
    truth = result.captioner.truth
    metrics = {f"R@1, {label}": f"{result.matcher.test[side]['R@1']:.0f}%" for side, label in SIDES.items()}
    if truth is not None:
        metrics["captions that are true"] = f"{truth.percent:.0f}%"
    metrics["seconds this time"] = f"{sum(result.seconds.values()):.0f}"
    cells = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in metrics.items())
    return (
        "<header>\n<h1>Pictures and words</h1>\n<p>Two models were trained from nothing on this machine: one finds "
        "pictures by a sentence, one writes sentences about pictures. This is what they do with pictures that "
        f"they have never seen.</p>\n<dl>{cells}</dl>\n</header>"
    )


def _section(title: str, text: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n<p>{escape(text)}</p>\n{body}\n</section>"


def _sample_set(samples: Sequence[Example]) -> str:
    shown = [
        f"<figure>{_image(example.path, THUMB)}<figcaption>{escape(example.captions[0])}</figcaption></figure>"
        for example in samples[:NUM_SAMPLES]
        if example.path is not None and example.captions
    ]
    text = "Coloured shapes, drawn on this machine, with five sentences each. No two pictures show the same scene."
    return _section("The sample set", text, f'<div class="grid">{"".join(shown)}</div>')


# ---------------------------------------------------------------------------- what was trained


def _matcher(part: MatcherPart) -> str:
    log = read_log(part.run)
    evals = [r for r in log if r["event"] == "eval"]
    recalls = [
        Curve(label, [(r["epoch"], r[f"{side} R@1"]) for r in evals if f"{side} R@1" in r])
        for side, label in SIDES.items()
    ]
    charts = _loss(log) + chart("R@1 on the val pictures, %", "epoch", recalls, top=100)
    rows = [[label, *(f"{part.test[side][name]:.1f}" for name in RECALLS)] for side, label in SIDES.items()]
    text = (
        f"A matcher gives pictures and sentences a place in one space. Among {part.test['images']:,} new pictures "
        f"and {part.test['captions']:,} captions, how often is a right one the first found (R@1), among the first "
        "five, among the first ten, in percent?"
    )
    return _section(
        "Search",
        text,
        _table(["", *RECALLS], rows),
        f'<div class="charts">{charts}</div>',
        "<h3>Three searches</h3>",
        _searches(part.searches),
    )


def _captioner(part: CaptionerPart) -> str:
    log = read_log(part.run)
    evals = [r for r in log if r["event"] == "eval"]
    cider = Curve("CIDEr", [(r["epoch"], r["cider"]) for r in evals if r.get("cider") is not None])
    charts = _loss(log) + chart("CIDEr on the val pictures", "epoch", [cider])
    names = {"bleu_4": "BLEU-4", "cider": "CIDEr"}
    table = _table(list(names.values()), [[f"{part.test[name]:.2f}" for name in names]])
    false = ""
    if part.truth is not None and part.truth.false:
        lines = "".join(f"<li>{escape(text)}</li>" for text in part.truth.false[:NUM_FALSE])
        count = len(part.truth.false)
        false = f"<details><summary>{count:,} that {_is(count)} not true</summary><ul>{lines}</ul></details>"
    text = "A captioner writes a sentence, word by word, and looks at the picture for each."
    if part.truth is not None:
        text += (
            f" Of its captions for {part.truth.num_captions:,} new pictures {part.truth.num_true:,} are true in all "
            "that they say: shapes, colours, sizes, places, background."
        )
    return _section(
        "Captions",
        text,
        table,
        f'<div class="charts">{charts}</div>',
        false,
        "<h3>Three captions, and where each word looked</h3>",
        "\n".join(map(_captioned, part.captions)),
    )


def _own_photos(part: OwnPhotos) -> str:
    taken = int(part.index["items"])
    of_all = f"{taken:,} of the {part.num_found:,}" if taken < part.num_found else f"the {taken:,}"
    text = (
        f"Here {of_all} photos in {part.folder}. The models that speak are {part.index['model']} and {part.captioner}. "
        "What they have not seen in training they call by the nearest name that they know."
    )
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in part.problems[:NUM_FALSE])
    return _section(
        "Your photos",
        text,
        "<h3>Captions</h3>",
        "\n".join(map(_captioned, part.captions)),
        "<h3>Searches</h3>",
        _searches(part.searches),
        f"<details><summary>{len(part.problems):,} left out</summary><ul>{problems}</ul></details>" if problems else "",
    )


def _loss(log: Iterable[Mapping[str, Any]]) -> str:
    points = [(r["step"], r["loss"]) for r in log if r["event"] == "step" and r.get("loss") is not None]
    return chart("training loss", "step", [Curve("loss", points)])


def _steps(seconds: Mapping[str, float]) -> str:
    rows = [[name, f"{value:.1f}"] for name, value in seconds.items()]
    text = "Seconds of each step; what an earlier demo had finished was not done again."
    return _section("Where the time went", text, _table(["step", "seconds"], rows))


def _next(commands: Sequence[str]) -> str:
    lines = "\n".join(f"<pre><code>{escape(command)}</code></pre>" for command in commands)
    return _section("What next", "Three commands to go on with:", lines)


# ---------------------------------------------------------------------------- pieces


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def _searches(searches: Sequence[SearchExample]) -> str:
    return "\n".join(map(_search, searches))


def _search(search: SearchExample) -> str:
    hits = "".join(_hit(hit, search.rank) for hit in search.hits)
    note = ""
    if search.right is not None:
        note = f"the right one is number {search.rank}" if search.rank else "the right one is not among them"
        note = f' <span class="dim">{note}</span>'
    return f'<div class="card"><p class="query">{escape(search.query)}{note}</p><ol class="hits">{hits}</ol></div>'


def _hit(hit: Mapping[str, Any], right: int | None) -> str:
    mark = ' class="right"' if hit["rank"] == right else ""
    name = escape(_shown(Path(hit["path"])))
    return f'<li{mark} title="{name}">{_image(Path(hit["path"]), THUMB)}<small>{hit["score"]:.2f}</small></li>'


def _captioned(caption: Captioned) -> str:
    mark = "" if caption.true is None else f' <span class="mark">{"true" if caption.true else "not true"}</span>'
    kind = "" if caption.true is None else " right" if caption.true else " wrong"
    words = f'<ol class="words">{_words(caption)}</ol>'
    return (
        f'<div class="card told{kind}"><div>{_image(caption.photo, LARGE)}</div>'
        f'<div><p class="query">{escape(caption.text)}{mark}</p>{words}</div></div>'
    )


def _words(caption: Captioned) -> str:
    if caption.maps is None:
        return ""
    try:
        picture = open_image(caption.photo, LARGE)
    except BadData:  # gone since it was captioned
        return ""
    tiles = zip(caption.words, draw_tiles(picture, caption.maps), strict=False)
    return "".join(
        f'<li><img src="{_data_uri(tile, 120)}" alt=""><small>{escape(word)}</small></li>' for word, tile in tiles
    )


def _image(photo: Path | None, side: int) -> str:
    """The picture, or its name where it cannot be read."""
    name = escape(_shown(photo)) if photo is not None else ""
    try:
        picture = open_image(photo, side) if photo is not None else None
    except BadData:
        picture = None
    if picture is None:
        return f'<div class="blank">{name}</div>'
    return f'<img src="{_data_uri(picture, side)}" alt="{name}">'


def _data_uri(picture: Image.Image, side: int) -> str:
    """A JPEG of at most ``side`` pixels; it is told without what cameras write beside the picture."""
    content = io.BytesIO()
    small = ImageOps.contain(picture, (side, side)) if max(picture.size) > side else picture
    small.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _shown(path: Path) -> str:
    """A file's name as text: stray bytes of it are shown as such."""
    return path.name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
