"""Components are found by file name, and what their ``build`` refuses becomes a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError, UnknownName


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_kind_has_components_and_each_is_found_where_it_is_listed(kind):
    names = catalog.names(kind)
    assert names, f"there is no {kind} at all"
    assert names == sorted(set(names))
    for name in names:
        assert "_" not in name
        assert catalog.path(kind, name).is_file()


def test_dashes_and_underscores_are_one():
    assert catalog.path("preset", "order_emb") == catalog.path("preset", "order-emb")
    assert catalog.load("retrieval_metric", "median_rank") is catalog.load("retrieval_metric", "median-rank")


def test_listing_imports_no_component():
    code = "import sys; from xmodal_cli import catalog; [catalog.names(k) for k in catalog.KINDS];"
    code += "print([m for m in sys.modules if m.startswith('xmodal_cli.') or m in ('torch', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "['xmodal_cli.version', 'xmodal_cli.errors', 'xmodal_cli.settings', 'xmodal_cli.catalog']"
    )


def test_the_hint_for_a_misspelled_component_is_the_closest_name():
    with pytest.raises(UnknownName) as caught:
        catalog.load("text_encoder", "gur")
    assert caught.value.message == "there is no text encoder called 'gur'"
    assert caught.value.hint == "did you mean 'gru'?"


def test_files_with_an_underscore_are_no_components():
    assert not [name for kind in catalog.KINDS for name in catalog.names(kind) if name.startswith(("-", "_"))]
    with pytest.raises(UnknownName):
        catalog.load("text_encoder", "_words")


def test_the_hint_for_an_unknown_argument_is_the_closest_name():
    with pytest.raises(UnknownName) as caught:
        catalog.build("loss", "triplet", {"margn": 0.1})
    assert caught.value.hint == "did you mean 'margin'?"


def test_an_argument_that_the_recipe_gives_cannot_be_set():
    with pytest.raises(UnknownName) as caught:
        catalog.build("image_encoder", "linear", {"embed_dim": 3}, image_dim=4, embed_dim=5)
    assert "embed_dim" not in caught.value.hint


def test_what_the_recipe_offers_and_build_does_not_want_is_left_out():
    assert catalog.build("image_encoder", "identity", {}, image_dim=4, embed_dim=5).out_dim == 4


@pytest.mark.parametrize("args", [{"margin": -1}, {"margin": "wide"}, {"ncon": 3, "hardest_negative": True}])
def test_values_that_build_refuses_are_config_errors(args):
    with pytest.raises(ConfigError, match="loss 'triplet' cannot be built"):
        catalog.build("loss", "triplet", args)


def test_sizes_that_torch_refuses_are_config_errors():
    with pytest.raises(ConfigError, match="text encoder 'gru' cannot be built"):
        catalog.build("text_encoder", "gru", {"word_dim": -3}, vocab_size=9, embed_dim=5)


def test_a_value_of_the_wrong_type_is_a_config_error():
    for value in ("wide", True, [1]):
        with pytest.raises(ConfigError, match="margin must be float"):
            catalog.build("loss", "triplet", {"margin": value})
    with pytest.raises(ConfigError, match="hardest_negative must be bool"):
        catalog.build("loss", "triplet", {"hardest_negative": 1})


def test_numbers_that_no_array_can_have_are_config_errors():
    with pytest.raises(ConfigError, match="margin must be at most 9,007"):
        catalog.build("loss", "triplet", {"margin": 10**20})
    with pytest.raises(ConfigError, match="word_dim must be at most 9,007"):
        catalog.build("text_encoder", "gru", {"word_dim": 10**20}, vocab_size=9, embed_dim=5)
    with pytest.raises(ConfigError, match="num_layers must be at least 1 and at most 1000"):
        catalog.build("image_encoder", "transformer", {"num_layers": 10**9}, image_dim=8, embed_dim=64)


# ---------------------------------------------------------------------------- mistakes of a component's author


@pytest.fixture
def component(monkeypatch):
    """``component(build)``: the image encoder ``linear`` has that ``build`` for a while."""
    module = catalog.load("image_encoder", "linear")
    return lambda build: monkeypatch.setattr(module, "build", build)


def build_linear(args=None, **changes):
    given = {"image_dim": 4, "image_kind": "grid", "embed_dim": 5, **changes}
    return catalog.build("image_encoder", "linear", args or {}, **given)


def test_a_size_that_the_caller_forgot_is_not_the_users_mistake():
    with pytest.raises(TypeError, match="needs 'image_dim'"):
        catalog.build("image_encoder", "linear", {}, embed_dim=5)


def test_a_name_that_is_not_declared_for_the_kind_is_refused():
    with pytest.raises(TypeError, match="vocab_size is not declared"):
        build_linear(vocab_size=9)


def test_a_parameter_without_value_is_reported_to_the_author(component):
    component(lambda image_dim, width: None)
    with pytest.raises(TypeError, match=r"linear.py has a parameter 'width' without a default, and image_dim, image_k"):
        build_linear()


def test_a_misspelled_passed_argument_is_an_error(component):
    component(lambda image_dim, image_knd="global": None)
    with pytest.raises(TypeError, match="did you mean 'image_kind'"):
        build_linear()


def test_parameters_that_are_not_keywords_are_rejected(component):
    component(lambda image_dim, **more: None)
    with pytest.raises(TypeError, match="only keyword parameters"):
        build_linear()


def test_a_similarity_with_parameters_is_rejected(monkeypatch):
    monkeypatch.setattr(catalog.load("similarity", "cosine"), "build", lambda scale=1.0: None)
    with pytest.raises(TypeError, match="only the name of a"):
        catalog.build("similarity", "cosine", {})


@pytest.mark.parametrize("error", [TypeError, KeyError, AttributeError, NotImplementedError, RecursionError])
def test_a_bug_in_build_is_not_caught(component, error):
    def build(image_dim: int, depth: int = 1) -> None:
        raise error("a bug")

    component(build)
    with pytest.raises(error, match="a bug"):
        build_linear({"depth": 2})


def test_a_runtime_error_is_the_users_only_with_arguments_of_the_user(component):
    def build(image_dim: int, depth: int = 1) -> None:
        raise RuntimeError("negative dimension")

    component(build)
    with pytest.raises(ConfigError, match="negative dimension"):
        build_linear({"depth": -2})
    with pytest.raises(RuntimeError, match="negative dimension"):
        build_linear()
