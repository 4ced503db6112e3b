"""The figures of captions: every metric over the same words, in the papers' order, and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError, Unavailable, UnknownName
from xmodal_cli.metrics.caption_columns import sorted_columns
from xmodal_cli.metrics.ptb_tokenizer import ptb_words
from xmodal_cli.types import MetricScores
from xmodal_cli.version import __version__

TOKENIZERS: dict[str, Callable[[str], Sequence[str]]] = {"ptb": ptb_words, "spaces": str.split}
NOT_GIVEN = "the captions of the training set were not given"


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    names: Sequence[str] | None = None,
    training: Collection[str] | None = None,
    tokenize: str = "ptb",
) -> dict[str, Any]:
    """One candidate for each image against all its references: the figures as ``xmodal eval --json`` prints them.

    ``names`` are caption metrics, by default all; ``training`` captions tell ``diversity`` which candidates are copies.
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
    columns = sorted_columns(None if names is None else list(names))
    wanted = training is not None and any(column.from_training for column in columns)
    seen = {tuple(cut(sentence)) for sentence in training or ()} if wanted else None
    metrics: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for column in columns:
        try:
            given = {} if seen is None else {"training": seen}
            scores = catalog.build("caption_metric", column.metric, {}, **given)(words, against)
            metrics |= _plain(scores, column.counts)
        except Unavailable as reason:
            metrics |= dict.fromkeys(column.labels)
            missing |= dict.fromkeys(column.labels, f"{reason.message}; {reason.hint}")
        if seen is None:
            metrics |= dict.fromkeys(column.from_training)
            missing |= dict.fromkeys(column.from_training, NOT_GIVEN)
    return {**metrics, "signature": _signature(metrics, tokenize, against), "unavailable": missing}


def _tokenizer(name: str) -> Callable[[str], Sequence[str]]:
    if name not in TOKENIZERS:
        raise UnknownName.of("tokenizer of captions", name, TOKENIZERS)
    return TOKENIZERS[name]


def _plain(scores: MetricScores, counts: Collection[str]) -> dict[str, float | int]:
    return {name: int(value) if name in counts else float(value) for name, value in scores.total.items()}


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
