"""Named sets of training settings: the guide's, which are the defaults, and one for small data."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.system.log import shell_path

DEFAULT_RECIPE = "guide"
_PATHS = ("dataset_path", "output_dir", "cache_dir", "weights")  # settings
OWN_WEIGHTS = tuple(f"class_weight_{grade}" for grade in range(5))  # settings of single grades
# what each recipe sets of TrainConfig; all else has its default, and a flag wins over either
RECIPES: dict[str, dict[str, Any]] = {
    DEFAULT_RECIPE: {},
    "small_data": {  # some hundred photographs, pretrained weights
        "head": "shared",
        "img_size": 320,
        "enable_clahe": False,
        "epochs": 12,
        "warmup_epochs": 1,
        "batch_size": 16,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-4,
        "pooled_stages": "auto",
        "head_lr_factor": 5.0,
        "weight_decay": 0.01,
        "monitor": "last",
        "enable_focal_loss": False,
        "class_weight_power": 0.5,
        "prior_correction": True,
        "label_smoothing": 0.0,
        "horizontal_flip": True,
        "vertical_flip": True,
        "rotation_range": 180.0,
        "scale_range": 0.1,
        "shift_range": 0.05,
        "validation_frequency": 3,  # nothing is chosen by it
        "tta": "d4",
    },
}


def recipe_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe sets where these are the settings asked for.

    What cannot be together with them gives way: of two classes there is one pair, which shares its
    network with none; classes that are not weighed have no weights to take to a power or to correct
    for; where nothing freezes, no number of stages does; and random features have no linear probe.
    """
    settings = dict(RECIPES[name])
    if not given["enable_class_weights"]:
        for of_weights in ("class_weight_power", "prior_correction"):
            settings.pop(of_weights, None)
    elif given["class_weight_power"] == 0 and weighs_no_grade(given):
        settings.pop("prior_correction", None)
    if not given["freeze_weights"]:
        settings.pop("frozen_stages", None)
    if not given["pretrained"]:
        settings.pop("classifier_init", None)
    if given["num_classes"] == 2:
        settings.pop("head", None)
    return settings


def weighs_no_grade(settings: Mapping[str, Any]) -> bool:
    """Tell whether no grade was given a weight of its own."""
    return not any(settings.get(name) for name in OWN_WEIGHTS)


@dataclass(frozen=True)
class Sources:
    """Where the settings of a command line come from."""

    values: Mapping[str, Any]
    given: frozenset[str]  # by hand
    recipe: str
    of_recipe: Mapping[str, Any]

    def explain(self, message: str) -> str:
        """Add to a message which of the flags that it names nobody has given, and who set them."""
        others = [
            name for name in dict.fromkeys(re.findall(r"--(\w+)", message)) if self._set(name)
        ]
        notes = [f"{as_flags({name: self.values[name]})} is {self._set(name)}" for name in others]
        if not notes:
            return message
        flags = " or ".join(f"--{name}" for name in others)
        return f"{message} ({'; '.join(notes)}: give {flags} yourself to change that)"

    def _set(self, name: str) -> str:
        """Say who set a flag that was not given; "" of one that was, and of what has no value."""
        if name in self.given or self.values.get(name, "") in ("", ()):
            return ""
        return f"set by --recipe {self.recipe}" if name in self.of_recipe else "the default"


def as_flags(settings: Mapping[str, Any]) -> str:
    """Write settings as a user would type them: "--epochs 12 --enable_clahe false"."""
    return " ".join(f"--{name} {_word(value)}" for name, value in settings.items())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return number_text(value) if isinstance(value, float) else str(value)


def number_text(value: float) -> str:
    """Write a number shortly, yet so that it is read back as it was."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def command_of(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Write the command that trains with a configuration, in full.

    defaults: of all settings; what is neither that nor the recipe's becomes a flag. Raises KeyError
    or others for what is no configuration.
    """
    settings = {**defaults, **config}
    plain = {**defaults, **recipe_settings(settings["recipe"], settings)}
    others = [name for name in defaults if name not in ("model", "class_names", "pretrained")]
    words = ["--base_models", shlex.quote(settings["model"])]
    names = settings["class_names"]
    words += ["--class_names", shlex.join(names)] if names else []
    words += [] if settings["pretrained"] else ["--no_pretrained"]
    for name in others:
        value = settings[name]
        if value != plain[name] or name in ("dataset_path", "output_dir"):
            word = _word(value)
            words += [f"--{name}", shell_path(word) if name in _PATHS else shlex.quote(word)]
    return " ".join(["python train_ovo.py", *words])


def recipe_help() -> str:
    """Say for --help what each recipe sets."""
    sets = [f"{name} sets {as_flags(settings)}" for name, settings in RECIPES.items() if settings]
    return "; ".join(["named defaults, over which any flag that is given wins", *sets])
