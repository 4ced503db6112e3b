"""Export of captioners to ONNX: the encoding of images and one decoding step, compared with torch.

A captioner can be exported if its decoding state has ``tensors()`` and ``with_tensors(tensors, position)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xmodal_cli.inference.onnx_captioner import (
    ATTENTION_OUT,
    FEATURES_IN,
    LOG_PROBS_OUT,
    NEW,
    POSITION_IN,
    START,
    STEP,
    TOKENS_IN,
    OnnxCaptioner,
)
from xmodal_cli.inference.onnx_tracing import trace
from xmodal_cli.inference.onnx_writing import ExportRecord, save_graph, step_inputs, write_export

MAX_DIFFERENCE = 1e-3  # between log-probabilities, or attention weights, of the export and of torch
NUM_STEPS = 6  # that are compared


def export_captioner(model: nn.Module, features: np.ndarray, record: ExportRecord, folder: Path) -> None:
    """Export a captioner that is on the CPU in float32, in evaluation mode. Raises Unavailable and StorageError.

    ``features`` (images, ...) float32 are those of different images, at least four.
    """
    write_export(folder, record, lambda draft: _write(model, torch.from_numpy(features), record, draft))


def trace_captioner(model: nn.Module, features: Tensor, is_folded: bool = True) -> tuple[Any, Any, dict[str, Any]]:
    """The graphs of the start and of a step as onnx.ModelProto, and the facts for ``export.json``."""
    with torch.no_grad():
        small, large = _advance(model, features[:2], 3, 2), _advance(model, features[:4], 5, 3)
        first_position = _position_of(model.start(features[:1]))  # type: ignore[operator]
        names, rows, changed = _names(model, small, torch.zeros(2, 3, dtype=torch.int64))
    start_axes = {name: {0: "images"} for name in (FEATURES_IN, *names)}
    start = trace(_Start(model), [features[:2]], ([FEATURES_IN], names), start_axes, is_folded)
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    inputs = [tokens, torch.tensor(_position_of(small)), *small.tensors().values()]
    outputs = [LOG_PROBS_OUT, *([ATTENTION_OUT] if small.attention is not None else [])]
    outputs += [NEW + name for name in changed]
    axes = _dynamic_axes(small.tensors(), large.tensors()) | {TOKENS_IN: {0: "images", 1: "rows"}}
    axes |= {name: {0: "images", 1: "rows"} for name in outputs[: len(outputs) - len(changed)]}
    axes |= {NEW + name: {axis: f"{label}_out" for axis, label in axes[name].items()} for name in changed}
    step = trace(_Step(model, small, changed), inputs, ([TOKENS_IN, POSITION_IN, *names], outputs), axes, is_folded)
    facts = {"state": names, "rows": rows, "changed": changed, "attention": small.attention is not None}
    sizes = {"vocab_size": int(model.vocab_size), "position": first_position}  # type: ignore[arg-type]
    return start, step, facts | sizes


def write_graphs(start: Any, step: Any, draft: Path) -> list[str]:
    """Write the two graphs and return the names of the inputs of a step."""
    save_graph(start, draft, Path(START).stem)
    save_graph(step, draft, Path(STEP).stem)
    return step_inputs(draft / STEP)


def _write(model: nn.Module, features: Tensor, record: ExportRecord, draft: Path) -> None:
    start, step, facts = trace_captioner(model, features)
    facts["inputs"] = write_graphs(start, step, draft)
    record.save(draft, facts)
    difference = max(
        compare_steps(model, OnnxCaptioner(draft, record.fingerprint), features[:images], rows)
        for images, rows in ((1, 1), (3, 4))
    )
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(f"its log-probabilities differ from torch's by {difference:.6f}")
    record.save(draft, facts | {"difference": difference})


class _Start(nn.Module):
    """(images, ...) features -> the tensors of the initial state."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.start(features).tensors().values())


class _Step(nn.Module):
    """Tokens (images, rows), position, tensors of a state -> log-probabilities, attention, changed tensors."""

    def __init__(self, model: Any, state: Any, changed: Sequence[str]) -> None:
        super().__init__()
        self.model, self.state, self.changed = model, state, changed

    def forward(self, tokens: Tensor, position: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        state = self.state.with_tensors(dict(zip(self.state.tensors(), tensors, strict=True)), position)
        with torch.enable_grad():  # states then do not share a buffer
            log_probs, state = self.model.step(state, tokens)
        attention = () if state.attention is None else (state.attention,)
        return (log_probs, *attention, *(state.tensors()[name] for name in self.changed))


def _advance(model: Any, features: Tensor, rows: int, num_steps: int) -> Any:
    """The state after ``num_steps`` tokens."""
    state, parents = model.start(features), torch.zeros(len(features), rows, dtype=torch.int64)
    for _ in range(num_steps):
        _, state = model.step(state.select(parents), parents)
        parents = torch.arange(rows).expand(len(features), -1)
    return state


def _position_of(state: Any) -> int:
    """The position of the next token; 0 for states that do not depend on it."""
    return int(getattr(state, "position", 0))


def _names(model: Any, state: Any, parents: Tensor) -> tuple[list[str], list[str], list[str]]:
    """The names of all tensors of a state, of those that ``select`` reorders, and of those that a step changes."""
    _, stepped = model.step(state, parents)
    before = state.tensors()
    rows = [name for name, tensor in state.select(parents).tensors().items() if not _is_same(tensor, before[name])]
    changed = [name for name, tensor in stepped.tensors().items() if not _is_same(tensor, before[name])]
    return list(before), rows, changed


def _is_same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.data_ptr() == second.data_ptr()


def _dynamic_axes(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
    """The axes whose sizes differ, by name of the tensor; those of different tensors have different labels."""
    return {
        name: {axis: f"{name}_{axis}" for axis, size in enumerate(tensor.shape) if size != large[name].shape[axis]}
        for name, tensor in small.items()
    }


def compare_steps(model: Any, exported: OnnxCaptioner, features: Tensor, rows: int) -> float:
    """The largest difference between log-probabilities, and attention weights, over several steps of random tokens."""
    generator, difference = torch.Generator().manual_seed(0), 0.0
    with torch.no_grad():
        expected, actual = model.start(features), exported.start(features.numpy())
        num_rows = 1
        for _ in range(NUM_STEPS):
            parents = torch.randint(num_rows, (len(features), rows), generator=generator)
            tokens = torch.randint(exported.vocab_size, (len(features), rows), generator=generator)
            log_probs, expected = model.step(expected.select(parents), tokens)
            found, actual = exported.step(actual.select(parents.numpy()), tokens.numpy())
            pairs = [(log_probs, found), (expected.attention, actual.attention)]
            for ours, other in pairs if expected.attention is not None else pairs[:1]:
                difference = max(difference, float(np.abs(ours.numpy() - other).max()))
            num_rows = rows
    return difference
