"""The device and the precision of computations. The only module that queries the hardware."""

from __future__ import annotations

import os
import re
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from xmodal_cli.errors import ConfigError, Unavailable, UnknownName
from xmodal_cli.shell_commands import install_command

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
RUNTIMES = ("auto", "onnx", "torch")
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Compute:
    """The device, the precision and the runtime, as given by ``--device``, ``--precision`` and ``--runtime``.

    With the engine ``ray``, images are processed by the Ray cluster at ``address`` (see ``features/ray_mapping.py``).
    ``resolve`` replaces ``auto`` by concrete values for torch on this machine; ``dtype`` and ``autocast`` need those.
    """

    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    engine: str = "local"
    address: str = ""

    def __post_init__(self) -> None:
        """Raise UnknownName for a device or a precision that exists on no machine."""
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise UnknownName.of("device", self.device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        if self.precision not in PRECISIONS:
            raise UnknownName.of("precision", self.precision, PRECISIONS)
        if self.engine not in ENGINES:
            raise UnknownName.of("engine", self.engine, ENGINES)
        if self.address and self.engine != "ray":
            raise ConfigError("--address is that of a Ray cluster", "add --engine ray")

    @property
    def of_worker(self) -> Compute:
        """The settings in each process of the engine."""
        return Compute(self.device, self.precision, self.runtime)

    def check(self) -> None:
        """Raise the errors of ``resolve`` and ``require_ray``; torch is imported only for what may be missing here."""
        if self.engine == "ray":
            require_ray()
        if self.device not in ("auto", "cpu") or self.precision == "fp16":
            self.resolve()

    def resolve(self) -> Compute:
        """A copy with concrete names, such as ``cpu``, ``cuda:1`` and ``fp32``, ``bf16``.

        The device ``auto`` is a CUDA GPU if available, else an Apple GPU, else the CPU. The precision ``auto`` is bf16
        if the hardware supports it (CPUs: with AVX512-BF16 or AMX), else fp32.
        Raises ConfigError for a device that is not available and for fp16 on a CPU.
        """
        device = _resolve_device(self.device)
        return Compute(device, _resolve_precision(self.precision, device), "torch")

    @property
    def description(self) -> str:
        """The library, the device and the precision of a resolved ``Compute``, for messages."""
        return f"{'onnxruntime' if self.runtime == 'onnx' else self.runtime}, {self.device}, {self.precision}"

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of the precision."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]:
        """Automatic mixed precision, unless the precision is fp32; ``enabled=False`` disables it locally."""
        import torch

        enabled = enabled and self.precision != "fp32"
        return torch.autocast(self.device.partition(":")[0], self.dtype, enabled=enabled)


def require_ray() -> None:
    """Raise Unavailable if Ray is not installed; does not import it."""
    if find_spec("ray") is None:
        raise Unavailable("Ray is not installed", f"install it: {install_command('ray>=2.40')}")


def _resolve_device(name: str) -> str:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("this machine has no Apple GPU that torch can use (mps)", "use --device auto or cpu")
    if name.startswith("cuda"):
        _check_cuda(name)
    return name


def _resolve_precision(precision: str, device: str) -> str:
    if precision == "fp16" and device == "cpu":
        raise ConfigError("fp16 is not supported on CPUs", "use --precision auto or bf16")
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return precision


def _check_cuda(name: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no CUDA GPU", "use --device auto or cpu; see xmodal doctor")
    count = torch.cuda.device_count()
    if ":" in name and int(name.partition(":")[2]) >= count:
        raise ConfigError(
            f"{name} does not exist: this machine has {count} CUDA GPU(s)", f"use cuda:0 to cuda:{count - 1}"
        )


def cpu_count() -> int:
    """The number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def num_threads() -> int:
    """The number of threads of torch if it is loaded, else ``OMP_NUM_THREADS`` or the number of cores."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdecimal() and int(setting) else cpu_count()


def set_num_threads(number: int) -> None:
    """Set the number of threads of torch if it is loaded; sessions of onnxruntime have a fixed number."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def has_bf16(device: str) -> bool:
    """Whether the hardware computes bfloat16: some GPUs, and CPUs with AVX512-BF16 or AMX."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":  # torch has no public functions for these
        return any(
            bool(getattr(torch.cpu, function, lambda: False)())
            for function in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False
