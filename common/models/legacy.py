"""Read the pair checkpoints of the guide's earlier trainer.

Each holds one full network with its own copy of the backbone, and a head of three linear layers.
"""

from typing import Any

from torch import nn

from common.models.checkpoint_file import without_wrappers

LEGACY_FORMAT = "legacy-pair"
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for every backbone
# what a configuration says of the pixels: followed; other settings with such words: refused
_PIXEL_SETTINGS = (
    "img_size",
    "mean",
    "std",
    "interpolation",
    "enable_clahe",
    "clahe_clip_limit",
    "clahe_tile_grid_size",
)
_ABOUT_PIXELS = (
    "clahe",
    "normali",
    "mean",
    "std",
    "crop",
    "resiz",
    "interpol",
    "gamma_correction",
    "ben_graham",
    "grayscale",
    "green_channel",
    "color_space",
)
_OF_TRAINING = ("random", "aug", "focal")  # settings of the training alone
_NOT_RECORDED = (
    "train_loss",
    "train_accuracy",
    "val_balanced_accuracy",
    "val_auc",
    "val_sensitivity",
    "val_specificity",
    "learning_rate",
    "images_per_second",
    "seconds",
)
# what an epoch of this tool records and the earlier trainer did not
_UNKNOWN: dict[str, Any] = {"pair": "", **dict.fromkeys(_NOT_RECORDED, float("nan"))}


def legacy_head(num_features: int, outputs: int) -> nn.Sequential:
    """Make the earlier trainer's binary head; its state's keys are the positions in the list."""
    return nn.Sequential(
        nn.Dropout(),
        nn.Linear(num_features, 512),
        nn.ReLU(),
        nn.BatchNorm1d(512),
        nn.Dropout(),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.BatchNorm1d(128),
        nn.Dropout(),
        nn.Linear(128, outputs),
    )


def is_legacy(content: dict[str, Any]) -> bool:
    """Tell a checkpoint of the earlier trainer from its keys."""
    return "model_state_dict" in content and "class_pair" in content


def convert_legacy(content: dict[str, Any]) -> dict[str, Any]:
    """Lay the content of an earlier checkpoint out as that of a pair's file.

    Raises KeyError, TypeError, ValueError or AttributeError if it is not one, or if its pixels were
    made in a way that is not known here. Pixels: optional CLAHE on the full picture, then a square
    resize (bilinear with antialiasing), no crop; ImageNet's mean and deviation.
    Accuracies were recorded in percent; sensitivity and specificity were not.
    """
    state = without_wrappers(content["model_state_dict"])
    data = content["config"]["data"]
    pair = [int(c) for c in content["class_pair"]]
    parts = {
        part: {
            key[len(part) + 1 :]: value
            for key, value in state.items()
            if key.startswith(f"{part}.")
        }
        for part in ("backbone", "classifier")
    }
    if sum(map(len, parts.values())) != len(state) or not all(parts.values()):
        raise ValueError("expected the keys backbone.* and classifier.* in model_state_dict")
    history = _history(content)
    best_accuracy = float(content["best_val_accuracy"]) / 100
    closest = min(history, key=lambda row: abs(row["val_accuracy"] - best_accuracy), default={})
    best = _UNKNOWN | {"epoch": 0, "val_loss": float("nan")} | closest
    parameters = sum(v.numel() for k, v in state.items() if not k.endswith(_BUFFERS))
    return {
        "format": LEGACY_FORMAT,
        "model": str(content["model_name"]),
        "pair": pair,
        "class_names": _class_names(content["config"], pair),
        "preprocessing": _preprocessing(data),
        "trunk": {},
        "top": parts["backbone"],
        "classifier": parts["classifier"],
        "parameters": {"frozen": 0, "trainable": parameters},
        "best_epoch": best["epoch"],
        "metrics": best
        | {
            "val_accuracy": best_accuracy,
            "val_auc": _greatest(content.get("val_auc")),
        },
        "history": history,
        "complete": True,
    }


def _preprocessing(data: dict[str, Any]) -> dict[str, Any]:
    """Read what decides the pixels; raises ValueError for what cannot be followed.

    Settings of the training alone, such as the augmentation's, are passed over.
    """
    unknown = [f"{name} {value!r}" for name, value in data.items() if _is_unknown(name, value)]
    if unknown:
        raise ValueError(
            f"its pixels were made with {', '.join(unknown)}, which is not known here, so that it "
            "would see other pictures than it was trained on"
        )
    return {
        "img_size": _one_number(data["img_size"], "img_size"),
        "mean": list(data.get("mean", _MEAN)),
        "std": list(data.get("std", _STD)),
        "interpolation": str(data.get("interpolation", "bilinear")).lower(),
        "crop_retina": False,
        "enable_clahe": _switch(data.get("enable_clahe", False)),
        "clahe_clip_limit": float(data.get("clahe_clip_limit", 2.0)),
        "clahe_tile_grid_size": _one_number(data.get("clahe_tile_grid_size", 8), "CLAHE tiles"),
    }


def _is_unknown(name: str, value: Any) -> bool:
    """Tell whether a setting changes the pixels in a way that is not known here."""
    name = name.lower()
    if name in _PIXEL_SETTINGS or not any(word in name for word in _ABOUT_PIXELS):
        return False
    if any(word in name for word in _OF_TRAINING):
        return False
    if "normali" in name:
        usual = (True, None, "imagenet", list(_MEAN), list(_STD))
        return (list(value) if isinstance(value, tuple) else value) not in usual
    return bool(value)


def _class_names(config: dict[str, Any], pair: list[int]) -> list[str]:
    """Name the classes by their numbers: as many as the configuration says, else five or more."""
    places = (config["data"], config.get("model", {}))
    counts = [place["num_classes"] for place in places if "num_classes" in place]
    count = int(counts[0]) if counts else max(5, pair[1] + 1)
    if not pair[1] < count <= 100:
        raise ValueError(f"the pair {pair} of {count} classes")
    return [str(k) for k in range(count)]


def _one_number(value: Any, name: str) -> int:
    """Read a whole number that may be given for both directions, such as 8 or (8, 8)."""
    numbers = {int(n) for n in (value if isinstance(value, list | tuple) else [value])}
    if len(numbers) != 1:
        raise ValueError(f"{name} {value}: expected as many in both directions")
    return numbers.pop()


def _switch(value: Any) -> bool:
    """Read a switch that may be a word, as a command line gives it."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "on", "1")
    return bool(value)


def _history(content: dict[str, Any]) -> list[dict[str, Any]]:
    columns = {
        "train_loss": ("train_losses", 1),
        "val_loss": ("val_losses", 1),
        "train_accuracy": ("train_accuracies", 100),
        "val_accuracy": ("val_accuracies", 100),
    }
    lists = {name: content.get(key) or [] for name, (key, _) in columns.items()}
    epochs = min(len(values) for values in lists.values())
    return [
        _UNKNOWN
        | {"epoch": i + 1}
        | {name: float(lists[name][i]) / scale for name, (_, scale) in columns.items()}
        for i in range(epochs)
    ]


def _greatest(value: Any) -> float:
    """Read a number, or the greatest of a list of one per epoch; NaN if there is none."""
    if isinstance(value, list | tuple):
        return max(map(float, value), default=float("nan"))
    return float("nan") if value is None else float(value)
