"""A recipe is a set of defaults: what it does not name stays, and what is given by hand wins."""

import shlex
from pathlib import Path

import pytest
from helpers import QUICK, flags, help_of

from common.config import TrainConfig
from common.flags.training import parse_training
from common.in_force import switch_off
from common.recipes import RECIPES, command_of
from common.result_dir.paths import ResultDir
from common.system.errors import InputError


def config_of(*words: str, **values) -> TrainConfig:
    """Parse a training command for one small model."""
    (config,) = parse_training([*words, *flags(base_models="demo_convnext", **values)], "").configs
    return config


def learned(config: TrainConfig) -> dict[str, object]:
    """All settings but those that name a place or the recipe."""
    named = ("model", "output_dir", "dataset_path", "cache_dir", "recipe")
    return {name: value for name, value in config.to_dict().items() if name not in named}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_what_it_names_and_nothing_else(name):
    expected = learned(TrainConfig()) | RECIPES[name]
    config = config_of(recipe=name)
    assert learned(config) == expected and config.recipe == name
    assert config.recipe_line == f"recipe {name}, unchanged"


def test_flags_win_over_the_recipe_before_and_behind_it():
    changed = ("--epochs", "7")
    for words in ((*changed, "--recipe", "small_data"), ("--recipe", "small_data", *changed)):
        config = config_of(*words)
        assert config.epochs == 7
        assert learned(config) == learned(config_of(recipe="small_data")) | {"epochs": 7}
        assert config.recipe_line == "recipe small_data, but --epochs 7"


def test_a_default_that_is_given_by_hand_wins_too():
    config = config_of(recipe="small_data", epochs=100, enable_clahe="true")
    assert config.epochs == 100 and config.enable_clahe
    assert config.recipe_line == "recipe small_data, but --epochs 100 --enable_clahe true"


def test_a_recipe_s_class_weights_give_way_to_none():
    config = config_of(recipe="small_data", enable_class_weights="false")
    assert config.class_weight_power == 1 and not config.enable_class_weights
    assert not config.prior_correction
    alike = config_of(recipe="small_data", class_weight_power="0")
    assert not alike.prior_correction and not alike.without_effect
    own = config_of(recipe="small_data", class_weight_power="0", class_weight_4="2")
    assert own.prior_correction and not own.without_effect


def test_two_classes_have_no_pairs_to_share_a_network():
    three, two = (config_of(recipe="small_data", num_classes=count) for count in (3, 2))
    assert (three.head, two.head) == ("shared", "ovo")
    assert two.recipe_line == "recipe small_data, unchanged"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--recipe small_data --focal_loss_gamma 2",
            "--focal_loss_gamma 2 has no effect with --enable_focal_loss false; leave out one of "
            "the two (--enable_focal_loss false is set by --recipe small_data: give "
            "--enable_focal_loss yourself to change that)",
        ),
        ("--enable_clahe false --clahe_clip_limit 9", "--clahe_clip_limit 9 has no effect with"),
        ("--monitor last --min_delta 9", "--min_delta 9 has no effect with --monitor last"),
        ("--scheduler none --min_lr 1e-6", "--min_lr 1e-06 has no effect with --scheduler none"),
        ("--precision bf16 --use_amp false", "--use_amp false has no effect with --precision"),
        ("--num_classes 3 --class_weight_3 2", "--class_weight_3 2 has no effect with --num_cl"),
        ("--recipe small_data --pairs 0-1", "--head shared is set by --recipe small_data"),
        ("--recipe small_data --scheduler plateau", "--monitor last is set by --recipe small_data"),
        (
            "--class_weight_power 0 --prior_correction true",
            "--prior_correction true has no effect with --class_weight_power 0",
        ),
        (
            "--num_classes 3 --class_weight_0 1 --class_weight_1 2 --class_weight_2 1 "
            "--class_weight_power 0.3",
            "--class_weight_power 0.3 has no effect with --class_weight_0 1",
        ),
        ("--learning_rate 1e-9", "--min_lr 1e-07 is the default: give --min_lr yourself"),
    ],
)
def test_what_cannot_be_together_is_refused_with_who_set_it(words, said):
    with pytest.raises(InputError) as error:
        config_of(*words.split())
    assert said in str(error.value)


def test_a_default_may_be_given_where_it_has_no_effect():
    script = "--focal_loss_gamma 3.0 --patience 28 --enable_focal_loss --use_amp false"
    by_user = "--enable_focal_loss false --monitor last --frozen_stages 0 --freeze_weights false"
    assert config_of(*script.split(), *by_user.split()).without_effect == {}


def test_a_run_that_was_started_with_an_idle_flag_goes_on(tmp_path):
    ResultDir(tmp_path).config.write_text('{"config": {}}')
    config = config_of("--monitor", "last", patience=5, resume=None, output_dir=tmp_path)
    assert config.without_effect == {"patience": "--patience 5 has no effect with --monitor last"}
    assert "patience" not in config.recipe_line


def test_help_says_what_a_recipe_sets():
    shown = " ".join(help_of("train_ovo.py").split())
    assert "small_data sets --head shared --img_size 320 --enable_clahe false" in shown


def test_a_run_of_a_recipe_goes_on_with_the_same_command_or_its_settings(
    quick_train, tmp_path, capsys
):
    command = {"recipe": "small_data", "epochs": 2}
    assert quick_train(tmp_path / "r", **command) == 0
    said = capsys.readouterr().out
    assert "recipe small_data, but --epochs 2 " in said and "kept epoch 2 of 2" in said
    assert quick_train(tmp_path / "r", resume=None, **command) == 0
    by_hand = {name: str(value).lower() for name, value in RECIPES["small_data"].items()}
    of_quick = {name: QUICK[name] for name in by_hand if name in QUICK}
    command = {**by_hand, **of_quick}
    assert quick_train(tmp_path / "r", resume=None, **command) == 0
    assert quick_train(tmp_path / "r", resume=None) == 2, "the guide's are others"
    assert "was trained differently" in capsys.readouterr().err


def test_a_command_is_written_so_that_a_shell_and_its_flags_take_it_as_it_was_meant():
    config = config_of(dataset_path="d", learning_rate=1e-5).to_dict() | {"output_dir": "-a b"}
    words = command_of(config, TrainConfig().to_dict())
    assert "--output_dir './-a b'" in words and "--dataset_path d" in words
    assert "--learning_rate 1e-05" in words
    read = parse_training(shlex.split(words)[2:], "x").configs[0]
    assert (Path(read.output_dir), read.learning_rate) == (Path("-a b"), 1e-5)


def test_a_number_is_written_as_it_can_be_typed_back():
    assert config_of(ema_decay=0.9999999).recipe_line == "recipe guide, but --ema_decay 0.9999999"
    assert "but --learning_rate 0.001" in config_of(learning_rate=1e-3).recipe_line


@pytest.mark.parametrize("count", ["x", [1], 2.0, 10**12, -3, None])
def test_a_stored_number_of_classes_that_is_none_switches_nothing_off(count):
    values = {"num_classes": count, "class_weight_power": 0.5, "class_weight_0": 1.0}
    values["class_weight_1"] = 1.0
    assert switch_off("class_weight_power", values) is None
    assert switch_off("class_weight_power", values | {"num_classes": 2}) is not None
