"""Show, Attend and Tell: an LSTM that looks at another part of the picture for every word.

Xu et al., 2015 (arXiv 1502.03044): a small network scores each cell against the LSTM's state, the cells' weighted mean
``z`` is gated by a scalar, and the word comes from word, state and ``z`` together (their deep output). What the score
needs of the cells is computed once for each image. ``attention="hard"`` looks at one cell, drawn by its weight; its
gradient is that of a relaxed draw (straight-through Gumbel-softmax, arXiv 1611.01144) where the paper has REINFORCE.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.models.captioners._rows import by_image
from xmodal_cli.models.sequences import cell_depth, scaled_cells
from xmodal_cli.settings import POSITIVE, RATE, check_argument
from xmodal_cli.types import CaptionerOutput


@dataclass(frozen=True)
class ImageContext:
    """The images, shared by all rows: cells (images, cells, width) and their keys (images, cells, attention_dim)."""

    cells: Tensor
    keys: Tensor
    mask: Tensor  # (images, cells) bool


@dataclass(frozen=True)
class RecurrentState:
    """``hidden`` and ``memory`` (images, rows, width) of the LSTM, and the cells last looked at."""

    picture: ImageContext
    hidden: Tensor
    memory: Tensor
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> RecurrentState:
        """See ``types.CaptionState``."""
        chosen = parents[..., None].expand(-1, -1, self.hidden.shape[-1])
        return replace(self, hidden=self.hidden.gather(1, chosen), memory=self.memory.gather(1, chosen), attention=None)


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
        seen, state = self._advance(state, words)
        return functional.log_softmax(self._logits(words, state.hidden, seen).float(), dim=-1), state

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        state = self.start(image_features)
        table, places = by_image(image_of_caption, len(image_features))
        words = self.dropout(self.words(tokens[table]))  # (images, rows, longest, width)
        rows = state.hidden.new_zeros(table.shape, dtype=torch.int64)
        state = state.select(rows)
        hidden, seen, attention = [], [], []
        for place in range(tokens.shape[1]):
            z, state = self._advance(state, words[:, :, place])
            hidden.append(state.hidden)
            seen.append(z)
            attention.append(state.attention)
        logits = self._logits(words, torch.stack(hidden, dim=2), torch.stack(seen, dim=2))
        looked = torch.stack([a for a in attention if a is not None], dim=2)
        return CaptionerOutput(logits.flatten(0, 1)[places], looked.flatten(0, 1)[places])

    def _advance(self, state: RecurrentState, words: Tensor) -> tuple[Tensor, RecurrentState]:
        """One word of each row, (images, rows, width) -> what is seen of the picture, and the state after the word."""
        weights = self._look(state)
        seen = torch.sigmoid(self.gate(state.hidden)) * torch.bmm(weights.to(state.picture.cells), state.picture.cells)
        gates = self.inputs(torch.cat((words.to(seen), seen), dim=-1)) + self.recurrent(state.hidden)
        enter, forget, leave, new = gates.float().chunk(4, dim=-1)
        memory = torch.sigmoid(forget + 1) * state.memory + torch.sigmoid(enter) * torch.tanh(new)
        return seen, RecurrentState(state.picture, torch.sigmoid(leave) * torch.tanh(memory), memory, weights)

    def _look(self, state: RecurrentState) -> Tensor:
        """(images, rows, cells) float32, each row's sum 1."""
        query = self.query(state.hidden)
        scores = self.score(torch.tanh(state.picture.keys[:, None] + query[:, :, None])).squeeze(-1).float()
        scores = scores.masked_fill(~state.picture.mask[:, None], -torch.inf)
        if not self.hard:
            return torch.softmax(scores, dim=-1)
        if self.training:
            return functional.gumbel_softmax(scores, hard=True)
        return functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores)

    def _logits(self, words: Tensor, hidden: Tensor, seen: Tensor) -> Tensor:
        deep = words + self.deep_hidden(hidden) + self.deep_seen(seen)
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
    """``embed_dim`` is the width of words, states and cells. Raises ValueError for an unknown ``attention``."""
    if attention not in ("soft", "hard"):
        raise ValueError(f"attention is soft or hard, not {attention!r}")
    check_argument("attention_dim", attention_dim, POSITIVE)
    check_argument("dropout", dropout, RATE)
    model = ShowAttendTell(cell_depth(image_dim, image_kind), image_kind, vocab_size, embed_dim, attention_dim)
    model.hard, model.dropout = attention == "hard", nn.Dropout(dropout)
    return model
