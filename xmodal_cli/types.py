"""The records and protocols that the layers share. No code that computes, no torch at run time.

Shapes are written in words: ``(images, captions)`` is a matrix with a row per image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from xmodal_cli.settings import MAX_SEED, setting

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


# ---------------------------------------------------------------------------- datasets


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Where a dataset's own, precomputed feature of an image stands: row ``row`` of a ``.npy`` file."""

    path: Path
    row: int


@dataclass(frozen=True, slots=True)
class Example:
    """One image, its captions and its split.

    ``path`` may point into a tar file (``shard-000.tar/0001.jpg``); it is None where a dataset
    carries only precomputed features, and then ``feature`` says where they are.
    """

    image_id: str
    path: Path | None
    captions: tuple[str, ...]
    split: str
    feature: FeatureRow | None = None


@dataclass(frozen=True)
class ImageTextDataset:
    """Images with any number of captions each. ``source`` is the path it was read from."""

    name: str
    format: str
    source: Path
    examples: tuple[Example, ...]

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of images, in order of first appearance."""
        counts: dict[str, int] = {}
        for example in self.examples:
            counts[example.split] = counts.get(example.split, 0) + 1
        return counts

    def select(self, *splits: str) -> ImageTextDataset:
        """The examples of the named splits, in the dataset's order."""
        chosen = tuple(e for e in self.examples if e.split in splits)
        return ImageTextDataset(self.name, self.format, self.source, chosen)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Image ids, one per example."""
        return tuple(e.image_id for e in self.examples)

    @cached_property
    def captions(self) -> list[str]:
        """All captions, image by image."""
        return [c for e in self.examples for c in e.captions]

    @cached_property
    def image_of_caption(self) -> np.ndarray:
        """(captions,) int64: for each caption the position of its image in ``examples``."""
        import numpy as np

        return np.repeat(np.arange(len(self.examples)), [len(e.captions) for e in self.examples])


# ---------------------------------------------------------------------------- features


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The result for an image file that gives no features, vector or caption. ``reason`` is shown to the user."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FeatureMeta:
    """What made some features; two sets fit together when their ``key()`` is the same.

    ``kind`` is ``global``, ``grid`` or ``regions`` (rows end in ``regions.REGION_COLUMNS``); ``dim`` the last axis;
    ``fingerprint`` the sha256 of the weights; ``preprocessing`` everything done to a picture before the network saw it.
    """

    backbone: str
    fingerprint: str
    kind: str
    dim: int
    preprocessing: dict[str, Any] = field(default_factory=dict)
    crops: int = 1

    def key(self) -> tuple[Any, ...]:
        """What must agree between features, model, query and index."""
        settings = tuple(sorted((k, str(v)) for k, v in self.preprocessing.items()))
        return (self.backbone, self.fingerprint, self.kind, self.dim, self.crops, settings)


@dataclass(frozen=True)
class Features:
    """One array per image: ``values`` is (images, dim) or (images, cells, dim), fp16, often a memory map."""

    ids: tuple[str, ...]
    values: np.ndarray
    meta: FeatureMeta


class ImageBackbone(Protocol):
    """A pretrained network that turns pictures into features."""

    meta: FeatureMeta
    weights_file: Path | None  # the file the weights came from, when they came from one

    def preprocess(self, image: Any) -> Tensor:
        """PIL RGB image -> (crops, 3, height, width) uint8, on the CPU; safe to call from many threads."""
        ...

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the network, once, and cast it to the number format it computes in."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """(pictures, 3, height, width) uint8 -> (pictures, dim) or (pictures, cells, dim), any float type.

        On a CPU it is called from several threads at once.
        """
        ...


@dataclass(frozen=True)
class TextMeta:
    """What made some text features: ``kind`` is ``tokens`` (a state for each) or ``sentence`` (one vector)."""

    backbone: str
    fingerprint: str  # sha256 of the weights
    kind: str
    dim: int


@dataclass(frozen=True)
class TextBackbone:
    """A pretrained sentence encoder: (tokens, lengths) -> (captions, longest, dim); longest is 1 for ``sentence``.

    ``upper`` holds its last layers where they are to be trained apart: (states, lengths) -> states; ``network`` then
    ends before them.
    ``tokenizer`` is the JSON of the ``tokenizers`` tokenizer that it was trained with.
    """

    network: nn.Module
    tokenizer: str
    meta: TextMeta
    upper: nn.Module | None = None


# ---------------------------------------------------------------------------- models


class Similarity(Protocol):
    """Scores every image against every text; higher is more alike."""

    name: str

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """(images, dim), (texts, dim) -> (images, texts)."""
        ...

    def prepare(self, vectors: Tensor) -> Tensor:
        """(items, dim) raw projections -> vectors of the space the similarity is defined on."""
        ...


class Matcher(Protocol):
    """A dual encoder: both sides end in vectors of ``embed_dim`` that ``similarity`` compares."""

    embed_dim: int
    similarity: Similarity

    def encode_image(self, image_features: Tensor) -> Tensor:
        """(images, dim) or (images, cells, dim) -> (images, embed_dim)."""
        ...

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(captions, longest) int64 padded with 0, (captions,) int64 -> (captions, embed_dim)."""
        ...


