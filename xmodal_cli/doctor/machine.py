"""Checks of processor, memory and GPU, and the values of ``--device auto --precision auto`` on this machine."""

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
from xmodal_cli.doctor.software import is_light

AREA = "machine"
CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
NVIDIA = Path("/proc/driver/nvidia/version")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # relevant for the speed of networks
INDEX_MEMORY = 1.5e9  # bytes that indexing may need


def processor(probe: Probe) -> Iterator[Finding]:
    """The cores available to this process, and instruction sets that speed up networks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{platform.machine()}, {cores} core{'s' * (cores != 1)}"]
    flags = _flags()
    if flags:
        parts.append(" ".join(f for f in FEATURES if f in flags) or "no known vector instructions")
    if probe.facts:
        threads = probe.facts["threads"]
        parts.append(f"torch uses {probe.facts['instructions']}, {threads} thread{'s' * (threads != 1)}")
    slow = bool(flags) and platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags
    remedy = "networks are slow on this processor; use a GPU" if slow else ""
    yield Finding(AREA, "processor", "warn" if slow else "ok", "; ".join(parts), remedy)


def _flags() -> set[str]:
    """The CPU flags as reported by Linux; empty on other systems."""
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    return set()


def memory() -> Iterator[Finding]:
    """Total and available memory; only on Linux."""
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
    """The GPUs that torch can use, none without torch; a warning if there is an NVIDIA driver but no such GPU."""
    has_driver = NVIDIA.exists() or shutil.which("nvidia-smi") is not None
    if is_light():
        return
    if not probe.facts:
        found = "NVIDIA driver installed" if has_driver else "no NVIDIA driver"
        yield Finding(AREA, "GPU", "ok", f"{found}; not checked, as torch is not available")
        return
    for index, facts in enumerate(probe.facts["gpus"]):
        yield _gpu(index, facts, probe.facts["built_for"])
    if probe.facts["gpus"]:
        return
    if has_driver:
        found = f"NVIDIA driver installed, but torch, built for {probe.facts['built_for']}, finds no GPU"
        remedy = "check that nvidia-smi lists the GPU, and install torch and torchvision builds for its CUDA version"
        yield Finding(AREA, "GPU", "warn", found, remedy)
    else:
        yield Finding(AREA, "GPU", "ok", "Apple GPU" if probe.facts["device"] == "mps" else "none")


def _gpu(index: int, facts: dict[str, Any], built_for: str) -> Finding:
    found = f"cuda:{index} {facts['name']}, {size(facts['memory'])}, {built_for}"
    if not facts["error"]:
        return Finding(AREA, "GPU", "ok", found)
    remedy = "use --device cpu, or install a torch build for this GPU and its driver"
    return Finding(AREA, "GPU", "fail", f"computation on {found} fails: {facts['error']}", remedy)


def auto(probe: Probe) -> Iterator[Finding]:
    """The values of ``auto`` on this machine."""
    if is_light():
        yield Finding(AREA, "device", "ok", "auto is --device cpu --precision fp32, on onnxruntime")
        return
    if not probe.facts:
        reason = probe.error or "torch is not available"
        yield Finding(AREA, "device", "fail", f"the device cannot be determined: {reason}", "fix torch first")
        return
    names = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    precision = names.get(probe.facts["precision"], probe.facts["precision"])
    yield Finding(AREA, "device", "ok", f"auto is --device {probe.facts['device']} --precision {precision}")
