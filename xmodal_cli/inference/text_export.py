"""A loaded matcher's text side written as ONNX, checked against torch: what ``models.storage.exported_text`` reads.

The graph takes one sentence, as long as it is. The table of word vectors is taken out of it, since a sentence needs a
few rows of it; what is left is optimised here, once.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
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
from xmodal_cli.errors import Unavailable
from xmodal_cli.inference.exported_text import (
    FORMAT,
    GRAPH,
    NOTE,
    TOKENIZER,
    TOKENS_IN,
    VECTOR_OUT,
    WEIGHTS,
    WORDS,
    WORDS_IN,
    ExportedText,
    file_notes,
)
from xmodal_cli.models.poolings.gpo import GeneralizedPooling
from xmodal_cli.models.sequences import positional_encoding
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


OPSET = 17
AGREEMENT = 0.9999  # the least cosine between a vector and torch's
CLOSER = 0.999999  # the least where a tower that was trained with padding is to do without
BESIDE = 4096  # bytes; larger weights stand beside the graph, where they are mapped
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
    """Put the export of a matcher at ``folder``; the matcher is of no more use afterwards.

    ``source`` is what ``source_note`` says of the model's file. Raises Unavailable where it cannot be exported, or the
    export speaks otherwise than the matcher; the reason is left in ``folder``, so that nobody tries again. Raises
    StorageError.
    """
    with atomic_folder.write_lock(folder, "text encoder"):
        atomic_folder.recover(folder)
        with atomic_folder.draft_path(folder) as draft:
            try:
                _write(_on_cpu(loaded), source, draft)
                refused = ""
            except Exception as error:  # an exporter fails in any way
                for file in draft.iterdir():
                    file.unlink()
                refused = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                _keep_note(loaded, source, draft, {"refused": refused})
            atomic_folder.replace_folder(draft, folder)
    if refused:
        raise Unavailable(f"the text encoder of {loaded.name} cannot be exported: {refused}", "torch does its work")


def _on_cpu(loaded: LoadedMatcher) -> LoadedMatcher:
    _network(loaded).to("cpu")
    return replace(loaded, compute=Compute("cpu", "fp32"))


def _network(loaded: LoadedMatcher) -> nn.Module:
    assert isinstance(loaded.model, nn.Module)
    return loaded.model


def _write(loaded: LoadedMatcher, source: dict[str, Any], draft: Path) -> None:
    expected = loaded.embed_texts(SENTENCES)
    (draft / TOKENIZER).write_text(loaded.tokenizer.to_json(), encoding="utf-8")
    towers = [m for m in _network(loaded).modules() if isinstance(m, TextTower)]
    _for_one_sentence(_network(loaded))
    if towers:
        with contextlib.suppress(Exception):  # many do without the padding that they were trained with
            return _write_checked(loaded, source, (0, 0), (expected, CLOSER), draft)
        padding = (towers[0].context_length, towers[0].pad_id)
        return _write_checked(loaded, source, padding, (expected, AGREEMENT), draft)
    return _write_checked(loaded, source, (0, 0), (expected, AGREEMENT), draft)


def _write_checked(
    loaded: LoadedMatcher,
    source: dict[str, Any],
    padding: tuple[int, int],
    wanted: tuple[np.ndarray, float],
    draft: Path,
) -> None:
    """``padding``: up to which length, 0 for none, and its id; ``wanted``: vectors, and the least cosine to them."""
    length, pad_id = padding
    inputs = _write_graph(loaded, draft, length or 5)
    facts = {"length": length, "pad_id": pad_id, "inputs": inputs, "embed_dim": loaded.info.embed_dim}
    _keep_note(loaded, source, draft, facts)
    agreement = _agreement(ExportedText(draft, loaded.info.fingerprint), wanted[0])
    if not agreement > wanted[1]:
        raise ValueError(f"its vectors differ from torch's: cosine {agreement:.6f}")
    _keep_note(loaded, source, draft, facts | {"agreement": agreement})


def _keep_note(loaded: LoadedMatcher, source: dict[str, Any], draft: Path, facts: dict[str, Any]) -> None:
    (draft / NOTE).unlink(missing_ok=True)
    made_by = {"xmodal": __version__, "onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
    head = {"format": FORMAT, "fingerprint": loaded.info.fingerprint, "model": loaded.name, "source": source}
    note = {**head, **facts, "made_by": made_by, "files": file_notes(draft)}
    (draft / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def _agreement(exported: ExportedText, expected: np.ndarray) -> float:
    """The least cosine between what the export and torch make of a sentence; 0 where a length differs."""
    found = exported.embed_texts(SENTENCES).astype(np.float64)
    lengths, norms = np.linalg.norm(found, axis=1), np.linalg.norm(expected.astype(np.float64), axis=1)
    if not np.allclose(lengths, norms, rtol=1e-4, atol=0):
        return 0.0
    return float(((found * expected).sum(1) / np.maximum(lengths * norms, 1e-12)).min())


# ---------------------------------------------------------------------------- the network, for one sentence


class _OneSentence(nn.Module):
    """(1, length) int64 -> (1, embed_dim)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = torch.full((1,), tokens.shape[1], dtype=torch.int64)
        vector: Tensor = self.model.encode_text(tokens, lengths)  # type: ignore[operator]
        return vector