class Loss(Protocol):
    """A training objective over in-batch scores."""

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        """(images, captions) scores, (images, captions) bool -> scalar."""
        ...


class RetrievalMetric(Protocol):
    """A number from ranks: (queries,) int64, 1-based rank of each query's best right item."""

    def __call__(self, ranks: np.ndarray) -> float: ...


# ---------------------------------------------------------------------------- captioning


class CaptionState(Protocol):
    """Captions that are being generated: some rows per image. A state is never changed in place."""

    attention: Tensor | None  # (images, rows, cells) attention weights of the last step, None if the model has none

    def select(self, parents: Tensor) -> Self:
        """(images, rows) int64: new row ``r`` of image ``i`` goes on with the old row ``parents[i, r]`` of that image.

        There may be more or fewer rows than before. What belongs to the image is shared by its rows, not copied.
        """
        ...


@dataclass(frozen=True)
class CaptionerOutput:
    """The output under teacher forcing: ``logits`` (captions, longest, vocab) of the word that follows each word."""

    logits: Tensor
    attention: Tensor | None = None  # (captions, longest, cells), None if the model has none


class Captioner(Protocol):
    """Writes captions word by word. All of decoding is written against ``start`` and ``step``."""

    vocab_size: int

    def start(self, image_features: Tensor) -> CaptionState:
        """(images, [cells,] dim) -> a state of one row for each image, before the start token."""
        ...

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """A state and the next token of each row, (images, rows) int64, the start token first.

        -> (images, rows, vocab) float32 log-probabilities of the token after it, and the state that has seen it.
        """
        ...

    def __call__(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """(images, ...), (captions,) int64 rows of ``image_features``, (captions, longest) int64 tokens."""
        ...


class CaptionLoss(Protocol):
    """A training objective over what teacher forcing gives."""

    def __call__(self, output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        """``targets`` (captions, longest) int64, the word after each word; ``mask`` bool, which of them are there."""
        ...


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids that are not words: begin and end of a caption, and those that are never generated."""

    bos: int
    eos: int
    banned: tuple[int, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How captions are decoded: beam search, diverse beam search (Vijayakumar et al., arXiv 1610.02424) or sampling.

    Lengths count words, without EOS; ``num_beam_groups`` divides ``beam``.
    """

    beam: int = setting(5, "beam size; 1: greedy search", min=1)
    num: int = setting(1, "captions per image, at most the beam size; of samples, any number", min=1)
    max_length: int = setting(20, "longest caption, in words", min=1)
    min_length: int = setting(1, "shortest caption, in words", min=0)
    length_penalty: float = setting(1.0, "score = log-probability / length to this power, EOS counted", min=0)
    no_repeat_ngram_size: int = setting(0, "no n-gram of this size occurs twice in a caption; 0: no limit", min=0)
    num_beam_groups: int = setting(1, "groups of diverse beam search, a divisor of the beam size; 1: plain", min=1)
    diversity_penalty: float = setting(0.5, "penalty on words that earlier groups chose at the same step", min=0)
    sample: bool = setting(False, "sample words instead of beam search")
    temperature: float = setting(1.0, "sampling: temperature", above=0)
    top_k: int = setting(0, "sampling: only the k most probable words; 0: all", min=0)
    top_p: float = setting(
        1.0, "sampling: only the most probable words that together have this probability", above=0, max=1
    )
    seed: int = setting(0, "sampling: seed", min=0, max=MAX_SEED)


@dataclass(frozen=True)
class Hypothesis:
    """A finished caption: its tokens without start and end, and ``score``, by which the n best are ordered.

    ``log_prob`` is the sum over its tokens, the end included where it was reached (``ended``). ``attention`` is
    (tokens, cells) where it was asked for.
    """

    tokens: tuple[int, ...]
    score: float
    log_prob: float
    ended: bool
    attention: Tensor | None = None


@dataclass(frozen=True)
class MetricScores:
    """What a caption metric says, by name (``bleu_4``): of all candidates, and of ``each``, (candidates,) float64."""

    total: dict[str, float]
    each: dict[str, np.ndarray]


class CaptionMetric(Protocol):
    """Candidates against their references, all cut into words."""

    def __call__(
        self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> MetricScores:
        """One candidate for each image, and all the references of that image."""
        ...


# ---------------------------------------------------------------------------- files


# what opens a picture: path -> PIL RGB image, or raises BadData
ImageOpener = Callable[[Path], Any]
# turns files, taken as they are needed, into vectors, in order: (path, (embed_dim,) float32 or why there is none)
ImageVectors = Callable[[Iterable[Path]], Iterator[tuple[Path, "np.ndarray | Unreadable"]]]


@dataclass(frozen=True)
class LanguageModel:
    """What a language model was when it was fetched; ``tensors`` are named as in ``models/captioners/_gpt2.py``.

    ``sizes`` holds ``vocab_size``, ``embed_dim`` and ``num_layers``. ``tokenizer`` is the JSON of its ``tokenizers``
    tokenizer, ``fingerprint`` the sha256 of its weights file.
    """

    name: str
    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    tokenizer: str
    fingerprint: str
