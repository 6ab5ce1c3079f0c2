"""What an epoch of a training measured: a row of history.csv and of a checkpoint."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Validation:
    """What a network scored on the validation images of its classes; NaN where undefined."""

    loss: float
    accuracy: float
    balanced_accuracy: float
    auc: float
    sensitivity: float | None = None  # of a pair's second class
    specificity: float | None = None
    referable_sensitivity: float | None = None  # by one head for all; None: not known what that is
    referable_specificity: float | None = None
    pair_accuracies: tuple[float, ...] | None = None  # (P,) by a shared head

    def monitored(self, monitor: str) -> float:
        """Return the value that --monitor names, such as "val_auc"."""
        return getattr(self, monitor.removeprefix("val_"))


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one head: a row of history.csv."""

    head: str  # its name, "0-1", "shared" or "softmax"; the column is called "pair"
    epoch: int  # from 1
    train_loss: float
    train_accuracy: float  # on augmented images, with dropout
    validation: Validation | None  # None: not validated after this epoch
    learning_rate: float  # of the last step
    images_per_second: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the row as it is stored, without what was not measured."""
        measured = asdict(self.validation) if self.validation else {}
        if measured.get("pair_accuracies") is not None:
            measured["pair_accuracies"] = list(measured["pair_accuracies"])
        return {
            "pair": self.head,
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            **{f"val_{name}": value for name, value in measured.items() if value is not None},
            "learning_rate": self.learning_rate,
            "images_per_second": self.images_per_second,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "EpochRow":
        """Read what `to_dict` wrote, numbers or their text; raises one of MISFIT for other rows."""
        head = str(row["pair"])
        return cls(
            head=head,
            epoch=int(row["epoch"]),
            train_loss=float(row["train_loss"]),
            train_accuracy=_read_share("train_accuracy", row["train_accuracy"]),
            validation=_read_validation(row, head),
            learning_rate=float(row["learning_rate"]),
            images_per_second=float(row["images_per_second"]),
            seconds=float(row["seconds"]),
        )


def _read_validation(row: Mapping[str, Any], head: str) -> Validation | None:
    values = {item.name: row.get(f"val_{item.name}") for item in fields(Validation)}
    pairs = values.pop("pair_accuracies")
    found: dict[str, Any] = {
        name: float(value) if name == "loss" else _read_share(f"val_{name}", value)
        for name, value in values.items()
        if value not in (None, "")
    }
    if pairs not in (None, ""):
        listed = json.loads(pairs) if isinstance(pairs, str) else pairs
        found["pair_accuracies"] = tuple(_read_share("val_pair_accuracies", v) for v in listed)
    if "loss" not in found:
        return None
    if head == "softmax":  # earlier files have them in the columns of a pair
        for name in {"sensitivity", "specificity"} & found.keys():
            found.setdefault(f"referable_{name}", found.pop(name))
    return Validation(**found)


def _read_share(name: str, value: Any) -> float:
    """Read a number from 0 to 1, give or take rounding, or NaN where undefined."""
    share = float(value)
    if not (math.isnan(share) or -1e-6 <= share <= 1 + 1e-6):
        raise ValueError(f"{name} {share:g}, expected a share from 0 to 1")
    return share


HISTORY_COLUMNS = (
    "pair",
    "epoch",
    "train_loss",
    "train_accuracy",
    *(f"val_{item.name}" for item in fields(Validation)),
    "learning_rate",
    "images_per_second",
    "seconds",
)
