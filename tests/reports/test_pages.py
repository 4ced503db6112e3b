"""Templates: every value is escaped, every undefined variable is an error, every page is complete in itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
import pytest
from helpers.html_pages import NASTY, SHOWN, read_page

from xmodal_cli.demo.page import (
    CaptionerView,
    CaptionView,
    DemoPage,
    HitView,
    MatcherView,
    OwnPhotosView,
    SampleView,
    SearchView,
)
from xmodal_cli.demo.results import Truth
from xmodal_cli.reports.attention_page import AttentionSheet, AttentionSheets
from xmodal_cli.reports.caption_report import CaptionCase, CaptionPage, CaptionSection
from xmodal_cli.reports.charts import Curve, plot
from xmodal_cli.reports.inline_images import InlineImage
from xmodal_cli.reports.pages import environment, render
from xmodal_cli.reports.retrieval_page import Case, RetrievalPage, RetrievedItem, Section
from xmodal_cli.reports.search_page import Found, FoundPhoto, SearchPage

TEMPLATES = files("xmodal_cli.reports") / "templates"
NAMES = sorted(file.name for file in TEMPLATES.iterdir())
SHARED = {"base.html.jinja", "macros.html.jinja", "style.css"}
# of xmodal serve: their style is another file; tests/serve renders them
SERVED = {"serve.html.jinja", "api.html.jinja", "runs.html.jinja"}
SERVED |= {f"{name}.html.jinja" for name in ("datasets", "dataset", "dataset_image", "dataset_macros", "notice")}

photo, missing = InlineImage(NASTY, "data:image/jpeg;base64,AA=="), InlineImage(NASTY, "")


def demo_page() -> DemoPage:
    chart = plot(NASTY, NASTY, [Curve(NASTY, [(0, 1.0), (1, 2.0)])])
    assert chart is not None
    rows = [[NASTY, NASTY], [NASTY, NASTY]]
    searches = [
        SearchView(NASTY, has_match, rank, [HitView(photo, 0.5, rank == 1), HitView(missing, 0.4, False)])
        for has_match, rank in ((True, 1), (True, None), (False, None))
    ]
    captions = [CaptionView(image, NASTY, correct, [photo]) for image in (photo, missing) for correct in (True, False)]
    captions.append(CaptionView(photo, NASTY, None, []))
    return DemoPage(
        samples=[SampleView(photo, NASTY)],
        matcher=MatcherView(1000, 5000, rows, rows, [chart], searches),
        captioner=CaptionerView(rows, [chart], Truth(9, 10, [NASTY]), [NASTY], captions),
        own_photos=OwnPhotosView(NASTY, 1, 2, NASTY, NASTY, captions, searches, [NASTY], 1),
        seconds=rows,
        total_seconds=1.0,
        next_commands=[NASTY],
    )


def retrieval_page() -> RetrievalPage:
    by_text = Case(NASTY, None, 1234, [RetrievedItem(1, False, missing), RetrievedItem(1234, True, photo)])
    by_image = Case("", photo, 1, [RetrievedItem(1, True, None, NASTY), RetrievedItem(2, False, None, NASTY)])
    rows = [["", NASTY], [NASTY, NASTY]]
    return RetrievalPage(NASTY, 1000, 5000, NASTY, rows, NASTY, [Section(NASTY, NASTY, [by_text, by_image])])


def captions_page() -> CaptionPage:
    cases = [CaptionCase(image, NASTY, 0.5, [NASTY, NASTY]) for image in (photo, missing)]
    return CaptionPage(NASTY, 1000, [["", NASTY], [NASTY, NASTY]], NASTY, [CaptionSection(NASTY, NASTY, cases)])


def attention_page() -> AttentionSheets:
    return AttentionSheets(NASTY, [AttentionSheet(NASTY, NASTY, quote(NASTY))])


def search_page() -> SearchPage:
    photos = [FoundPhoto(1, 0.5, photo, f"file:///{quote(NASTY)}"), FoundPhoto(2, 0.4, missing, "file:///a")]
    return SearchPage([Found(NASTY, NASTY, NASTY, 1000, photos), Found(NASTY, "", "", 1000, [])])


PAGES: Mapping[str, Callable[[], object]] = {
    "attention": attention_page,
    "captions": captions_page,
    "demo": demo_page,
    "retrieval": retrieval_page,
    "search": search_page,
}


def test_every_template_is_tested() -> None:
    assert {f"{name}.html.jinja" for name in PAGES} | SHARED | SERVED == set(NAMES)


def nasty_texts(value: object) -> int:
    """How many fields of a page hold NASTY, without images, which may be text or an attribute."""
    if isinstance(value, str):
        return value == NASTY
    if isinstance(value, Mapping):
        return sum(map(nasty_texts, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(nasty_texts, value))
    if isinstance(value, InlineImage) or not hasattr(value, "__dict__"):
        return 0
    return sum(map(nasty_texts, vars(value).values()))


@pytest.mark.parametrize("name", PAGES)
def test_nasty_names_and_captions_are_text(name: str) -> None:
    value = PAGES[name]()
    page = read_page(render(name, {"page": value}).encode("utf-8"))
    assert page.text.count(SHOWN) >= 0.8 * nasty_texts(value)  # some are attributes only, such as a chart's summary
    assert all(image["src"] != "x" for image in page.images)
    assert any(SHOWN in (image["alt"] or "") for image in page.images)


@pytest.mark.parametrize("name", PAGES)
def test_an_undefined_variable_is_an_error(name: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_no_template_turns_escaping_off(name: str) -> None:
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", source)
    assert not re.search(r"=\{\{", source)  # values of attributes are quoted


def test_the_style_is_in_every_page_as_it_is_in_its_file() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    for name, made in PAGES.items():
        assert style in render(name, {"page": made()})


def test_every_class_of_a_page_has_a_style_or_is_used_as_a_hook() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    used = set()
    for name, made in PAGES.items():
        html = render(name, {"page": made()}).partition("</style>")[2]
        used |= {word for classes in re.findall(r'class="([^"]*)"', html) for word in classes.split()}
    assert {name for name in used if f".{name}" not in style} <= {"x-tick", "y-tick"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, caf\u00e9", "plain text, caf\u00e9"),
        ("a\x1b[0m\x07", "a\\x1b[0m\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("stray \udcff byte", "stray \\udcff byte"),
        ("\u0645\u06cc\u200c\u062f\u0648\u062f", "\u0645\u06cc\u200c\u062f\u0648\u062f"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("two\nlines\u00a0and\u2009spaces", "two\nlines\u00a0and\u2009spaces"),
    ],
)
def test_text_is_printable(text: str, shown: str) -> None:
    template = environment().from_string("{% macro m(x) %}{{ x }}{% endmacro %}{{ m(text) }}{{ text }}")
    assert template.render(text=text) == 2 * shown


def test_jinja2_is_imported_when_a_page_is_rendered() -> None:
    code = (
        "import sys\n"
        "from xmodal_cli.reports import retrieval_report, attention_page, pages\n"
        "from xmodal_cli.demo import page\n"
        "assert 'jinja2' not in sys.modules\n"
        "pages.environment()\n"
        "assert 'jinja2' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_html_is_only_in_templates() -> None:
    package = Path(sys.modules["xmodal_cli.reports"].__file__ or "").parents[1]
    found = {
        str(file.relative_to(package)): match.group()
        for file in package.rglob("*.py")
        for match in re.finditer(r"</?(?:div|td|h1|p|svg|img|li)[ >]|html import escape", file.read_text("utf-8"))
    }
    assert found == {}


def test_an_image_is_reduced_and_has_no_metadata(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    from xmodal_cli.reports.inline_images import inline_image, jpeg_data_uri

    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.new("RGB", (900, 300), "teal").save(tmp_path / "a.png", exif=exif)
    content = base64.b64decode(inline_image(tmp_path / "a.png", "a", 150).source.partition(",")[2], validate=True)
    assert b"a description" not in content
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (150, 50))
    small = Image.fromarray(np.zeros((3, 4, 3), np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(jpeg_data_uri(small, 150).partition(",")[2]))) as image:
        assert image.size == (4, 3)
    assert inline_image(None, "a", 150) == inline_image(tmp_path / "gone.png", "a", 150) == InlineImage("a", "")
