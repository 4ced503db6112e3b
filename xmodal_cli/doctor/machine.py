"""The machine: its processor, memory and GPU, and what ``--device auto --precision auto`` makes of them."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodal_cli.doctor.finding import Finding, size
from xmodal_cli.doctor.probe import Probe

AREA = "machine"
CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
NVIDIA = Path("/proc/driver/nvidia/version")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # those that change the speed of a network
INDEX_MEMORY = 1.5e9  # bytes that indexing may take


def processor(probe: Probe) -> Iterator[Finding]:
    """Cores this process may use, and the instructions that networks gain by."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{platform.machine()}, {cores} core{'s' * (cores != 1)}"]
    flags = _flags()
    if flags:
        parts.append(" ".join(f for f in FEATURES if f in flags) or "no vector instructions of note")
    if probe.facts:
        threads = probe.facts["threads"]
        parts.append(f"torch uses {probe.facts['instructions']}, {threads} thread{'s' * (threads != 1)}")
    slow = bool(flags) and platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags
    remedy = "networks will be slow on this processor; a GPU helps" if slow else ""
    yield Finding(AREA, "processor", "warn" if slow else "ok", "; ".join(parts), remedy)


def _flags() -> set[str]:
    """The processor's features as Linux names them; none are known elsewhere."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    return set()


def memory() -> Iterator[Finding]:
    """How much there is, and how much is free for programs."""
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        amounts = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        total, free = amounts["MemTotal"], amounts["MemAvailable"]
    except (OSError, ValueError, IndexError, KeyError):
        return  # not Linux
    found = f"{size(total)}, {size(free)} of it available"
    if free < INDEX_MEMORY:
        yield Finding(AREA, "memory", "warn", found, f"indexing may take {size(INDEX_MEMORY)}; close other programs")
    else:
        yield Finding(AREA, "memory", "ok", found)


def gpu(probe: Probe) -> Iterator[Finding]:
    """GPUs that torch can compute on; a driver without one is a torch of the wrong build."""
    has_driver = NVIDIA.exists() or shutil.which("nvidia-smi") is not None
    if not probe.facts:
        found = "an NVIDIA driver is here" if has_driver else "no NVIDIA driver is here"
        yield Finding(AREA, "GPU", "ok", f"{found}; torch could not be asked")
        return
    for number, facts in enumerate(probe.facts["gpus"]):
        yield _gpu(number, facts, probe.facts["built_for"])
    if probe.facts["gpus"]:
        return
    if has_driver:
        found = f"an NVIDIA driver is here, but torch, built for {probe.facts['built_for']}, sees no GPU"
        remedy = "see that nvidia-smi lists it, and install torch and torchvision built for its CUDA"
        yield Finding(AREA, "GPU", "warn", found, remedy)
    else:
        yield Finding(AREA, "GPU", "ok", "Apple's" if probe.facts["device"] == "mps" else "none")


def _gpu(number: int, facts: dict[str, Any], built_for: str) -> Finding:
    found = f"cuda:{number} {facts['name']}, {size(facts['memory'])}, {built_for}"
    if not facts["error"]:
        return Finding(AREA, "GPU", "ok", found)
    remedy = "use --device cpu, or install a torch that is built for this GPU and its driver"
    return Finding(AREA, "GPU", "fail", f"{found} does not compute: {facts['error']}", remedy)


def auto(probe: Probe) -> Iterator[Finding]:
    """What ``auto`` stands for here."""
    if not probe.facts:
        reason = probe.error or "torch could not be asked"
        yield Finding(
            AREA,
            "device",
            "fail",
            f"what auto means is not known: {reason}",
            "mend torch first",
        )
        return
    formats = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    precision = formats.get(probe.facts["precision"], probe.facts["precision"])
    yield Finding(AREA, "device", "ok", f"auto is --device {probe.facts['device']} --precision {precision}")
