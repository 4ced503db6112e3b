"""Settings: who wins, what is refused, and that a saved configuration is the configuration."""

from __future__ import annotations

import copy
import json
import tomllib
from dataclasses import replace

import pytest

from xmodal_cli import catalog
from xmodal_cli.config import Component, Config, first_names, from_dict, load_config, to_dict, to_toml, upgrade
from xmodal_cli.config.renames import RENAMED, RENAMED_COMPONENTS
from xmodal_cli.config.sections import MODEL_KINDS, OPTIMIZERS, SCHEDULES, OptimizerConfig
from xmodal_cli.config.toml_text import walk
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.models.captioners.show_attend_tell import ATTENTION
from xmodal_cli.settings import check_settings, info_of
from xmodal_cli.trainers.objective import OBJECTIVES
from xmodal_cli.training import optimizer
from xmodal_cli.types import Decoding


def test_defaults_then_preset_then_set_and_the_last_set_wins():
    assert Config().optimizer.lr == 2e-4
    assert load_config("order-emb").optimizer.lr == 0.001
    settings = ["optimizer.lr=0.5", "training.epochs=3", "optimizer.lr=0.25"]
    config = load_config("order-emb", settings)
    assert (config.optimizer.lr, config.training.epochs) == (0.25, 3)
    assert config.optimizer.name == load_config("order-emb").optimizer.name


def test_flags_win_over_set(xmodal):
    done = xmodal("train", "--model", "vse", "--print-config", "--seed", 5, "--set", "training.seed=4")
    assert tomllib.loads(done.out)["training"]["seed"] == 5
    done = xmodal("train", "--model", "vse", "--print-config", "--backbone", "vgg19", "--precision", "fp32")
    shown = tomllib.loads(done.out)
    assert (shown["features"]["backbone"], shown["training"]["precision"]) == ("vgg19", "fp32")


def test_flags_left_alone_leave_the_settings_alone(xmodal):
    done = xmodal("train", "--model", "vse", "--print-config", "--set", "training.precision=bf16")
    assert tomllib.loads(done.out)["training"]["precision"] == "bf16"


