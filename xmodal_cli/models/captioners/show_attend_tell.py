"""Show, Attend and Tell: an LSTM that attends to the cells of the image at every step.

Xu et al., 2015 (arXiv 1502.03044): additive attention scores each cell against the LSTM state, the weighted mean of the
cells (the context vector ``z``) is gated by a scalar, and the logits are computed from the previous word, the state and
``z`` (deep output). The keys of the cells are computed once per image. ``attention="hard"`` samples one cell; its
gradient is straight-through Gumbel-softmax (arXiv 1611.01144), not REINFORCE as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.models.captioners._caption_rows import group_by_image
from xmodal_cli.models.sequences import cell_depth, scaled_cells
from xmodal_cli.settings import POSITIVE, RATE, check_argument
from xmodal_cli.types import CaptionerOutput


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


class ShowAttendTell(nn.Module):
    """A ``types.Captioner``."""

    def __init__(self, depth: int, image_kind: str, vocab_size: int, width: int, attention_dim: int) -> None:
        super().__init__()
        self.image_kind, self.vocab_size, self.hard = image_kind, vocab_size, False
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
        context, state = self._advance(state, words)
        return functional.log_softmax(self._logits(words, state.hidden, context).float(), dim=-1), state

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        state = self.start(image_features)
        table, positions = group_by_image(image_of_caption, len(image_features))
        words = self.dropout(self.words(tokens[table]))  # (images, rows, longest, width)
        parents = state.hidden.new_zeros(table.shape, dtype=torch.int64)
        state = state.select(parents)
        hidden, contexts, weights = [], [], []
        for i in range(tokens.shape[1]):
            context, state = self._advance(state, words[:, :, i])
            hidden.append(state.hidden)
            contexts.append(context)
            weights.append(state.attention)
        logits = self._logits(words, torch.stack(hidden, dim=2), torch.stack(contexts, dim=2))
        attention = torch.stack([w for w in weights if w is not None], dim=2)
        return CaptionerOutput(logits.flatten(0, 1)[positions], attention.flatten(0, 1)[positions])

    def _advance(self, state: RecurrentState, words: Tensor) -> tuple[Tensor, RecurrentState]:
        """One word per row, (images, rows, width) -> context vectors (images, rows, width) and the next state."""
        weights = self._attend(state)
        cells = state.image.cells
        context = torch.sigmoid(self.gate(state.hidden)) * torch.bmm(weights.to(cells), cells)
        gates = self.inputs(torch.cat((words.to(context), context), dim=-1)) + self.recurrent(state.hidden)
        input_gate, forget_gate, output_gate, candidate = gates.float().chunk(4, dim=-1)
        memory = torch.sigmoid(forget_gate + 1) * state.memory + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return context, RecurrentState(state.image, torch.sigmoid(output_gate) * torch.tanh(memory), memory, weights)

    def _attend(self, state: RecurrentState) -> Tensor:
        """Attention weights (images, rows, cells) float32; each row sums to 1."""
        query = self.query(state.hidden)
        scores = self.score(torch.tanh(state.image.keys[:, None] + query[:, :, None])).squeeze(-1).float()
        scores = scores.masked_fill(~state.image.mask[:, None], -torch.inf)
        if not self.hard:
            return torch.softmax(scores, dim=-1)
        if self.training:
            return functional.gumbel_softmax(scores, hard=True)
        return functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores)

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
    dropout: float = 0.3,
) -> ShowAttendTell:
    """``embed_dim`` is the width of embeddings, states and cells. Raises ValueError for an unknown ``attention``."""
    if attention not in ("soft", "hard"):
        raise ValueError(f"attention must be soft or hard, not {attention!r}")
    check_argument("attention_dim", attention_dim, POSITIVE)
    check_argument("dropout", dropout, RATE)
    model = ShowAttendTell(cell_depth(image_dim, image_kind), image_kind, vocab_size, embed_dim, attention_dim)
    model.hard, model.dropout = attention == "hard", nn.Dropout(dropout)
    return model
