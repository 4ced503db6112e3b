"""The pages of datasets: what the templates show of all datasets, the images of one, and one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from xmodal_cli.data.left_out import LABELS
from xmodal_cli.data.omissions import omission_counts
from xmodal_cli.errors import Category
from xmodal_cli.reports.pages import render
from xmodal_cli.serve.browsed_dataset import BrowsedImage, BrowsedPage, DatasetFacts
from xmodal_cli.serve.caption_words import CaptionWords
from xmodal_cli.serve.dataset_request import (
    BrowseRequest,
    Shown,
    browse_address,
    dataset_address,
    image_address,
)
from xmodal_cli.serve.dataset_service import PRESENT, ListedDataset

MAX_ROWS = 100  # skipped rows on a page
_LABELS = {
    Shown.ALL: "All images",
    Shown.MISSING: "Missing or unreadable files",
    Shown.EMPTY_OR_REPEATED: "Empty or repeated captions",
}


@dataclass(frozen=True)
class Link:
    """A link of a page; ``note`` is a number beside it."""

    label: str
    address: str
    is_current: bool = False
    note: str = ""


@dataclass(frozen=True)
class Card:
    """An image with its captions; their texts are split in parts, of which some are words of the search.

    ``address`` is that of the page of the image, ``thumbnail`` and ``view`` are empty without a readable file.
    """

    image: BrowsedImage
    address: str
    thumbnail: str
    view: str
    problem: str
    captions: Sequence[tuple[Sequence[tuple[str, bool]], str]]  # (parts, remark)


def draw_datasets_page(listed: Sequence[ListedDataset], is_reading: bool) -> str:
    """All datasets; with ``is_reading``, the counts of some will follow."""
    present = [one for one in listed if one.known.state == PRESENT]
    context = {
        "present": [(one, dataset_address(one.known.name), _split_addresses(one)) for one in present],
        "absent": [one.known for one in listed if one.known.state != PRESENT],
        "is_reading": is_reading,
    }
    return render("datasets", context)


def draw_dataset_page(page: BrowsedPage, request: BrowseRequest) -> str:
    """A page of images."""
    facts, name = page.facts, page.facts.name
    first = replace(request, page=1)
    problems = page.checked.counts.items() if page.checked else ()
    context = {
        "page": page,
        "facts": facts,
        "summary": facts.summary,
        "omissions": omission_counts(facts.summary.omissions),
        "rows": facts.summary.omissions.skipped_rows[:MAX_ROWS],
        "splits": _split_links(page, replace(first, shown=_shown(first))),
        "kinds": [
            Link(_LABELS[k], browse_address(name, replace(first, shown=k)), k is first.shown) for k in _kinds(page)
        ],
        "problems": ", ".join(f"{number:,} {LABELS[Category(category)]}" for category, number in problems),
        "cards": [_card(name, image, request.words) for image in page.entries],
        "reset": browse_address(name, replace(first, words=CaptionWords(""))),
        "again": browse_address(name, request),
        "pages": _page_links(page, request),
        "address": dataset_address(name),
    }
    return render("dataset", context)


def draw_image_page(facts: DatasetFacts, image: BrowsedImage) -> str:
    """The page of one image."""
    neighbors = {"Previous": image.position - 1, "Next": image.position + 1}
    context = {
        "facts": facts,
        "card": _card(facts.name, image, CaptionWords("")),
        "address": dataset_address(facts.name),
        "split": browse_address(facts.name, BrowseRequest(image.split, CaptionWords(""))),
        "links": {
            label: image_address(facts.name, position) if 0 <= position < facts.summary.images else ""
            for label, position in neighbors.items()
        },
    }
    return render("dataset_image", context)


def _split_addresses(one: ListedDataset) -> dict[str, str]:
    splits = one.facts.summary.splits if one.facts else {}
    return {split: browse_address(one.known.name, BrowseRequest(split, CaptionWords(""))) for split in splits}


def _kinds(page: BrowsedPage) -> list[Shown]:
    """What can be shown: a dataset may have no files, or no captions."""
    kinds = {Shown.ALL: True, Shown.MISSING: not page.facts.precomputed}
    kinds |= {Shown.EMPTY_OR_REPEATED: page.facts.summary.captions > 0}
    return [kind for kind, exists in kinds.items() if exists or kind.value == page.show]


def _shown(request: BrowseRequest) -> Shown:
    """What another split shows at first: a check of its files takes time."""
    return Shown.ALL if request.shown is Shown.MISSING else request.shown


def _split_links(page: BrowsedPage, request: BrowseRequest) -> list[Link]:
    summary, captions = page.facts.summary, page.facts.split_captions
    counts = {"": (summary.images, summary.captions)} if len(summary.splits) > 1 else {}
    counts |= {split: (images, captions[split]) for split, images in summary.splits.items()}
    return [
        Link(
            split or "all",
            browse_address(page.facts.name, replace(request, split=split)),
            split == (page.split or "") or len(counts) == 1,
            f"{images:,} images, {texts:,} captions",
        )
        for split, (images, texts) in counts.items()
    ]


def _page_links(page: BrowsedPage, request: BrowseRequest) -> dict[str, str]:
    """Label -> address, empty for the current page."""
    numbers = {"First": 1, "Previous": page.page - 1, "Next": page.page + 1, "Last": page.pages}
    return {
        label: browse_address(page.facts.name, replace(request, page=number))
        if 1 <= number <= page.pages and number != page.page
        else ""
        for label, number in numbers.items()
    }


def _card(dataset: str, image: BrowsedImage, words: CaptionWords) -> Card:
    views = f"/api/datasets/{quote(dataset, safe='', errors='replace')}/images/{image.position}"
    has_view = image.v and image.problem is None
    return Card(
        image,
        image_address(dataset, image.position),
        f"{views}/thumbnail?v={image.v}" if has_view else "",
        f"{views}/view?v={image.v}" if has_view else "",
        LABELS[Category(image.problem["category"])] if image.problem else "",
        [(words.split(caption.text), caption.remark) for caption in image.captions],
    )
