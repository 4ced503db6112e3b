"""The records and protocols shared by all layers. No computation, no torch at run time.

Shapes are given by name: ``(images, captions)`` is a matrix with one row per image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from xmodal_cli.dataset_types import PRECOMPUTED as PRECOMPUTED
from xmodal_cli.dataset_types import Example as Example
from xmodal_cli.dataset_types import FeatureMeta as FeatureMeta
from xmodal_cli.dataset_types import FeatureRow as FeatureRow
from xmodal_cli.dataset_types import FeatureSource as FeatureSource
from xmodal_cli.dataset_types import ImageTextDataset as ImageTextDataset
from xmodal_cli.dataset_types import SkippedRow as SkippedRow
from xmodal_cli.errors import BadData, BadImage, Category
from xmodal_cli.result_json import OPTIONAL
from xmodal_cli.settings import MAX_SEED, setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from xmodal_cli.device import Compute


# ---------------------------------------------------------------------------- features


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image file that is left out. ``reason`` is shown to the user, ``category`` is for programs.

    ``may_change``: the file must be tried again, although it is unchanged; see ``errors.BadImage``.
    """

    path: Path
    reason: str
    category: Category = Category.DAMAGED
    may_change: bool = False
    hint: str = field(default="", metadata=OPTIONAL)

    @classmethod
    def of(cls, path: Path, error: BadData) -> Unreadable:
        """The record of an error that was raised for ``path``."""
        if isinstance(error, BadImage):
            return cls(path, error.message, error.category, error.may_change, error.hint)
        return cls(path, error.message)


@dataclass(frozen=True, slots=True)
class Defect:
    """A problem of an image file that is used nevertheless: it is truncated, or its color profile is damaged."""

    path: Path
    reason: str
    category: Category


@dataclass(frozen=True)
class Features:
    """One array per image: ``values`` is (images, dim) or (images, cells, dim), fp16 or fp32, often a memory map."""

    ids: tuple[str, ...]
    values: np.ndarray
    meta: FeatureMeta


class ImageBackbone(Protocol):
    """A pretrained network that computes image features."""

    meta: FeatureMeta
    weights_file: Path | None  # the file that the weights were loaded from, None if there is none

    def preprocess(self, image: Any) -> Any:
        """PIL RGB image -> (crops, 3, height, width) uint8, on the CPU. Thread-safe.

        A tensor, or a NumPy array for an exported network.
        """
        ...

    def to(self, compute: Compute) -> None:
        """Move the network to the device, in the precision, of ``compute``, which is resolved; called once."""
        ...

    def encode(self, pixels: Any) -> Any:
        """(images, 3, height, width) uint8 -> (images, dim) or (images, cells, dim), any float type.

        Tensors, or NumPy arrays for an exported network. Thread-safe on a CPU.
        """
        ...


@dataclass(frozen=True)
class TextMeta:
    """How text features were computed. ``kind`` is ``tokens`` (one state per token) or ``sentence`` (one vector)."""

    backbone: str
    fingerprint: str  # sha256 of the weights
    kind: str
    dim: int


@dataclass(frozen=True)
class TextBackbone:
    """A pretrained sentence encoder: (tokens, lengths) -> (captions, longest, dim); longest is 1 for ``sentence``.

    ``upper`` are the last layers if they are trained separately: (states, lengths) -> states; ``network`` then ends
    before them. ``tokenizer`` is the JSON of the ``tokenizers`` tokenizer that the encoder was trained with.
    """

    network: nn.Module
    tokenizer: str
    meta: TextMeta
    upper: nn.Module | None = None


# ---------------------------------------------------------------------------- models


class Similarity(Protocol):
    """Scores every image against every text; a higher score means more similar."""

    name: str

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """(images, dim), (texts, dim) -> (images, texts)."""
        ...

    def prepare(self, vectors: Tensor) -> Tensor:
        """(items, dim) projections -> (items, dim) vectors for the similarity, for example L2-normalized ones."""
        ...


