"""The loop: resumed is uninterrupted to the last bit; it stops early, at Ctrl-C and at a broken loss as it should."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch

from xmodal_cli.errors import BadData, BadModel, ConfigError
from xmodal_cli.paths import STATE_FILE
from xmodal_cli.reporter import SILENT
from xmodal_cli.training.checkpoint import LoopState, load_state, save_state
from xmodal_cli.training.curves import draw_curves
from xmodal_cli.training.log import RunLog, read_log, rewind_log
from xmodal_cli.training.loop import Interrupted
from xmodal_cli.training.optimizer import build_optimizer, build_schedule


def metrics(log):
    """A log without its throughput."""
    return [{k: v for k, v in record.items() if k != "captions_per_s"} for record in log]


def breaking_at(step: int, error: type[BaseException]):
    """A batch loss that fails the first time ``step`` is reached."""
    count = 0

    def loss(batch, value):
        nonlocal count
        count += 1
        if count == step:
            raise error
        return value

    return loss


def weights(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("steps_before", [3, 9, 17])  # in the first, the second and the third epoch
def test_a_run_killed_in_mid_epoch_resumes_to_the_same_weights_and_metrics(toy, optimizer, steps_before):
    whole = toy("whole", optimizer=optimizer)
    expected = whole.train()
    died = toy("died", optimizer=optimizer, batch_loss=breaking_at(steps_before, ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        died.train()
    resumed = toy("died", optimizer=optimizer)
    found = resumed.train()
    assert found == expected
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert metrics(read_log(resumed.folder)) == metrics(read_log(whole.folder))
    assert len(expected.history) == 3


def test_resuming_continues_the_schedule(toy):
    def settings(steps):
        return {"lr_factor": build_schedule("cosine", steps, 4, 3, 15, 0.1), "epochs": 4}

    whole = toy("whole")
    expected = whole.train(**settings(7))
    died = toy("died", batch_loss=breaking_at(12, ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        died.train(**settings(7))
    resumed = toy("died")
    assert resumed.train(**settings(7)) == expected
    factor = settings(7)["lr_factor"]
    for run in (whole, resumed):
        steps = [record for record in read_log(run.folder) if record["event"] == "step"]
        assert len(steps) > 9
        assert [r["lr"] for r in steps] == [0.01 * factor(r["step"] - 1) for r in steps]


def test_a_longer_training_resumes_where_a_shorter_one_ended(toy):
    long = toy("long")
    expected = long.train(epochs=5)
    short = toy("short")
    short.train(epochs=2)
    assert short.train(epochs=5).history == expected.history
    assert torch.equal(short.model.layers[0].weight, long.model.layers[0].weight)


def test_a_finished_run_is_left_as_it_is(toy):
    run = toy()
    expected = run.train()
    saved, log = list(run.saved), read_log(run.folder)
    assert run.train() == expected
    assert (run.saved, read_log(run.folder)) == (saved, log)


def test_two_runs_of_one_seed_are_the_same_and_of_two_seeds_are_not(toy):
    assert toy("a").train().history == toy("b").train().history
    assert toy("c").train(seed=1).history != toy("a").train().history


def test_the_global_generator_does_not_matter(toy, monkeypatch):
    first, second = toy("a"), toy("b")
    first.train()
    evaluate = second._evaluate
    second._evaluate = lambda: (torch.rand(3), evaluate())[1]  # evaluation may use random numbers
    second.train()
    assert torch.equal(first.model.layers[0].weight, second.model.layers[0].weight)


def test_the_best_model_is_the_one_of_the_best_score(toy):
    run = toy(scores=[1.0, 5.0, 5.0, 3.0, 6.0])
    state = run.train(epochs=5)
    assert [metrics["score"] for metrics in run.saved] == [1.0, 5.0, 6.0]
    assert (state.best_score, state.best_epoch, state.epoch) == (6.0, 5, 5)


def test_training_stops_when_patience_runs_out(toy):
    run = toy(scores=[1.0, 5.0, 4.0, 4.9, 9.0])
    state = run.train(epochs=5, patience=2)
    assert (state.epoch, state.best_epoch) == (4, 2)
    again = toy(scores=[9.0])
    assert again.train(epochs=5, patience=2).epoch == 4  # resumed, it has still run out
    assert toy(scores=[9.0]).train(epochs=5, patience=3).epoch == 5


def test_progress_shows_the_epochs_of_the_run(toy, monkeypatch):
    bar = SILENT.task("", None)
    shown = []
    monkeypatch.setattr(type(bar), "advance", lambda self, amount=1, **facts: shown.append(facts.get("epoch")))
    toy().train(epochs=2)
    assert {epoch for epoch in shown if epoch} == {1, 2}


def test_ctrl_c_in_the_first_epoch_leaves_a_model(toy):
    run = toy(batch_loss=breaking_at(3, KeyboardInterrupt))
    with pytest.raises(Interrupted):
        run.train()
    assert run.saved == [{}]
    assert toy().train() == toy("whole").train()


def test_ctrl_c_later_keeps_the_best_model(toy):
    run = toy(batch_loss=breaking_at(12, KeyboardInterrupt), scores=[3.0])
    with pytest.raises(Interrupted):
        run.train()
    assert run.saved == [{"score": 3.0}]


def test_ctrl_c_while_evaluating_resumes_to_the_same_metrics(toy):
    run = toy()
    evaluate = run._evaluate
    calls = []

    def interrupted():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate()

    run._evaluate = interrupted
    with pytest.raises(Interrupted):
        run.train()
    assert toy().train() == toy("whole").train()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error(toy, bad):
    run = toy(batch_loss=lambda batch, value: value * bad)
    with pytest.raises(BadData, match="not finite at step 2") as caught:
        run.train()
    assert "optimizer.lr" in caught.value.hint
    assert not (run.folder / "last").exists()


def test_gradients_are_clipped(toy):
    steep, clipped = toy("steep"), toy("clipped")
    steep.batch_loss = clipped.batch_loss = lambda batch, value: 1000 * value
    norms = []
    for run, largest in ((steep, 0.0), (clipped, 1e-3)):
        step = torch.optim.Adam.step
        seen = []

        def watched(self, *args, seen=seen, step=step, **kwargs):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            seen.append(torch.cat([g.flatten() for g in grads]).norm().item())
            return step(self, *args, **kwargs)

        torch.optim.Adam.step = watched
        try:
            run.train(grad_clip=largest, epochs=1)
        finally:
            torch.optim.Adam.step = step
        norms.append(seen)
        logged = [record["grad_norm"] for record in read_log(run.folder) if record["event"] == "step"]
        assert min(logged) > 1  # the log has the norm before clipping
    assert min(norms[0]) > 1
    assert norms[1] == pytest.approx([1e-3] * len(norms[1]), rel=1e-3)


def test_the_log_has_steps_and_evaluations(toy):
    run = toy()
    state = run.train(log_every=3)
    log = read_log(run.folder)
    steps, evals = ([r for r in log if r["event"] == event] for event in ("step", "eval"))
    per_epoch = state.step // 3
    assert [r["step"] for r in steps] == [n for n in range(1, state.step + 1) if n % 3 == 0 or n % per_epoch == 0]
    assert [r["epoch"] for r in evals] == [1, 2, 3]
    assert [r["epoch"] for r in steps] == [1 + (r["step"] - 1) // per_epoch for r in steps]
    assert all({"loss", "lr", "grad_norm", "captions_per_s"} <= set(r) for r in steps)
    assert [r["score"] for r in evals] == [h["score"] for h in state.history]


def test_the_log_has_the_last_step_of_each_epoch(toy):
    run = toy()
    state = run.train(log_every=1000)
    steps = [r["step"] for r in read_log(run.folder) if r["event"] == "step"]
    assert steps == [state.step // 3, 2 * state.step // 3, state.step]


# ---------------------------------------------------------------------------- checkpoint, log, curves


def parts(name: str = "adam"):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = build_optimizer(model.parameters(), name, 0.1, 0.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_checkpoint_restores_model_optimizer_and_loop_state(tmp_path, name):
    model, optimizer = parts(name)
    state = LoopState("origin", 3, 42, 7.5, 2, [{"epoch": 1, "score": 0.1 + 0.2}], {"scale": 65536.0})
    save_state(tmp_path, state, {"model": model}, optimizer)
    fresh, other = parts(name)
    torch.nn.init.zeros_(fresh[0].weight)
    other.state.clear()
    assert load_state(tmp_path, {"model": fresh}, other, "origin") == state
    for name_, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name_], value), name_
    before, after = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert before.keys() == after.keys()
    for number, entry in before.items():
        assert entry.keys() == after[number].keys()
        assert all(torch.equal(value, after[number][key]) for key, value in entry.items())
    assert os.listdir(tmp_path) == [STATE_FILE]


def test_a_checkpoint_of_another_origin_is_an_error_before_anything_is_loaded(tmp_path):
    trained, its = parts()
    save_state(tmp_path / "last", LoopState("these data"), {"model": trained}, its)
    model, optimizer = torch.nn.Linear(9, 9), parts()[1]
    with pytest.raises(ConfigError, match="was trained on other data") as caught:
        load_state(tmp_path / "last", {"model": model}, optimizer, "those data")
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("damage", ["truncated", "text", "another model"])
def test_a_damaged_checkpoint_is_a_sentence(tmp_path, damage):
    model, optimizer = parts()
    save_state(tmp_path, LoopState(), {"model": model}, optimizer)
    file = tmp_path / STATE_FILE
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "text":
        file.write_text("hello", encoding="utf-8")
    else:
        model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
    with pytest.raises(BadModel) as caught:
        load_state(tmp_path, {"model": model}, optimizer)
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_rewinding_the_log_drops_later_steps_and_an_incomplete_line(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        for step in range(1, 5):
            log.write("step", step, 0, {"loss": step / 3})
        log.write("eval", 4, 1, {"rsum": 9.0})
    file = tmp_path / "log.jsonl"
    with open(file, "a", encoding="utf-8") as opened:
        opened.write('{"event": "step", "step": 5, "lo')
    assert [r["step"] for r in read_log(tmp_path)] == [1, 2, 3, 4, 4]
    rewind_log(tmp_path, 3)
    assert read_log(tmp_path) == [{"event": "step", "step": s, "epoch": 0, "loss": s / 3} for s in (1, 2, 3)]
    assert [json.loads(line)["step"] for line in file.read_text(encoding="utf-8").splitlines()] == [1, 2, 3]
    rewind_log(tmp_path / "new", 0)
    assert read_log(tmp_path / "new") == []


def test_the_same_numbers_go_to_tensorboard(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with RunLog(tmp_path, tensorboard=True) as log:
        log.write("step", 7, 0, {"loss": 0.5})
    (file,) = (tmp_path / "tensorboard").iterdir()
    content, events = file.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    (scalar,) = [(v.tag, event.step, v.simple_value) for event in events for v in event.summary.value]
    assert scalar == ("step/loss", 7, 0.5)


@pytest.mark.parametrize("filled", [True, False])
def test_the_curves_are_a_png_image(tmp_path, filled):
    from PIL import Image

    with RunLog(tmp_path, tensorboard=False) as log:
        for step in range(1, 20) if filled else ():
            log.write("step", step, 0, {"loss": 10.0 / step})
            log.write("eval", step, step, {"text_to_image R@1": 3.0 * step, "rsum": 9.0})
    with Image.open(draw_curves(tmp_path)) as image:
        assert image.format == "PNG"
        assert image.size == (1000, 400)
        colors = {color for _, color in image.convert("RGB").getcolors(10**6)}
    assert ((31, 119, 180) in colors) == filled  # matplotlib's first line color