@pytest.mark.parametrize(
    ("setting", "where", "value"),
    [
        ("training.epochs=7", ("training", "epochs"), 7),
        ("training.tensorboard=false", ("training", "tensorboard"), False),
        ("optimizer.lr=3e-4", ("optimizer", "lr"), 3e-4),
        ("optimizer.lr=1", ("optimizer", "lr"), 1.0),
        ("optimizer.name=adamw", ("optimizer", "name"), "adamw"),
        ('optimizer.name="adamw"', ("optimizer", "name"), "adamw"),
        ("training.device=cuda:1", ("training", "device"), "cuda:1"),
        ("data.train_splits=train", ("data", "train_splits"), ("train",)),
        ("data.train_splits=train, restval", ("data", "train_splits"), ("train", "restval")),
        ('data.train_splits=["train", "val"]', ("data", "train_splits"), ("train", "val")),
        ("features.backbone=open_clip/ViT-B-32/laion2b", ("features", "backbone"), "open_clip/ViT-B-32/laion2b"),
        (" training.epochs = 7 ", ("training", "epochs"), 7),
    ],
)
def test_a_setting_of_every_type_is_understood(setting, where, value):
    config = load_config("vse", [setting])
    found = getattr(getattr(config, where[0]), where[1])
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("setting", "must_be"),
    [
        ("training.epochs=many", "a whole number"),
        ("training.epochs=1.5", "a whole number"),
        ("training.epochs=true", "a whole number"),
        ("training.tensorboard=1", "true or false"),
        ("optimizer.lr=fast", "a number"),
        ("optimizer.lr=true", "a number"),
        ("optimizer.name=3", "a word"),
        ("data.train_splits=3", "a list of words"),
        ("data.train_splits=[1, 2]", "a list of words"),
        ("model.text_encoder.name=3", "a word"),
        ("model.text_encoder=3", "a section"),
        ("model=vse", "a section"),
        ("loss.args=3", "a table"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_it_must_be(setting, must_be):
    with pytest.raises(ConfigError) as caught:
        load_config("vse", [setting])
    assert setting.partition("=")[0] in caught.value.message
    assert must_be in caught.value.message


@pytest.mark.parametrize(
    "setting",
    [
        "training.epochs=0",
        "training.batch_size=0",
        "training.log_every=0",
        "training.patience=-1",
        "schedule.step_epochs=0",
        "model.embed_dim=-1",
    ],
)
def test_whole_numbers_have_a_minimum(setting):
    with pytest.raises(ConfigError, match="must be at least"):
        load_config("vse", [setting])


@pytest.mark.parametrize(
    ("setting", "bound"),
    [
        ("optimizer.lr=-0.1", "above 0"),
        ("optimizer.lr=-1", "above 0"),
        ("optimizer.lr=0", "above 0"),
        ("optimizer.lr=nan", "above 0"),
        ("optimizer.lr=inf", "above 0"),
        ("optimizer.grad_clip=-1", "at least 0"),
        ("optimizer.image_tower_lr_scale=-1", "at least 0"),
        ("schedule.gamma=0", "above 0 and at most 1"),
        ("schedule.gamma=2", "above 0 and at most 1"),
        ("training.ema=1", "at least 0 and below 1"),
        ("training.seed=4294967296", "at least 0 and at most 4294967295"),
        ("features.crops=3", "1, 2 or 10"),
        ("augmentation.min_area=0", "above 0 and at most 1"),
        ("augmentation.flip=1.5", "at least 0 and at most 1"),
        ("augmentation.jitter=1", "at least 0 and below 1"),
        ("captioning.tag_prob=2", "at least 0 and at most 1"),
        ("captioning.scheduled_sampling=-0.5", "at least 0 and at most 1"),
        ("decoding.top_p=0", "above 0 and at most 1"),
        ("decoding.temperature=0", "above 0"),
        ("decoding.beam=0", "at least 1 and at most 100000"),
        ("decoding.beam=99999999999999999999", "at most 9,007,199,254,740,992"),
        ("decoding.beam=1000000000000", "at least 1 and at most 100000"),
        ("decoding.num=1000000000000", "at least 1 and at most 100000"),
        ("training.batch_size=99999999999999999999", "at most 9,007,199,254,740,992"),
        ("decoding.max_length=1000000000000", "at least 1 and at most 1000"),
        ("decoding.length_penalty=1e308", "at least 0 and at most 10"),
        ("model.embed_dim=1000000000000", "at least 0 and at most 65536"),
    ],
)
def test_a_number_outside_its_bounds_is_refused(setting, bound):
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError) as caught:
        load_config("vse", [setting])
    assert caught.value.message.startswith(f"{key} must be {bound}, not ")
    assert float(value) == pytest.approx(float(caught.value.message.rpartition(" ")[2]), nan_ok=True)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("kind=captoner", "did you mean 'captioner'?"),
        ("optimizer.name=adamm", "did you mean 'adam'?"),
        ("schedule.name=cosin", "did you mean 'cosine'?"),
        ("training.precision=int4", "the default is 'auto'"),
    ],
)
def test_a_name_that_is_not_a_choice_is_refused(setting, hint):
    with pytest.raises(UnknownName) as caught:
        load_config("vse", [setting])
    assert caught.value.message.startswith(f"{setting.partition('=')[0]} must be ")
    assert caught.value.hint == hint


@pytest.mark.parametrize("settings", [["training.epochs=-1"], ["training.epochs=3", "training.epochs=-1"]])
def test_the_hint_has_the_value_of_the_preset(settings):
    with pytest.raises(ConfigError) as caught:
        load_config("order-emb", settings)
    assert caught.value.hint == "the default is 8"  # that of order-emb; the declared one is 15
    with pytest.raises(ConfigError) as caught:
        load_config("order-emb", ["training.epochs=many"])
    assert caught.value.hint == "the default is 8"


