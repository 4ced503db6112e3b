"""Export of a matcher's text encoder to ONNX, compared with torch; ``onnx_text_encoder`` reads it.

The graph takes one sentence of any length. The word embeddings are stored outside the graph, since a sentence needs
only a few rows; the rest is optimized once, here.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from xmodal_cli import atomic_folder
from xmodal_cli.backbones.clip_text import TextTower
from xmodal_cli.device import Compute
from xmodal_cli.errors import StorageError, Unavailable, XmodalError
from xmodal_cli.inference.onnx_text_encoder import (
    FORMAT,
    GRAPH,
    METADATA,
    TOKENIZER,
    TOKENS_IN,
    VECTOR_OUT,
    WEIGHTS,
    WORDS,
    WORDS_IN,
    OnnxTextEncoder,
    file_records,
)
from xmodal_cli.models.poolings.gpo import GeneralizedPooling
from xmodal_cli.models.sequences import positional_encoding
from xmodal_cli.paths import is_machine_failure, storage_errors
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


OPSET = 17
MIN_COSINE = 0.9999  # between a vector of the export and of torch
MIN_COSINE_WITHOUT_PADDING = 0.999999  # for a tower that was trained with padding
MIN_EXTERNAL_SIZE = 4096  # bytes; larger weights are stored outside the graph, to be memory-mapped
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


MIN_FREE_BYTES = 256 << 20  # below it, an error is not recorded as one of the model


def export_text(loaded: LoadedMatcher, source: dict[str, Any], folder: Path) -> None:
    """Export the text encoder of a matcher to ``folder``; the matcher cannot be used afterwards.

    ``source`` is the ``source_record`` of the model file. Raises Unavailable if the export fails or its vectors differ
    from torch; the reason is saved in ``folder``, so that the export is not tried again, unless the disk, the memory or
    permissions are the reason. Raises StorageError.
    """
    with atomic_folder.write_lock(folder, "text encoder"), storage_errors(folder):
        atomic_folder.recover(folder)
        with atomic_folder.draft_path(folder) as draft:
            try:
                _write(_move_to_cpu(loaded), source, draft)
                reason = ""
            except Exception as error:  # an exporter may raise anything
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                if is_machine_failure(error) or _has_little_space(draft):
                    raise _not_now(loaded.name, reason, error) from error
                for file in draft.iterdir():
                    file.unlink()
                _write_metadata(loaded, source, draft, {"refused": reason, "permanent": True})
            atomic_folder.replace_folder(draft, folder)
    if reason:
        raise Unavailable(f"the text encoder of {loaded.name} cannot be exported: {reason}", "torch is used instead")


def _has_little_space(folder: Path) -> bool:
    """Whether a full disk may be the reason of an error: the messages of onnxruntime do not mention it."""
    return shutil.disk_usage(folder).free < MIN_FREE_BYTES


def _not_now(name: str, reason: str, error: Exception) -> XmodalError:
    """The error for a full disk or memory: nothing is recorded, and the next search tries again."""
    if isinstance(error, StorageError):
        return error
    hint = "free memory or disk space; the next search tries again"
    return Unavailable(f"the text encoder of {name} cannot be exported now: {reason}", hint)


def _move_to_cpu(loaded: LoadedMatcher) -> LoadedMatcher:
    _network(loaded).to("cpu")
    return replace(loaded, compute=Compute("cpu", "fp32"))


def _network(loaded: LoadedMatcher) -> nn.Module:
    assert isinstance(loaded.model, nn.Module)
    return loaded.model


def _write(loaded: LoadedMatcher, source: dict[str, Any], draft: Path) -> None:
    expected = loaded.embed_texts(SENTENCES)
    (draft / TOKENIZER).write_text(loaded.tokenizer.to_json(), encoding="utf-8")
    towers = [m for m in _network(loaded).modules() if isinstance(m, TextTower)]
    _replace_batched_modules(_network(loaded))
    if towers:
        with contextlib.suppress(Exception):  # many give the same vectors without padding
            return _write_checked(loaded, source, (0, 0), (expected, MIN_COSINE_WITHOUT_PADDING), draft)
        padding = (towers[0].context_length, towers[0].pad_id)
        return _write_checked(loaded, source, padding, (expected, MIN_COSINE), draft)
    return _write_checked(loaded, source, (0, 0), (expected, MIN_COSINE), draft)


def _write_checked(
    loaded: LoadedMatcher,
    source: dict[str, Any],
    padding: tuple[int, int],
    expected: tuple[np.ndarray, float],
    draft: Path,
) -> None:
    """``padding``: length, 0 for none, and id; ``expected``: vectors, and the minimum cosine to them."""
    length, pad_id = padding
    inputs = _write_graph(loaded, draft, length or 5)
    facts = {"length": length, "pad_id": pad_id, "inputs": inputs, "embed_dim": loaded.info.embed_dim}
    _write_metadata(loaded, source, draft, facts)
    agreement = _min_cosine(OnnxTextEncoder(draft, loaded.info.fingerprint), expected[0])
    if not agreement > expected[1]:
        raise ValueError(f"its vectors differ from torch's: cosine {agreement:.6f}")
    _write_metadata(loaded, source, draft, facts | {"agreement": agreement})


def _write_metadata(loaded: LoadedMatcher, source: dict[str, Any], draft: Path, facts: dict[str, Any]) -> None:
    (draft / METADATA).unlink(missing_ok=True)
    made_by = {"xmodal": __version__, "onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
    common = {"format": FORMAT, "fingerprint": loaded.info.fingerprint, "model": loaded.name, "source": source}
    metadata = {**common, **facts, "made_by": made_by, "files": file_records(draft)}
    (draft / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


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


def _write_graph(loaded: LoadedMatcher, draft: Path, length: int) -> list[str]:
    """Write graph, weights and word embeddings; return the input names of the graph."""
    graph = _trace(_network(loaded), length, loaded.tokenizer.vocab_size)
    table = _extract_embeddings(graph.graph)
    if table is not None:
        np.save(draft / WORDS, table)
    optimized = draft / "optimized.onnx"
    _optimize(graph, optimized)
    for file in (GRAPH, WEIGHTS):
        (draft / file).unlink(missing_ok=True)
    onnx.save_model(
        onnx.load(optimized),
        draft / GRAPH,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS,
        size_threshold=MIN_EXTERNAL_SIZE,
    )
    optimized.unlink()
    (draft / WEIGHTS).touch()  # the file is missing if no weight is large
    (draft / WEIGHTS).chmod((draft / GRAPH).stat().st_mode)  # it is created for the owner only, whatever the umask
    return [i.name for i in graph.graph.input]


def _trace(model: nn.Module, length: int, vocab_size: int) -> Any:
    """The graph for one sentence of any length.

    The tracing exporter exists in every torch since 2.5; the newer exporter does not support recurrent layers with a
    variable length.
    """
    tokens = torch.arange(length)[None] % vocab_size
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _without_fused_attention():
        warnings.simplefilter("ignore")  # deprecation, and branches that the comparison covers
        torch.onnx.export(
            _EncodeOneSentence(model).eval(),
            (tokens,),
            buffer,  # type: ignore[arg-type]
            input_names=[TOKENS_IN],
            output_names=[VECTOR_OUT],
            dynamic_axes={TOKENS_IN: {1: "length"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


@contextlib.contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Disable the fused kernels of transformer layers, which ONNX does not support."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def _extract_embeddings(graph: Any) -> np.ndarray | None:
    """Remove the word embeddings from the graph and return them; their rows become an input of the graph."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    lookups = [n for n in graph.node if n.op_type == "Gather" and n.input[0] in tables and n.input[1] == TOKENS_IN]
    if len(lookups) != 1:
        return None
    (lookup,) = lookups
    tensor = tables[lookup.input[0]]
    table: np.ndarray = onnx.numpy_helper.to_array(tensor)
    if table.ndim != 2 or table.dtype != np.float32:
        return None
    graph.input.append(onnx.helper.make_tensor_value_info(WORDS_IN, tensor.data_type, [1, "length", table.shape[1]]))
    graph.node.remove(lookup)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == lookup.output[0]:
                node.input[index] = WORDS_IN
    if not any(tensor.name in node.input for node in graph.node):
        graph.initializer.remove(tensor)
    if not any(TOKENS_IN in node.input for node in graph.node):
        graph.input.remove(next(i for i in graph.input if i.name == TOKENS_IN))
    return table


def _optimize(graph: Any, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
