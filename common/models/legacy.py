"""Read the pair checkpoints of the guide's earlier trainer.

Each holds one full network with its own copy of the backbone, and a head of three linear layers.
"""

from typing import Any

from torch import nn

from common.models.checkpoint_file import without_wrappers

LEGACY_FORMAT = "legacy-pair"
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for every backbone
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

    Raises KeyError, TypeError, ValueError or AttributeError if it is not one. Pixels: optional
    CLAHE on the full picture, then a square resize (bilinear with antialiasing), no crop; ImageNet
    mean and deviation. Accuracies were recorded in percent; sensitivity and specificity were not.
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
        "class_names": [str(k) for k in range(max(5, pair[1] + 1))],
        "preprocessing": {
            "img_size": int(data["img_size"]),
            "mean": list(_MEAN),
            "std": list(_STD),
            "interpolation": "bilinear",
            "crop_retina": False,
            "enable_clahe": bool(data.get("enable_clahe", False)),
            "clahe_clip_limit": float(data.get("clahe_clip_limit", 2.0)),
        },
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