class _Unpadded(nn.Module):
    """A tower of open_clip that is given what it is to see."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.text = tower.text

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        output: Tensor | tuple[Tensor, ...] = self.text(tokens)
        return output[0] if isinstance(output, tuple) else output


class _OnePooling(nn.Module):
    """``GeneralizedPooling`` of one item without padding: its own takes ways that cannot be traced."""

    def __init__(self, pooling: GeneralizedPooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        own = self.pooling
        places = positional_encoding(states.shape[1], own.position_dim)[None]
        forward, backward = own.recurrence(places)[0].chunk(2, dim=-1)
        weights = torch.softmax(own.score((forward + backward) / 2) / own.temperature, dim=1)  # (1, length, 1)
        ranked = states.sort(1, descending=True).values
        return (weights * ranked).sum(1)


class _OneAttention:
    """``nn.MultiheadAttention`` of one item without padding: its own way fixes the length in a trace."""

    def __init__(self, own: nn.MultiheadAttention) -> None:
        self.own = own

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
        """``attn_mask`` may be that of a longer item, as open_clip gives it."""
        own = self.own
        given = [x if own.batch_first else x.transpose(0, 1) for x in (query, key, value)]  # (1, length, dim)
        biases = (None, None, None) if own.in_proj_bias is None else own.in_proj_bias.chunk(3)
        q, k, v = (
            linear(x, w, b).view(1, -1, own.num_heads, own.head_dim).transpose(1, 2)
            for x, w, b in zip(given, own.in_proj_weight.chunk(3), biases, strict=True)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(own.head_dim)  # (1, heads, length, length)
        if attn_mask is not None:
            mask = attn_mask[..., : q.shape[2], : k.shape[2]]
            scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        seen = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(1, -1, own.embed_dim)
        out: Tensor = own.out_proj(seen)
        return (out if own.batch_first else out.transpose(0, 1)), None


def _for_one_sentence(model: nn.Module) -> None:
    """Replace, in place, the parts that are written for many sentences at once."""
    for name, module in list(model.named_modules()):
        replacement: nn.Module
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            module.forward = _OneAttention(module)  # type: ignore[method-assign]
            continue
        if isinstance(module, TextTower):
            replacement = _Unpadded(module)
        elif isinstance(module, GeneralizedPooling):
            replacement = _OnePooling(module)
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, replacement)


# ---------------------------------------------------------------------------- the graph


def _write_graph(loaded: LoadedMatcher, draft: Path, length: int) -> list[str]:
    """Write graph, weights and word vectors; returns the names of the graph's inputs."""
    graph = _trace(_network(loaded), length, loaded.tokenizer.vocab_size)
    table = _take_words(graph.graph)
    if table is not None:
        np.save(draft / WORDS, table)
    optimised = draft / "optimised.onnx"
    _optimise(graph, optimised)
    for file in (GRAPH, WEIGHTS):
        (draft / file).unlink(missing_ok=True)
    onnx.save_model(
        onnx.load(optimised),
        draft / GRAPH,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS,
        size_threshold=BESIDE,
    )
    optimised.unlink()
    (draft / WEIGHTS).touch()  # there is none where no weight is large
    (draft / WEIGHTS).chmod((draft / GRAPH).stat().st_mode)  # it is made for its owner alone, whatever the umask
    return [i.name for i in graph.graph.input]


def _trace(model: nn.Module, length: int, vocab_size: int) -> Any:
    """The graph of one sentence, of any length.

    torch's tracing exporter is the one that every torch since 2.5 has; the newer one cannot follow recurrences over
    sentences of any length.
    """
    tokens = torch.arange(length)[None] % vocab_size
    written = io.BytesIO()
    with warnings.catch_warnings(), _plain_attention():
        warnings.simplefilter("ignore")  # it warns of its age, and of branches that do not matter here: see the check
        torch.onnx.export(
            _OneSentence(model).eval(),
            (tokens,),
            written,  # type: ignore[arg-type]
            input_names=[TOKENS_IN],
            output_names=[VECTOR_OUT],
            dynamic_axes={TOKENS_IN: {1: "length"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(written.getvalue())


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused kernels of torch's transformer layers, which ONNX does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _take_words(graph: Any) -> np.ndarray | None:
    """Take the table that the tokens are looked up in out of the graph; its rows become an input in its place."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    found = [n for n in graph.node if n.op_type == "Gather" and n.input[0] in tables and n.input[1] == TOKENS_IN]
    if len(found) != 1:
        return None
    (lookup,) = found
    tensor = tables[lookup.input[0]]
    table: np.ndarray = onnx.numpy_helper.to_array(tensor)
    if table.ndim != 2 or table.dtype != np.float32:
        return None
    graph.input.append(onnx.helper.make_tensor_value_info(WORDS_IN, tensor.data_type, [1, "length", table.shape[1]]))
    graph.node.remove(lookup)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == lookup.output[0]:
                node.input[place] = WORDS_IN
    if not any(tensor.name in node.input for node in graph.node):
        graph.initializer.remove(tensor)
    if not any(TOKENS_IN in node.input for node in graph.node):
        graph.input.remove(next(i for i in graph.input if i.name == TOKENS_IN))
    return table


def _optimise(graph: Any, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
