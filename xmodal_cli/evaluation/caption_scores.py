"""The figures of captions: every metric over the same words, in the papers' order, and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError, Unavailable, UnknownName
from xmodal_cli.metrics.ptb_tokenizer import ptb_words
from xmodal_cli.types import MetricScores
from xmodal_cli.version import __version__

METRICS = ("bleu", "meteor", "rouge-l", "cider", "spice", "cider-d", "diversity")  # the order of the figures
MAY_LACK = {"meteor": ("meteor",), "spice": ("spice",)}  # figures of metrics that need Java
COUNTS = ("vocabulary",)  # figures that are whole numbers
TOKENIZERS: dict[str, Callable[[str], Sequence[str]]] = {"ptb": ptb_words, "spaces": str.split}
NOT_GIVEN = "the captions of the training set were not given"


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    names: Sequence[str] = METRICS,
    training: Collection[str] | None = None,
    tokenize: str = "ptb",
) -> dict[str, Any]:
    """One candidate for each image against all its references: the figures as ``xmodal eval --json`` prints them.

    ``names`` are caption metrics; with ``diversity``, ``training`` captions tell which candidates are copies.
    ``tokenize`` is ``ptb``, as the COCO evaluation, or ``spaces`` where the sentences are tokens already. A figure that
    cannot be had is None, and ``unavailable`` says why. Raises UnknownName, ConfigError, BadData.
    """
    cut = _tokenizer(tokenize)
    if len(candidates) != len(references) or not candidates:
        raise ConfigError(
            f"{len(candidates)} captions for {len(references)} images cannot be scored", "give one caption an image"
        )
    words = [cut(sentence) for sentence in candidates]
    against = [[cut(sentence) for sentence in those] for those in references]
    if not any(reference for those in against for reference in those) or not all(against):
        raise BadData("there are images without references", "see `xmodal data info` for images without captions")
    seen = None if training is None or "diversity" not in names else {tuple(cut(sentence)) for sentence in training}
    metrics: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in sorted(names, key=_place):
        try:
            scores = catalog.build("caption_metric", name, {}, **({} if seen is None else {"training": seen}))
            metrics |= _plain(scores(words, against))
        except Unavailable as reason:
            metrics |= dict.fromkeys(MAY_LACK[catalog.canonical(name)])
            missing |= dict.fromkeys(MAY_LACK[catalog.canonical(name)], f"{reason.message}; {reason.hint}")
    if "diversity" in names and seen is None:
        metrics["seen_in_training"] = None
        missing["seen_in_training"] = NOT_GIVEN
    return {**metrics, "signature": _signature(metrics, tokenize, against), "unavailable": missing}


def _tokenizer(name: str) -> Callable[[str], Sequence[str]]:
    if name not in TOKENIZERS:
        raise UnknownName.of("tokenizer of captions", name, TOKENIZERS)
    return TOKENIZERS[name]


def _place(name: str) -> int:
    """Where a metric stands among the figures; the last, where it is one of somebody's own."""
    listed = catalog.canonical(name)
    return METRICS.index(listed) if listed in METRICS else len(METRICS)


def _plain(scores: MetricScores) -> dict[str, float | int]:
    return {name: int(value) if name in COUNTS else float(value) for name, value in scores.total.items()}


def _signature(metrics: dict[str, Any], tokenize: str, references: Sequence[Sequence[Any]]) -> str:
    """What must be the same for figures to be compared, in one line."""
    counts = sorted({len(those) for those in references})
    parts = [
        f"xmodal:{__version__}",
        f"tok:{tokenize}",
        f"refs:{'-'.join(map(str, (counts[0], counts[-1])[: len(counts)]))}",
    ]
    if "bleu_4" in metrics:
        parts.append("bleu:corpus,closest")
    if "cider" in metrics or "cider_d" in metrics:
        parts.append("cider:d,n4,sigma6,df=references,end=no")
    if metrics.get("meteor") is not None:
        parts.append("meteor:1.5")
    return "|".join(parts)
