"""``xmodal eval`` of a tagger: scores equal those of a slow formula, and options of other kinds are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import xmodal_cli
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel
from xmodal_cli.features.cache import load_features
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.taggers import load_tagger


def slow_map(probabilities, captions, tags) -> float:
    values = []
    for column, tag in enumerate(tags):
        has = [any(tag in caption.lower().split() for caption in texts) for texts in captions]
        ranked = [has[n] for n in np.argsort(-probabilities[:, column])]
        precisions = [sum(ranked[: n + 1]) / (n + 1) for n, found in enumerate(ranked) if found]
        values += [sum(precisions) / len(precisions)] if precisions else []
    return sum(values) / len(values)


def test_eval_prints_the_mean_average_precision(xmodal, planted, trained_tagger):
    outcome = xmodal("eval", trained_tagger, "--data", planted, "--json", "--precision", "fp32", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    result, loaded = outcome.json, load_tagger(str(trained_tagger), Compute("cpu", "fp32"))
    test = load_dataset(str(planted)).select("test")
    probabilities = loaded.probabilities(torch.from_numpy(np.array(load_features(test, FeaturesConfig()).values)))
    expected = slow_map(probabilities, [e.captions for e in test.examples], loaded.tags)
    assert result["map"] == pytest.approx(expected, abs=1e-6)
    assert (result["model"], result["split"], result["images"]) == (trained_tagger.name, "test", 45)
    assert result["scored_tags"] <= result["tags"] == len(loaded.tags)
    same = xmodal_cli.evaluate(trained_tagger, planted, device="cpu", precision="fp32")
    assert xmodal_cli.to_json(same) == {**result, "data": str(planted)}


def test_two_taggers_are_one_table(xmodal, planted, trained_tagger):
    outcome = xmodal("eval", trained_tagger, trained_tagger, "--data", planted)
    assert outcome.code == 0, outcome.err
    assert "mAP" in outcome.out and "P@5" in outcome.out and "toy-tagger (2)" in outcome.out


@pytest.mark.parametrize(
    "option", [("--folds", 5), ("--bootstrap", 10), ("--ndcg",), ("--ranks", "r.csv"), ("--beam", 2), ("--ensemble",)]
)
def test_options_of_other_kinds_are_refused(xmodal, planted, trained_tagger, option):
    outcome = xmodal("eval", trained_tagger, "--data", planted, *option)
    assert outcome.code == 1
    assert f"{option[0]} applies only to " in outcome.err


def test_a_tagger_is_not_compared_with_other_kinds(xmodal, planted, trained, trained_tagger):
    outcome = xmodal("eval", trained, trained_tagger, "--data", planted)
    assert outcome.code == 1
    assert "no metrics in common" in outcome.err
    assert xmodal("eval", trained_tagger).code == 1
    with pytest.raises(BadModel, match="is a tagger, not a matcher"):
        load_matcher(str(trained_tagger))


def test_info_and_list_show_a_tagger(xmodal, trained_tagger, home):
    (home / "models").mkdir()
    (home / "models" / "words.safetensors").write_bytes((trained_tagger / "model.safetensors").read_bytes())
    facts = xmodal("models", "info", "words", "--json").json
    assert (facts["kind"], facts["vocabulary"]) == ("tagger", len(facts["architecture"]["tags"]))
    shown = xmodal("models", "info", "words")
    assert shown.code == 0 and "mAP" in shown.out
    (entry,) = [entry for entry in xmodal("models", "list", "--json").json if entry["name"] == "words"]
    assert entry["map"] == pytest.approx(facts["metrics"]["map"])
