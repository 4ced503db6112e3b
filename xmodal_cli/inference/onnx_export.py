"""Export of a matcher's text encoder to ONNX, compared with torch; ``onnx_text_encoder`` reads it.

The graph takes one sentence of any length. The word embeddings are stored outside the graph, since a sentence needs
only a few rows; the rest is optimized once, here.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from xmodal_cli.backbones.clip_text import TextTower
from xmodal_cli.device import Compute
from xmodal_cli.inference.onnx_text_encoder import (
    TOKENIZER,
    TOKENS_IN,
    VECTOR_OUT,
    OnnxTextEncoder,
)
from xmodal_cli.inference.onnx_text_graph import write_text_graph
from xmodal_cli.inference.onnx_tracing import trace
from xmodal_cli.inference.onnx_writing import ExportRecord, write_export
from xmodal_cli.models.poolings.gpo import GeneralizedPooling
from xmodal_cli.models.sequences import positional_encoding

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


MIN_COSINE = 0.9999  # between a vector of the export and of torch
MIN_COSINE_WITHOUT_PADDING = 0.999999  # for a tower that was trained with padding
SENTENCES = (
    "dog",
    "two dogs running",
    "A man in a red shirt rides his bicycle down a steep hill, and doesn't look back.",
    "a photo of a " + "very " * 40 + "long dog",
    " ".join(["three children and their brown dog jump over a fallen tree in the snow"] * 30),
    "zyxqv flurbled the qwrtzly grommish",
    "crème brûlée à la façade — “naïve” 日本語 Ελλάδα 🐶",
    "IT'S 3 O'CLOCK; 100% e=mc² @home",
    ".",
    "a",
)


def export_text(loaded: LoadedMatcher, source: dict[str, Any], folder: Path) -> None:
    """Export the text encoder of a matcher to ``folder``; the matcher cannot be used afterwards.

    ``source`` is the ``source_record`` of the model file. Raises Unavailable if the export fails or its vectors differ
    from torch, and StorageError; see ``write_export``.
    """
    record = ExportRecord("text encoder", loaded.name, loaded.info.fingerprint, source)
    write_export(folder, record, lambda draft: _write(move_to_cpu(loaded), record, draft))


def move_to_cpu(loaded: LoadedMatcher) -> LoadedMatcher:
    """The matcher on the CPU, in float32."""
    _network(loaded).to("cpu")
    return replace(loaded, compute=Compute("cpu", "fp32", "torch"))


def _network(loaded: LoadedMatcher) -> nn.Module:
    assert isinstance(loaded.model, nn.Module)
    return loaded.model


def _write(loaded: LoadedMatcher, record: ExportRecord, draft: Path) -> None:
    expected = loaded.embed_texts(SENTENCES)
    (draft / TOKENIZER).write_text(loaded.tokenizer.to_json(), encoding="utf-8")
    towers = [m for m in _network(loaded).modules() if isinstance(m, TextTower)]
    if towers:
        with contextlib.suppress(Exception):  # many give the same vectors without padding
            return _write_checked(loaded, record, (0, 0), (expected, MIN_COSINE_WITHOUT_PADDING), draft)
        padding = (towers[0].context_length, towers[0].pad_id)
        return _write_checked(loaded, record, padding, (expected, MIN_COSINE), draft)
    return _write_checked(loaded, record, (0, 0), (expected, MIN_COSINE), draft)


def _write_checked(
    loaded: LoadedMatcher,
    record: ExportRecord,
    padding: tuple[int, int],
    expected: tuple[np.ndarray, float],
    draft: Path,
) -> None:
    """``padding``: length, 0 for none, and id; ``expected``: vectors, and the minimum cosine to them."""
    length, pad_id = padding
    inputs = write_text_graph(trace_text(loaded, length or 5), draft)
    facts = {"length": length, "pad_id": pad_id, "inputs": inputs, "embed_dim": loaded.info.embed_dim}
    record.save(draft, facts)
    agreement = _min_cosine(OnnxTextEncoder(draft, loaded.info.fingerprint), expected[0])
    if not agreement > expected[1]:
        raise ValueError(f"its vectors differ from torch's: cosine {agreement:.6f}")
    record.save(draft, facts | {"agreement": agreement})


def _min_cosine(exported: OnnxTextEncoder, expected: np.ndarray) -> float:
    """The minimum cosine between vectors of the export and of torch; 0 if a norm differs."""
    vectors = exported.embed_texts(SENTENCES).astype(np.float64)
    norms, expected_norms = np.linalg.norm(vectors, axis=1), np.linalg.norm(expected.astype(np.float64), axis=1)
    if not np.allclose(norms, expected_norms, rtol=1e-4, atol=0):
        return 0.0
    return float(((vectors * expected).sum(1) / np.maximum(norms * expected_norms, 1e-12)).min())


# ---------------------------------------------------------------------------- modules for one sentence


class _EncodeOneSentence(nn.Module):
    """(1, length) int64 -> (1, embed_dim)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = torch.full((1,), tokens.shape[1], dtype=torch.int64)
        vector: Tensor = self.model.encode_text(tokens, lengths)  # type: ignore[operator]
        return vector


