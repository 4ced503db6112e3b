"""Traces modules of torch as ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 17


def trace(
    module: nn.Module,
    inputs: Sequence[Tensor],
    names: tuple[Sequence[str], Sequence[str]],
    dynamic: Mapping[str, Mapping[int, str]] = {},
    is_folded: bool = True,
) -> Any:
    """``module`` in evaluation mode as an onnx.ModelProto; ``names`` are those of its inputs and outputs.

    ``dynamic`` names the axes of variable size. ``is_folded``: compute what depends on weights only, now; else the
    graph has all weights as they are. The tracing exporter exists in every torch since 2.5; the newer exporter does
    not support recurrent layers with a variable length.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _without_fused_attention():
        warnings.simplefilter("ignore")  # deprecation, and branches that the comparison covers
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            buffer,  # type: ignore[arg-type]
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            do_constant_folding=is_folded,
            training=torch.onnx.TrainingMode.EVAL if is_folded else torch.onnx.TrainingMode.PRESERVE,
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
