"""Scores of captions by all caption metrics, in the order of the papers, with a signature of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError, Unavailable, UnknownName
from xmodal_cli.metrics.caption_columns import sorted_columns
from xmodal_cli.metrics.ptb_tokenizer import ptb_words
from xmodal_cli.result_json import INLINE, OPTIONAL
from xmodal_cli.types import Example, MetricScores
from xmodal_cli.version import __version__

TOKENIZERS: dict[str, Callable[[str], Sequence[str]]] = {"ptb": ptb_words, "spaces": str.split}
NO_TRAINING_CAPTIONS = "the captions of the training set are unknown"


@dataclass(frozen=True, kw_only=True)
class CaptionResult:
    """The scores of captions: ``scores`` by name, in the order of the tables.

    Scores are fractions, CIDEr is not bounded by 1. A score is None if it is ``unavailable``, which has the reasons.
    ``signature`` is the protocol in one line; scores are comparable if it is equal. ``beam`` is None for a results
    file; ``decoding`` are all settings if some were changed; ``tagger`` is the name of the tagger of the tags, if any.
    """

    model: str = ""
    data: str | None = None
    split: str | None = None
    images: int
    beam: int | None = field(default=None, metadata=OPTIONAL)
    decoding: dict[str, Any] | None = field(default=None, metadata=OPTIONAL)
    tagger: str | None = field(default=None, metadata=OPTIONAL)
    scores: dict[str, float | int | None] = field(metadata=INLINE)
    signature: str
    unavailable: dict[str, str]


@dataclass(frozen=True)
class ScoredCaptions:
    """A result with the ``captions`` that were scored, one per example."""

    result: CaptionResult
    captions: Sequence[str]
    examples: Sequence[Example]


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    names: Sequence[str] | None = None,
    training: Collection[str] | None = None,
    tokenize: str = "ptb",
    max_length: int | None = None,
) -> CaptionResult:
    """Score one candidate per image against all references of the image.

    ``names`` are caption metrics, by default all. ``training`` are the captions of the training set, for ``diversity``.
    ``tokenize`` is ``ptb``, as in the COCO evaluation, or ``spaces`` for tokenized sentences. ``max_length`` is the
    maximum length of decoding in words, if it is known. Raises UnknownName, ConfigError, BadData.
    """
    split_words = _find_tokenizer(tokenize)
    if len(candidates) != len(references) or not candidates:
        raise ConfigError(
            f"{len(candidates)} captions for {len(references)} images cannot be scored", "give one caption per image"
        )
    words = [split_words(sentence) for sentence in candidates]
    reference_words = [[split_words(sentence) for sentence in sentences] for sentences in references]
    if not any(sentence for sentences in reference_words for sentence in sentences) or not all(reference_words):
        raise BadData("there are images without references", "see `xmodal data info DATA` for images without captions")
    columns = sorted_columns(None if names is None else list(names))
    uses_training = training is not None and any(column.from_training for column in columns)
    training_set = {tuple(split_words(sentence)) for sentence in training or ()} if uses_training else None
    known = {"training": training_set, "max_length": max_length}
    given = {name: value for name, value in known.items() if value is not None}
    metrics: dict[str, float | int | None] = {}
    unavailable: dict[str, str] = {}
    for column in columns:
        try:
            scores = catalog.build("caption_metric", column.metric, {}, **given)(words, reference_words)
            metrics |= _to_python(scores, column.counts)
        except Unavailable as reason:
            names_of_scores = (*column.labels, *column.json_only)
            metrics |= dict.fromkeys(names_of_scores)
            unavailable |= dict.fromkeys(names_of_scores, f"{reason.message}; {reason.hint}")
        if training_set is None:
            metrics |= dict.fromkeys(column.from_training)
            unavailable |= dict.fromkeys(column.from_training, NO_TRAINING_CAPTIONS)
    signature = _signature(metrics, tokenize, reference_words, max_length)
    return CaptionResult(images=len(candidates), scores=metrics, signature=signature, unavailable=unavailable)


def _find_tokenizer(name: str) -> Callable[[str], Sequence[str]]:
    if name not in TOKENIZERS:
        raise UnknownName.of("tokenizer of captions", name, TOKENIZERS)
    return TOKENIZERS[name]


def _to_python(scores: MetricScores, counts: Collection[str]) -> dict[str, float | int]:
    return {name: int(value) if name in counts else float(value) for name, value in scores.total.items()}


def _signature(
    metrics: Mapping[str, float | int | None],
    tokenize: str,
    references: Sequence[Sequence[Any]],
    max_length: int | None,
) -> str:
    """The protocol in one line; scores are comparable if it is equal."""
    counts = sorted({len(sentences) for sentences in references})
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
    if metrics.get("bad_endings") is not None and max_length is not None:
        parts.append(f"endings:cut={max_length}")
    return "|".join(parts)
