"""The log holds what JSON can hold."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.training.log import RunLog, read_log


def test_a_number_that_is_not_finite_is_null_since_json_has_none(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.write("step", 1, 0, {"loss": 1.0, "grad_norm": float("inf")})
    assert read_log(tmp_path) == [{"event": "step", "step": 1, "epoch": 0, "loss": 1.0, "grad_norm": None}]
    assert "Infinity" not in (tmp_path / "log.jsonl").read_text()
