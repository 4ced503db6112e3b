"""The memory that a process can allocate."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xmodal_cli import memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_of_the_process_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000)); "
        "from xmodal_cli.memory import available_bytes; print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 2_000_000_000


def test_the_smallest_known_limit_counts(monkeypatch):
    for name, value in (("_machine", 7), ("_control_group", None), ("_address_space", 5)):
        monkeypatch.setattr(memory, name, lambda value=value: value)
    assert memory.available_bytes() == 5
    for name in ("_machine", "_address_space"):
        monkeypatch.setattr(memory, name, lambda: None)
    assert memory.available_bytes() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_total_does_not_depend_on_what_is_used():
    available, total = memory.available_bytes(), memory.total_bytes()
    used = bytearray(200_000_000)
    assert memory.total_bytes() == total > available
    assert used


@pytest.mark.parametrize(("size", "text"), [(1.5e9, "1.5 GB"), (24e6, "24.0 MB"), (4.2e12, "4,200.0 GB")])
def test_sizes_in_messages(size, text):
    assert memory.format_bytes(size) == text