class _UnpaddedTower(nn.Module):
    """A text tower of open_clip for one sentence without padding."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.text = tower.text

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        output: Tensor | tuple[Tensor, ...] = self.text(tokens)
        return output[0] if isinstance(output, tuple) else output


class _UnpaddedPooling(nn.Module):
    """``GeneralizedPooling`` of one item without padding: the original cannot be traced."""

    def __init__(self, pooling: GeneralizedPooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        pooling = self.pooling
        positions = positional_encoding(states.shape[1], pooling.recurrence.input_size)[None]
        forward, backward = pooling.recurrence(positions)[0].chunk(2, dim=-1)
        weights = torch.softmax(pooling.score((forward + backward) / 2) / pooling.temperature, dim=1)  # (1, length, 1)
        ranked = states.sort(1, descending=True).values
        return (weights * ranked).sum(1)


class _UnpaddedAttention:
    """``nn.MultiheadAttention`` of one item without padding: the original fixes the length in a trace."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        self.attention = attention

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """``attn_mask`` may be larger than the item, as in open_clip."""
        attention = self.attention
        inputs = [x if attention.batch_first else x.transpose(0, 1) for x in (query, key, value)]  # (1, length, dim)
        biases = (None, None, None) if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        q, k, v = (
            linear(x, w, b).view(1, -1, attention.num_heads, attention.head_dim).transpose(1, 2)
            for x, w, b in zip(inputs, attention.in_proj_weight.chunk(3), biases, strict=True)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(attention.head_dim)  # (1, heads, length, length)
        if attn_mask is not None:
            mask = attn_mask[..., : q.shape[2], : k.shape[2]]
            scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        context = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(1, -1, attention.embed_dim)
        out: Tensor = attention.out_proj(context)
        return (out if attention.batch_first else out.transpose(0, 1)), None


def _replace_batched_modules(model: nn.Module) -> None:
    """Replace, in place, the modules that cannot be traced with a variable length."""
    for name, module in list(model.named_modules()):
        replacement: nn.Module
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            module.forward = _UnpaddedAttention(module)  # type: ignore[method-assign]
            continue
        if isinstance(module, TextTower):
            replacement = _UnpaddedTower(module)
        elif isinstance(module, GeneralizedPooling):
            replacement = _UnpaddedPooling(module)
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, replacement)


# ---------------------------------------------------------------------------- the graph


def trace_text(loaded: LoadedMatcher, length: int = 5, is_folded: bool = True) -> Any:
    """The graph of the text encoder for one sentence, as an onnx.ModelProto; the matcher cannot be used afterwards."""
    _replace_batched_modules(_network(loaded))
    tokens = torch.arange(length)[None] % loaded.tokenizer.vocab_size
    names, axes = ([TOKENS_IN], [VECTOR_OUT]), {TOKENS_IN: {1: "length"}}
    return trace(_EncodeOneSentence(_network(loaded)), [tokens], names, axes, is_folded)