class Matcher(Protocol):
    """A dual encoder: embeds images and texts as vectors of size ``embed_dim``, compared by ``similarity``."""

    embed_dim: int
    similarity: Similarity

    def encode_image(self, image_features: Tensor) -> Tensor:
        """Embed images: (images, dim) or (images, cells, dim) features -> (images, embed_dim)."""
        ...

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Embed captions: (captions, longest) int64 padded with 0, (captions,) int64 -> (captions, embed_dim)."""
        ...


class Loss(Protocol):
    """A training objective over in-batch scores."""

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        """(images, captions) scores, (images, captions) bool positives -> scalar."""
        ...


@runtime_checkable
class AnchorLoss(Protocol):
    """A loss that is a sum over anchors, so that the scores of some anchors can be computed at a time.

    It is the sum of ``of_anchors`` over images and over captions, divided by ``num_terms``.
    """

    def of_anchors(self, scores: Tensor, positives: Tensor) -> Tensor:
        """(anchors, candidates) scores, of images with captions or the reverse, and bool positives -> scalar."""
        ...

    def num_terms(self, num_captions: int) -> int:
        """What the sum over all anchors is divided by in a batch of ``num_captions``."""
        ...


class RetrievalMetric(Protocol):
    """A score computed from ranks."""

    def __call__(self, ranks: np.ndarray) -> float:
        """(queries,) int64 ranks of the best positive of each query, 1-based -> score."""
        ...


# a tagger: image features -> (images, tags) logits; its loss: logits and float targets in [0, 1] -> scalar
Tagger = Callable[["Tensor"], "Tensor"]
TagLoss = Callable[["Tensor", "Tensor"], "Tensor"]


# ---------------------------------------------------------------------------- captioning


class CaptionState(Protocol):
    """The decoding state of a batch of images, with one row per hypothesis. States are immutable.

    Arrays are tensors, or NumPy arrays for an exported captioner.
    """

    attention: Any  # (images, rows, cells) attention weights of the last step, None if the model has none

    def select(self, parents: Any) -> Self:
        """Reorder the rows, as beam search does after each step.

        ``parents`` is (images, rows) int64: row ``r`` of image ``i`` of the new state is row ``parents[i, r]`` of image
        ``i`` of this state. The number of rows may change. Tensors of an image are shared by its rows, not copied.
        """
        ...


@dataclass(frozen=True)
class SampledCells:
    """The cells that a captioner in training mode attended to, one sampled per position.

    ``log_probs`` and ``entropy`` (captions, longest) float32: the log-probability of the sampled cell, and the entropy
    of the distribution that it is sampled from. ``is_sampled`` (captions,) bool is False for captions that used the
    expected weights instead; their ``log_probs`` are 0.
    """

    log_probs: Tensor
    entropy: Tensor
    is_sampled: Tensor


@dataclass(frozen=True)
class CaptionerOutput:
    """The output under teacher forcing: ``logits`` (captions, longest, vocab) of the next token at each position."""

    logits: Tensor
    attention: Tensor | None = None  # (captions, longest, cells), None if the model has none
    sampled_cells: SampledCells | None = None  # None unless the model samples the cells it attends to


class Captioner(Protocol):
    """An autoregressive caption model. Decoding uses ``start`` and ``step``, teacher forcing uses ``__call__``.

    Arrays are tensors, or NumPy arrays for an exported captioner, which has no ``__call__``.
    """

    vocab_size: int

    def start(self, image_features: Any) -> CaptionState:
        """Encode images: (images, dim) or (images, cells, dim) -> the initial state, one row per image, no tokens."""
        ...

    def step(self, state: Any, tokens: Any) -> tuple[Any, Any]:
        """Append one token to each row: ``tokens`` is (images, rows) int64, BOS at the first step.

        Returns the log-probabilities of the next token, (images, rows, vocab) float32, and the new state.
        """
        ...

    def __call__(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """Teacher forcing: ``tokens`` is (captions, longest) int64 from BOS.

        ``image_of_caption`` (captions,) int64 are row indices of ``image_features`` (images, ...).
        """
        ...


class CaptionLoss(Protocol):
    """A training objective over the output under teacher forcing."""

    def __call__(self, output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        """``targets`` (captions, longest) int64 next tokens, ``mask`` (captions, longest) bool, False at padding."""
        ...


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of special tokens: begin (BOS) and end (EOS) of a caption, and ``banned`` ones that are never generated."""

    bos: int
    eos: int
    banned: tuple[int, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How captions are decoded: beam search, diverse beam search (Vijayakumar et al., arXiv 1610.02424) or sampling.

    Lengths count words, without EOS; ``num_beam_groups`` divides ``beam``.
    """

    beam: int = setting(5, "beam size; 1: greedy search", min=1, max=100_000)
    num: int = setting(1, "captions per image, at most the beam size; of samples, any number", min=1, max=100_000)
    max_length: int = setting(20, "longest caption, in words", min=1, max=1000)
    min_length: int = setting(1, "shortest caption, in words", min=0)
    length_penalty: float = setting(1.0, "score = log-probability / length to this power, EOS counted", min=0, max=10)
    no_repeat_ngram_size: int = setting(0, "no n-gram of this size occurs twice in a caption; 0: no limit", min=0)
    num_beam_groups: int = setting(1, "groups of diverse beam search, a divisor of the beam size; 1: plain", min=1)
    diversity_penalty: float = setting(0.5, "penalty on words that earlier groups chose at the same step", min=0)
    early_stopping: str = setting(
        "exact",
        "beam search ends when no better caption can follow (exact), or by the default of generate in transformers,"
        " which is faster (heuristic)",
        choices=("exact", "heuristic"),
    )
    sample: bool = setting(False, "sample words instead of beam search")
    temperature: float = setting(1.0, "sampling: temperature", above=0)
    top_k: int = setting(0, "sampling: only the k most probable words; 0: all", min=0)
    top_p: float = setting(
        1.0, "sampling: only the most probable words that together have this probability", above=0, max=1
    )
    seed: int = setting(0, "sampling: seed", min=0, max=MAX_SEED)
    rerank: str = setting("", "matcher that re-ranks the captions of the beam by their similarity to the image")
    rerank_weight: float = setting(1.0, "re-ranking: weight of the similarity in the score", min=0, max=1000)


@dataclass(frozen=True)
class Hypothesis:
    """A generated caption: its tokens without BOS and EOS, and ``score``, by which hypotheses are sorted.

    ``log_prob`` is the sum over the tokens, EOS included if it was generated (``ended``). ``attention`` is
    (tokens, cells), None unless requested.
    """

    tokens: tuple[int, ...]
    score: float
    log_prob: float
    ended: bool
    attention: np.ndarray | None = None


@dataclass(frozen=True)
class MetricScores:
    """The scores of a caption metric by name (``bleu_4``): of the corpus, and per candidate, (candidates,) float64."""

    total: dict[str, float]
    per_candidate: dict[str, np.ndarray]


class CaptionMetric(Protocol):
    """Scores candidates against references, both split into words."""

    def __call__(
        self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> MetricScores:
        """One candidate per image, and all references of each image."""
        ...


# ---------------------------------------------------------------------------- files


# path -> PIL RGB image; raises BadData
ImageOpener = Callable[[Path], Any]
# embeds image files lazily and in order: -> (path, (embed_dim,) float32 or Unreadable)
ImageVectors = Callable[[Iterable[Path]], Iterator[tuple[Path, "np.ndarray | Unreadable"]]]


@dataclass(frozen=True)
class LanguageModel:
    """A pretrained language model; ``tensors`` are named as in ``models/captioners/_gpt2.py``.

    ``sizes`` has ``vocab_size``, ``embed_dim`` and ``num_layers``. ``tokenizer`` is the JSON of its ``tokenizers``
    tokenizer, ``fingerprint`` the sha256 of its weights file.
    """

    name: str
    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    tokenizer: str
    fingerprint: str
