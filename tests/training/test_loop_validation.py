"""When the loop evaluates, which model it keeps, and when it stops."""

from __future__ import annotations

import json
import math

import pytest
import torch

from xmodal_cli.errors import BadData
from xmodal_cli.paths import STATE_FILE
from xmodal_cli.training.log import read_log
from xmodal_cli.training.loop import Interrupted


def evaluations(run):
    return [(r["epoch"], r["step"]) for r in read_log(run.folder) if r["event"] == "eval"]


def weights(run):
    return [value.detach().clone() for value in run.model.parameters()]


def failing_at(step):
    count = 0

    def loss(batch, value):
        nonlocal count
        count += 1
        if count == step:
            raise KeyboardInterrupt
        return value

    return loss


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5])])
def test_the_model_is_evaluated_every_n_epochs_and_at_the_end(toy, every, epochs):
    run = toy()
    state = run.train(epochs=5, validate_every=every)
    size = state.step // 5
    assert evaluations(run) == [(epoch, epoch * size) for epoch in epochs]
    assert [entry["epoch"] for entry in state.history] == epochs


def test_the_model_is_evaluated_every_n_steps_and_at_the_end(toy):
    run = toy()
    state = run.train(validate_every=4, validate_unit="steps")
    size = state.step // 3
    assert size % 4  # evaluations do not coincide with the ends of epochs
    steps = [step for step in range(1, state.step + 1) if step % 4 == 0 or step == state.step]
    assert evaluations(run) == [(math.ceil(step / size), step) for step in steps]
    assert state.best == max(state.history, key=lambda entry: entry["score"])


def test_evaluations_do_not_change_the_weights(toy):
    """The evaluation may use random numbers; the model has dropout."""
    plain, watched = toy("plain"), toy("watched")
    plain.train()
    evaluate = watched._evaluate
    watched._evaluate = lambda: (torch.rand(5), evaluate())[1]
    watched.train(validate_every=1, validate_unit="steps")
    assert len(evaluations(watched)) > 3
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(watched), strict=True))


@pytest.mark.parametrize(
    "how", [{"validate_every": 3, "validate_unit": "steps"}, {"validate_every": 2}, {"validate_every": 1}]
)
@pytest.mark.parametrize("step", [2, 9, 14, 17])
def test_an_interrupted_and_resumed_run_is_that_of_an_uninterrupted_one(toy, how, step):
    whole = toy("whole")
    expected = whole.train(**how)
    with pytest.raises(Interrupted):
        toy("parts", batch_loss=failing_at(step)).train(**how)
    resumed = toy("parts")
    assert resumed.train(**how) == expected
    assert evaluations(resumed) == evaluations(whole)
    assert (whole.folder / "last" / STATE_FILE).read_bytes() == (resumed.folder / "last" / STATE_FILE).read_bytes()


def test_patience_counts_evaluations(toy):
    scores = [5.0, 1.0, 2.0, 9.0]
    state = toy("two", scores=list(scores)).train(epochs=8, validate_every=2, patience=2)
    assert (state.epoch, state.best_epoch, len(state.history)) == (6, 2, 3)
    state = toy("one", scores=list(scores)).train(epochs=4, patience=3)
    assert (state.epoch, state.best_epoch) == (4, 4)


def test_epochs_that_score_zero_do_not_use_up_the_patience(toy):
    scores = [0.0, 0.0, 0.0, 0.0, 3.0, 2.0, 1.0, 8.0]
    run = toy(scores=list(scores))
    state = run.train(epochs=8, patience=2)
    assert (state.epoch, state.best_epoch, state.best_score) == (7, 5, 3.0)
    assert len(run.saved) == 5  # of models that score 0, the last one has learned most


def test_a_lower_score_is_the_best_for_some_metrics(toy):
    run = toy(scores=[9.0, 4.0, 6.0, 3.0])
    state = run.train(epochs=4, lower_is_better=True)
    assert (state.best_epoch, state.best["score"]) == (4, 3.0)
    assert [metrics["score"] for metrics in run.saved] == [9.0, 4.0, 3.0]


@pytest.mark.parametrize("bad_step", [1, 5, 20])
def test_a_loss_that_is_not_finite_is_an_error_also_between_two_lines_of_the_log(toy, bad_step):
    steps = 0

    def loss(batch, value):
        nonlocal steps
        steps += 1
        return value * float("nan") if steps == bad_step else value

    run = toy(batch_loss=loss)
    with pytest.raises(BadData, match="not finite") as caught:
        run.train(log_every=1000)
    assert "optimizer.lr=0.001" in caught.value.hint  # a tenth
    assert ("--out" in caught.value.hint) == bool(run.saved)


def test_the_state_of_an_older_version_is_read(toy):
    from safetensors import safe_open
    from safetensors.torch import save_file

    run = toy(scores=[3.0, 1.0, 2.0])
    run.train()
    file = run.folder / "last" / STATE_FILE
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        loop = json.loads(opened.metadata()["loop"])
    for key in ("best", "waited", "adapted", "tensors", "sha256"):
        del loop[key]
    save_file(tensors, file, metadata={"loop": json.dumps(loop)})
    state = toy(scores=[1.0]).train(epochs=5, patience=3)
    assert (state.epoch, state.best_epoch, state.best["score"]) == (4, 1, 3.0)
