"""The defaults and the checks of the training's settings."""

import pytest

from common.config import FIXED_FIELDS, FREE_FIELDS, TrainConfig, config_differences
from common.in_force import Change


def test_defaults_are_the_guide_s():
    config = TrainConfig()
    expected = {
        "epochs": 100,
        "batch_size": 2,
        "learning_rate": 5e-5,
        "weight_decay": 0.00025,
        "gradient_accumulation_steps": 4,
        "scheduler": "cosine",
        "warmup_epochs": 10,
        "patience": 28,
        "enable_focal_loss": True,
        "focal_loss_gamma": 3.0,
        "focal_loss_alpha": 2.5,
        "enable_class_weights": True,
        "label_smoothing": 0.1,
        "enable_clahe": True,
        "rotation_range": 25,
        "brightness_range": 0.2,
        "contrast_range": 0.2,
        "ovo_dropout": 0.28,
        "num_classes": 5,
        "num_workers": 4,
        "freeze_weights": True,
    }
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.effective_batch == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("label_smoothing", 1.0),
        ("ovo_dropout", 1.0),
        ("rotation_range", 200),
        ("scale_range", 1.0),
        ("shift_range", -0.1),
        ("layer_decay", 0.0),
        ("layer_decay", 1e-300),
        ("frozen_stages", -2),
        ("head_lr_factor", 0.0),
        ("ema_decay", 1.0),
        ("class_weight_power", 1.5),
        ("recipe", "magic"),
        ("scheduler", "magic"),
        ("precision", "fp8"),
        ("num_classes", 1),
        ("img_size", 8),
        ("min_lr", 1.0),
        ("class_names", ("a", "b")),
        ("patience", 0),
        ("class_weight_3", -1),
        ("clahe_clip_limit", float("inf")),
        ("seed", -1),
    ],
)
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"--{name}: expected"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name", ["class_weight_2", "class_weight_power"])
def test_a_class_weight_that_would_have_no_effect_is_refused(name):
    with pytest.raises(ValueError, match=f"--{name} has no effect"):
        TrainConfig(enable_class_weights=False, **{name: 0.5})


def test_stages_cannot_freeze_where_nothing_does():
    assert not TrainConfig(frozen_stages=0).freezes and TrainConfig(frozen_stages=1).freezes
    assert not TrainConfig(frozen_stages=0, freeze_weights=False).freezes
    with pytest.raises(ValueError, match="contradict each other"):
        TrainConfig(frozen_stages=1, freeze_weights=False)


def test_a_probe_of_random_features_is_refused():
    with pytest.raises(ValueError, match="--classifier_init probe needs pretrained weights"):
        TrainConfig(classifier_init="probe", pretrained=False)


def test_a_plateau_needs_a_value_to_wait_for():
    with pytest.raises(ValueError, match="--monitor last looks at none"):
        TrainConfig(monitor="last", scheduler="plateau")


def test_differences_leave_out_what_does_not_change_the_outcome():
    old = TrainConfig().to_dict()
    assert config_differences(old, TrainConfig(num_workers=1, cache_dir="/x")) == []
    assert config_differences(old, TrainConfig(recipe="small_data")) == [], "settings count"
    assert config_differences(old, TrainConfig(learning_rate=1e-3)) == [
        Change("learning_rate", 5e-05, 0.001)
    ]
    assert set(FREE_FIELDS) < set(old) and set(FIXED_FIELDS) < set(old)
