"""Show, Attend and Tell: an LSTM that attends to the cells of the image at every step.

Xu et al., 2015 (arXiv 1502.03044): additive attention scores each cell against the LSTM state, the weighted mean of the
cells (the context vector ``z``) is gated by a scalar, and the logits are computed from the previous word, the state and
``z`` (deep output). The keys of the cells are computed once per image.

``attention``: ``soft`` is the expected cell (section 4.2 of the paper). ``stochastic`` is its hard attention (section
4.1): in training one cell is sampled per word, and the loss ``variational-bound`` adds the gradient of the sampled
cells. ``gumbel`` samples too, with the gradient of straight-through Gumbel-softmax (arXiv 1611.01144).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.models.captioners._caption_rows import group_by_image
from xmodal_cli.models.captioners._cell_sampling import EXPECTED_PROB, CellSample, choose_images, sample_cells, stack
from xmodal_cli.models.sequences import cell_depth, scaled_cells
from xmodal_cli.settings import POSITIVE, RATE, Bounds, check_argument
from xmodal_cli.types import CaptionerOutput

ATTENTION = ("soft", "stochastic", "gumbel")
DECODE_ATTENTION = ("auto", "expected", "argmax")


@dataclass(frozen=True)
class ImageContext:
    """The images, shared by all rows: cells (images, cells, width) and keys (images, cells, attention_dim)."""

    cells: Tensor
    keys: Tensor
    mask: Tensor  # (images, cells) bool


@dataclass(frozen=True)
class RecurrentState:
    """``hidden`` and ``memory`` (images, rows, width) of the LSTM, and the attention weights of the last step."""

    image: ImageContext
    hidden: Tensor
    memory: Tensor
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> RecurrentState:
        """See ``types.CaptionState``."""
        indices = parents[..., None].expand(-1, -1, self.hidden.shape[-1])
        return replace(
            self, hidden=self.hidden.gather(1, indices), memory=self.memory.gather(1, indices), attention=None
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for the export to ONNX."""
        image = {"cells": self.image.cells, "keys": self.image.keys, "mask": self.image.mask}
        return image | {"hidden": self.hidden, "memory": self.memory}

    def with_tensors(self, tensors: Mapping[str, Tensor], position: object) -> RecurrentState:
        """The state with other ``tensors``; it does not depend on the ``position``."""
        image = ImageContext(tensors["cells"], tensors["keys"], tensors["mask"])
        return RecurrentState(image, tensors["hidden"], tensors["memory"])