def test_the_hint_in_a_file_is_the_declared_default(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nepochs = -1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.hint == "the default is 15"


def test_choices_are_what_the_code_knows():
    assert set(MODEL_KINDS) == set(OBJECTIVES)
    assert set(OPTIMIZERS) == set(optimizer.OPTIMIZERS)
    assert set(SCHEDULES) == set(optimizer.SCHEDULES)


def test_every_setting_has_a_help_text():
    missing = [path for path, field, value in walk(Config()) if not info_of(field).help]
    assert {path.rpartition(".")[2] for path in missing} == {"name", "args"}  # of components
    assert "loss.name" in missing
    assert "optimizer.name" not in missing


def test_settings_from_python_have_the_same_bounds():
    with pytest.raises(ConfigError, match=r"^optimizer\.grad_clip must be at least 0, not -1$"):
        check_settings(Config(optimizer=OptimizerConfig(grad_clip=-1)))
    with pytest.raises(ConfigError, match=r"^decoding\.top_k must be at least 0, not -2$"):
        check_settings(Decoding(top_k=-2), "decoding.")
    check_settings(Config())


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_upgraded_in_a_file_and_refused_from_the_command_line(old):
    section, _, key = old.rpartition(".")
    new = f"{section}.{RENAMED[old]}"
    tables: dict = {}
    table = tables
    for part in section.split("."):
        table = table.setdefault(part, {})
    table |= {key: 1, "other": 2}
    before = copy.deepcopy(tables)
    upgraded = upgrade(tables)
    assert str(upgraded) == str(before).replace(f"'{key}'", f"'{RENAMED[old]}'")
    assert (tables, first_names(upgraded), upgrade(upgraded)) == (before, before, upgraded)
    table[RENAMED[old]] = 3
    assert RENAMED[old] in str(upgrade(tables))
    assert f"'{key}'" not in str(upgrade(tables))
    with pytest.raises(UnknownName) as caught:
        load_config("demo", [f"{old}=1"])
    assert (old in caught.value.message, caught.value.hint) == (True, f"it is called {new!r} now")


@pytest.mark.parametrize("name", ["quick-transformer", "quick_transformer"])
def test_an_old_component_name_is_upgraded_in_a_file_and_refused_from_the_command_line(name, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(f'kind = "captioner"\n[model]\nname = "{name}"\n', encoding="utf-8")
    assert load_config(str(file)).model.name == "standardized-transformer"
    with pytest.raises(UnknownName) as caught:
        load_config("transformer", [f"model.name={name}"])
    assert caught.value.hint == "it is called 'standardized-transformer' now"


def test_hard_attention_is_called_gumbel(tmp_path):
    """It was the straight-through estimator; what the paper calls hard attention has another name."""
    file = tmp_path / "mine.toml"
    file.write_text('kind = "captioner"\n[model]\nname = "show-attend-tell"\nargs = {attention = "hard"}\n')
    assert load_config(str(file)).model.args == {"attention": "gumbel"}
    for setting in ("model.args.attention=hard", "model.args={attention='hard'}"):
        with pytest.raises(UnknownName) as caught:
            load_config("show-attend-tell", [setting])
        assert "'gumbel' now" in caught.value.hint
        assert "'stochastic'" in caught.value.hint


def test_new_names_are_settings():
    tables = to_dict(Config())
    for path, new in RENAMED.items():
        section, _, old = path.rpartition(".")
        if not section.endswith(".args"):
            assert new in tables[section]
            assert old not in tables[section]
    known = {"model.name": set(catalog.names("captioner")), "model.args.attention": set(ATTENTION)}
    for path, names in RENAMED_COMPONENTS.items():
        assert set(names.values()) <= known[path]
        assert not set(names) & known[path]


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'?"),
        ("trainin.epochs=3", "did you mean 'training'?"),
        ("optimizer.learning=3", "did you mean 'optimizer.lr'?"),
        ("model.text_encoder.arg=3", "did you mean 'model.text_encoder.args'?"),
    ],
)
def test_the_hint_for_a_misspelled_key_is_the_closest_one(setting, hint):
    with pytest.raises(UnknownName) as caught:
        load_config("vse", [setting])
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("setting", ["training.epochs", "=3", "", "training.epochs:3"])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config("vse", [setting])


def test_arguments_pass_through_and_add_up():
    config = load_config("vsepp", ["loss.args.margin=0.3"])
    assert config.loss == Component("triplet", {"margin": 0.3, "hardest_negative": True})


def test_another_part_drops_the_old_ones_arguments():
    assert load_config("vse").model.text_encoder.args
    for setting in ("model.text_encoder=bow", "model.text_encoder.name=bow"):
        assert load_config("vse", [setting]).model.text_encoder == Component("bow", {})
    same = load_config("vse", ["model.text_encoder.name=gru"])
    assert same.model.text_encoder == load_config("vse").model.text_encoder


def test_a_toml_file_is_a_preset_and_lends_its_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nembed_dim = 8\n[model.text_encoder]\nname = "bow"\n', encoding="utf-8")
    config = load_config(str(file), ["training.epochs=2"])
    assert (config.preset, config.model.embed_dim, config.training.epochs) == ("mine", 8, 2)
    assert config.model.text_encoder == Component("bow")


