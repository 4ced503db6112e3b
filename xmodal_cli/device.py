"""Which device computes, and in which number format. The only place that asks the hardware."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from xmodal_cli.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def pick_device(name: str = "auto") -> str:
    """The device to compute on, as torch spells it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    ``auto`` takes a CUDA GPU where there is one, then Apple's, then the CPU. Raises ConfigError
    for a device that this machine does not have, UnknownName for a name that is none.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UnknownName.of("device", name, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("this machine has no Apple GPU that torch can use (mps)", "use --device auto or cpu")
    if name.startswith("cuda"):
        _check_cuda(name)
    return name


def pick_dtype(precision: str, device: str) -> torch.dtype:
    """The number format of the forward pass on ``device``.

    ``auto`` is bfloat16 where the hardware computes it (GPUs that have it, CPUs with AVX512-BF16 or
    AMX), else float32. Raises UnknownName, and ConfigError for float16 on a CPU.
    """
    import torch

    if precision not in PRECISIONS:
        raise UnknownName.of("precision", precision, PRECISIONS)
    if precision == "fp16" and device == "cpu":
        raise ConfigError("fp16 is not for CPUs: they compute it slowly or not at all", "use --precision auto or bf16")
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _check_cuda(name: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no CUDA GPU", "use --device auto or cpu; see xmodal doctor")
    count = torch.cuda.device_count()
    if ":" in name and int(name.partition(":")[2]) >= count:
        raise ConfigError(
            f"there is no {name}: this machine has {count} CUDA GPU(s)", f"use cuda:0 to cuda:{count - 1}"
        )


def _has_bf16(device: str) -> bool:
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":  # torch has no public name for these two questions
        return any(
            bool(getattr(torch.cpu, question, lambda: False)())
            for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


def autocast(device: str, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Mixed precision where ``dtype`` is not float32."""
    import torch

    return torch.autocast(device.split(":", maxsplit=1)[0], dtype=dtype, enabled=dtype != torch.float32)
