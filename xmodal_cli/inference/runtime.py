"""Whether images are encoded and captioned with onnxruntime or with torch.

onnxruntime starts in a tenth of a second, torch in several seconds. On a CPU in float32, onnxruntime is faster for any
number of images; torch is faster on a GPU, and on CPUs that compute bfloat16, its start included, for more than
``MIN_TORCH_IMAGES`` images. docs/benchmarks.md has the measurements.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TypeVar

from xmodal_cli.device import RUNTIMES, Compute
from xmodal_cli.errors import INSTALL_ALL, ConfigError, StorageError, Unavailable, UnknownName
from xmodal_cli.reporter import Reporter

Loaded = TypeVar("Loaded")

MIN_TORCH_IMAGES = 500


def has_torch() -> bool:
    """Whether torch is installed; does not import it."""
    return importlib.util.find_spec("torch") is not None


def require_torch(what: str) -> None:
    """Raise Unavailable if torch is not installed; ``what`` needs it."""
    if not has_torch():
        raise Unavailable(f"{what} needs torch, which is not installed", INSTALL_ALL)


def needs_torch(message: str) -> Unavailable:
    """The error for what onnxruntime cannot do; the hint is the other runtime, or how to install it."""
    return Unavailable(message, "use --runtime torch" if has_torch() else INSTALL_ALL)


def choose_runtime(compute: Compute, num_images: int) -> str:
    """``onnx`` or ``torch``, for ``num_images`` images; torch is imported only if it may be faster.

    A requested device other than the CPU, or another precision than fp32, needs torch. Raises UnknownName,
    ConfigError for settings that onnxruntime does not have, Unavailable if torch is needed and not installed.
    """
    requested = compute.runtime
    if requested not in RUNTIMES:
        raise UnknownName.of("runtime", requested, RUNTIMES)
    on_cpu = compute.device in ("auto", "cpu") and compute.precision in ("auto", "fp32")
    if requested == "onnx":
        if not on_cpu:
            raise ConfigError("--runtime onnx runs on the CPU in fp32", "omit --device and --precision")
        return "onnx"
    if requested == "torch" or not on_cpu:
        require_torch("--runtime torch" if requested == "torch" else f"{compute.device} in {compute.precision}")
        return "torch"
    if num_images < MIN_TORCH_IMAGES or not has_torch():
        return "onnx"
    resolved = compute.resolve()
    return "onnx" if (resolved.device, resolved.precision) == ("cpu", "fp32") else "torch"


def load_on_runtime(
    compute: Compute,
    num_images: int,
    reporter: Reporter,
    with_onnx: Callable[[], Loaded],
    with_torch: Callable[[], Loaded],
) -> Loaded:
    """The result of ``with_onnx`` or ``with_torch``, as ``choose_runtime`` decides for ``num_images`` images.

    What cannot be exported, or whose export cannot be written, is loaded with torch, unless onnxruntime is requested.
    Raises the errors of ``choose_runtime`` and of both functions.
    """
    if choose_runtime(compute, num_images) == "torch":
        return with_torch()
    try:
        return with_onnx()
    except (Unavailable, StorageError) as error:
        if compute.runtime == "onnx" or not has_torch():
            raise
        reporter.info(f"{error.message}; torch is used instead")
    return with_torch()