def test_a_toml_file_starts_from_the_preset_that_it_names(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('preset = "vse"\n[data]\nmax_vocab = 9\n[loss.args]\nhardest_negative = true\n', encoding="utf-8")
    config, vse = load_config(str(file)), load_config("vse")
    assert (config.data.max_vocab, config.optimizer, config.training) == (9, vse.optimizer, vse.training)
    assert config.loss.args == {**vse.loss.args, "hardest_negative": True}
    assert replace(config, data=vse.data, loss=vse.loss) == vse
    file.write_text('preset = "vsee"\n[data]\nmax_vocab = 9\n', encoding="utf-8")
    with pytest.raises(UnknownName, match="there is no preset called 'vsee'"):
        load_config(str(file))


def test_arguments_with_the_name_of_their_component_are_complete(tmp_path):
    config = load_config("vse")
    config = replace(config, loss=Component("triplet"), model=replace(config.model, text_encoder=Component("gru")))
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert load_config(str(file)) == config


@pytest.mark.parametrize("name", catalog.names("preset"))
def test_a_configuration_survives_toml_and_is_a_preset_itself(name, tmp_path):
    config = load_config(name, ["training.epochs=3"])
    for text in (to_toml(config), to_toml(config, comments=True)):
        assert from_dict(tomllib.loads(text)) == config
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        assert load_config(str(file)) == config
    assert to_dict(config)["preset"] == name


def test_print_config_prints_toml_and_trains_nothing(xmodal, home):
    done = xmodal("train", "--model", "order-emb", "--print-config")
    assert done.code == 0
    assert from_dict(tomllib.loads(done.out)) == load_config("order-emb")
    assert not list(home.iterdir())
    lines = done.out.splitlines()
    assert lines[lines.index("lr = 0.001") - 1] == "# learning rate (above 0)"
    assert lines[lines.index("[training]") - 1] == "# training loop"


def test_print_config_as_json_is_one_object_of_the_same_settings(xmodal):
    arguments = ("train", "--model", "vsepp", "--print-config", "--set", "training.epochs=3")
    done = xmodal(*arguments, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == json.loads(json.dumps(tomllib.loads(xmodal(*arguments).out)))
    assert done.json["training"]["epochs"] == 3
    assert done.json["loss"]["args"]["hardest_negative"] is True


def test_comments_do_not_depend_on_the_values():
    args = {"# lr": "[optimizer]\n# epochs = 3", "lr": [{"lr = 1": ["[training]"]}], 'a "b" = c': {"epochs": 1}}
    config = replace(Config(), loss=Component("triplet", args), preset="[training]\nepochs = 2")
    text = to_toml(config, comments=True)
    assert from_dict(tomllib.loads(text)) == config
    without = [line for line in text.splitlines() if not line.startswith("# ")]
    assert "\n".join(without) == to_toml(config).rstrip("\n")


def test_files_that_are_no_settings(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(str(tmp_path / "absent.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        load_config(str(broken))
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        load_config(str(broken))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"folder\.toml cannot be read"):
        load_config(str(folder))
    misspelled = tmp_path / "misspelled.toml"
    misspelled.write_text("[trainin]\nepochs = 3\n", encoding="utf-8")
    with pytest.raises(UnknownName, match="trainin"):
        load_config(str(misspelled))


@pytest.mark.parametrize("name", ["dev", "valid", "validation", "Val"])
def test_dev_is_a_name_of_val(name):
    config = load_config("vse", [f"data.val_split={name}", f"data.train_splits=train,{name}"])
    assert config.data.val_split == "val"
    assert config.data.train_splits == ("train", "val")


def test_the_data_of_a_toml_file(xmodal, tmp_path, monkeypatch):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\npath = "pets/captions.jsonl"\n')
    monkeypatch.chdir(tmp_path.parent)
    shown = tomllib.loads(xmodal("train", "--model", file, "--print-config").out)["data"]
    assert (shown["name"], shown["path"]) == ("", str(tmp_path / "pets" / "captions.jsonl"))
    shown = tomllib.loads(xmodal("train", "--model", file, "--data", "f8k", "--print-config").out)["data"]
    assert (shown["name"], shown["path"]) == ("f8k", "")
    file.write_text('[data]\nname = "f8k"\n')
    assert tomllib.loads(xmodal("train", "--model", file, "--print-config").out)["data"]["name"] == "f8k"
    done = xmodal("train", "--model", file, "--set", "data.path=x")
    assert (done.code, done.err.splitlines()[0]) == (1, "error: data.name and data.path are both set")


def test_a_run_is_resumed_with_or_without_the_data_option(xmodal, planted, small_settings, tmp_path):
    file, run = tmp_path / "mine.toml", tmp_path / "run"
    tables = f'[data]\npath = "{planted}"\nmax_vocab = 12\nmax_caption_words = 7\n[schedule]\nname = "constant"\n'
    file.write_text(f'preset = "vse"\n{tables}')
    options = ["train", "--model", file, "--out", run, "--device", "cpu", *small_settings]
    done = xmodal(*options, "--set", "training.epochs=1", "--json")
    assert done.code == 0, done.err
    assert tomllib.loads((run / "config.toml").read_text())["data"]["name"] == str(planted)
    assert xmodal("data", "add", "toys", planted).code == 0
    assert xmodal(*options, "--set", "training.epochs=2", "--data", planted, "--resume", "--json").json["epochs"] == 2
    assert xmodal("eval", run, "--data", "toys", "--split", "dev", "--json").json["split"] == "val"
    assert xmodal("models", "info", run, "--json").code == 0