class ShowAttendTell(nn.Module):
    """A ``types.Captioner``."""

    def __init__(self, depth: int, image_kind: str, vocab_size: int, width: int, attention_dim: int) -> None:
        super().__init__()
        self.image_kind, self.vocab_size = image_kind, vocab_size
        self.attention, self.decode_attention, self.expected_prob = "soft", "expected", EXPECTED_PROB
        self.project = nn.Linear(depth, width)
        self.keys = nn.Linear(width, attention_dim)
        self.query = nn.Linear(width, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.first = nn.Linear(width, 2 * width)
        self.gate = nn.Linear(width, 1)
        self.words = nn.Embedding(vocab_size, width)
        self.inputs = nn.Linear(2 * width, 4 * width)
        self.recurrent = nn.Linear(width, 4 * width, bias=False)
        self.deep_hidden, self.deep_seen = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(0.0)
        self.to_words = nn.Linear(width, vocab_size)
        nn.init.normal_(self.words.weight, std=width**-0.5)

    @property
    def samples_cells(self) -> bool:
        """Whether its output in training has ``sampled_cells``, which the loss must use."""
        return self.attention == "stochastic"

    def start(self, image_features: Tensor) -> RecurrentState:
        """See ``types.Captioner``."""
        cells, _, mask = scaled_cells(image_features, self.image_kind)
        cells = self.dropout(functional.relu(self.project(cells)))
        mean = (cells * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        hidden, memory = torch.tanh(self.first(mean)).float().chunk(2, dim=-1)
        return RecurrentState(ImageContext(cells, self.keys(cells), mask), hidden[:, None], memory[:, None])

    def step(self, state: RecurrentState, tokens: Tensor) -> tuple[Tensor, RecurrentState]:
        """See ``types.Captioner``."""
        words = self.words(tokens)
        context, state, _ = self._advance(state, words)
        return functional.log_softmax(self._logits(words, state.hidden, context).float(), dim=-1), state

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        state = self.start(image_features)
        table, positions = group_by_image(image_of_caption, len(image_features))
        words = self.dropout(self.words(tokens[table]))  # (images, rows, longest, width)
        parents = state.hidden.new_zeros(table.shape, dtype=torch.int64)
        state = state.select(parents)
        is_sampled = None
        if self.samples_cells and self.training:
            is_sampled = choose_images(len(image_features), self.expected_prob, state.hidden.device)
        hidden, contexts, weights, samples = [], [], [], []
        for i in range(tokens.shape[1]):
            context, state, sample = self._advance(state, words[:, :, i], is_sampled)
            hidden.append(state.hidden)
            contexts.append(context)
            weights.append(state.attention)
            samples.append(sample)
        logits = self._logits(words, torch.stack(hidden, dim=2), torch.stack(contexts, dim=2))
        attention = torch.stack([w for w in weights if w is not None], dim=2)
        sampled_cells = None
        if is_sampled is not None:
            sampled_cells = stack([s for s in samples if s is not None], is_sampled, positions)
        return CaptionerOutput(logits.flatten(0, 1)[positions], attention.flatten(0, 1)[positions], sampled_cells)

    def _advance(
        self, state: RecurrentState, words: Tensor, is_sampled: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState, CellSample | None]:
        """One word per row, (images, rows, width) -> context vectors (images, rows, width), the next state, its sample.

        Without ``is_sampled`` (images,) no cells are sampled. The state has the attention weights, not the sample.
        """
        weights = self._attend(state)
        sample = None if is_sampled is None else sample_cells(weights, is_sampled)
        applied = weights if sample is None else sample.applied
        cells = state.image.cells
        context = torch.sigmoid(self.gate(state.hidden)) * torch.bmm(applied.to(cells), cells)
        gates = self.inputs(torch.cat((words.to(context), context), dim=-1)) + self.recurrent(state.hidden)
        input_gate, forget_gate, output_gate, candidate = gates.float().chunk(4, dim=-1)
        memory = torch.sigmoid(forget_gate + 1) * state.memory + torch.sigmoid(input_gate) * torch.tanh(candidate)
        next_state = RecurrentState(state.image, torch.sigmoid(output_gate) * torch.tanh(memory), memory, weights)
        return context, next_state, sample

    def _attend(self, state: RecurrentState) -> Tensor:
        """Attention weights (images, rows, cells) float32; each row sums to 1."""
        query = self.query(state.hidden)
        scores = self.score(torch.tanh(state.image.keys[:, None] + query[:, :, None])).squeeze(-1).float()
        scores = scores.masked_fill(~state.image.mask[:, None], -torch.inf)
        if self.attention == "gumbel" and self.training:
            return functional.gumbel_softmax(scores, hard=True)
        if not self.training and self.decode_attention == "argmax":
            return functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores)
        return torch.softmax(scores, dim=-1)

    def _logits(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        deep = words + self.deep_hidden(hidden) + self.deep_seen(context)
        logits: Tensor = self.to_words(self.dropout(torch.tanh(deep)))
        return logits


def build(
    image_dim: int,
    image_kind: str,
    vocab_size: int,
    embed_dim: int,
    attention_dim: int = 512,
    attention: str = "soft",
    decode_attention: str = "auto",
    dropout: float = 0.3,
) -> ShowAttendTell:
    """``embed_dim`` is the width of embeddings, states and cells.

    ``decode_attention``: how captions are generated, with the ``expected`` cell or the most probable one (``argmax``);
    ``auto`` is ``argmax`` for gumbel, else ``expected``. Raises ValueError for unknown values.
    """
    check_argument("attention", attention, Bounds(choices=ATTENTION))
    check_argument("decode_attention", decode_attention, Bounds(choices=DECODE_ATTENTION))
    check_argument("attention_dim", attention_dim, POSITIVE)
    check_argument("dropout", dropout, RATE)
    model = ShowAttendTell(cell_depth(image_dim, image_kind), image_kind, vocab_size, embed_dim, attention_dim)
    model.attention, model.dropout = attention, nn.Dropout(dropout)
    model.decode_attention = decode_attention
    if decode_attention == "auto":
        model.decode_attention = "argmax" if attention == "gumbel" else "expected"
    return model
