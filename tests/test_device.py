"""The record of device and precision: what ``auto`` becomes, what is refused, mixed precision."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, UnknownName


def test_concrete_names_stay_and_auto_becomes_concrete():
    assert Compute("cpu", "fp32", "torch").resolve() == Compute("cpu", "fp32", "torch")
    assert Compute("cpu").resolve().precision in ("fp32", "bf16")
    found = Compute().resolve()
    assert found.device in ("cpu", "cuda", "mps") and found.precision in ("fp32", "bf16")
    assert found.resolve() == found


@pytest.mark.parametrize("wrong", ["gpu", "cuda:x", "cpu0", ""])
def test_other_devices_are_refused(wrong):
    with pytest.raises(UnknownName):
        Compute(wrong).resolve()


def test_what_the_machine_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="cuda:99"):
        Compute("cuda:99").resolve()
    with pytest.raises(ConfigError, match="fp16"):
        Compute("cpu", "fp16").resolve()
    with pytest.raises(UnknownName, match="fp64"):
        Compute("cpu", "fp64").resolve()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_dtype_of_the_precision(precision, dtype):
    compute = Compute("cpu", precision).resolve()
    assert compute.dtype is dtype
    layer, rows = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with compute.autocast():
        assert layer(rows).dtype is dtype
        with compute.autocast(enabled=False):
            assert layer(rows).dtype is torch.float32


def test_an_unresolved_record_needs_no_torch():
    code = "import sys; from xmodal_cli.device import Compute; Compute(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
