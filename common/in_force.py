"""Which settings a training was under: what others switch off, and what was changed on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.recipes import OWN_WEIGHTS, number_text, weighs_no_grade


@dataclass(frozen=True)
class Switch:
    """A setting that leaves others without effect while it has one of some values."""

    name: str
    values: tuple[Any, ...]  # none: any, if only `holds` does
    idle: tuple[str, ...]
    agreeing: tuple[Any, ...] = ()  # values of the idle that say the same as the switch
    holds: Callable[[Mapping[str, Any]], bool] = lambda _: True  # of all settings, beside that


def _weighs_all(values: Mapping[str, Any]) -> bool:
    """Tell whether each class was given a weight of its own."""
    count = values.get("num_classes")  # a file's may be anything
    known = isinstance(count, int) and 0 < count <= len(OWN_WEIGHTS)
    return known and all(map(values.get, OWN_WEIGHTS[:count]))


_SWITCHES = (
    Switch("enable_focal_loss", (False,), ("focal_loss_gamma", "focal_loss_alpha")),
    Switch("enable_clahe", (False,), ("clahe_clip_limit", "clahe_tile_grid_size")),
    Switch("enable_class_weights", (False,), ("class_weight_power", *OWN_WEIGHTS)),
    Switch("class_weight_0", (), ("class_weight_power",), holds=_weighs_all),
    Switch("class_weight_power", (0,), ("prior_correction",), holds=weighs_no_grade),
    Switch("monitor", ("last",), ("patience", "min_delta")),
    Switch("scheduler", ("none",), ("min_lr",)),
    Switch("precision", ("bf16", "fp16"), ("use_amp",)),
    Switch("freeze_weights", (False,), ("frozen_stages",), (0,)),
    *(
        Switch("num_classes", tuple(range(2, grade + 1)), (name,))
        for grade, name in enumerate(OWN_WEIGHTS)
        if grade >= 2
    ),
)


def switch_off(name: str, values: Mapping[str, Any]) -> Switch | None:
    """Find what leaves a setting without effect among these values; None where it has one."""
    for switch in _SWITCHES:
        has_it = not switch.values or values.get(switch.name) in switch.values
        if name in switch.idle and has_it and switch.holds(values):
            return switch
    return None


@dataclass(frozen=True)
class Change:
    """A setting, or a fingerprint, in which a continued run is not what it was."""

    name: str
    before: Any
    now: Any

    def to_dict(self) -> dict[str, Any]:
        """Return the change as config.json records it."""
        return {"name": self.name, "from": self.before, "to": self.now}


@dataclass(frozen=True)
class TrainedWith:
    """The settings of a training, in the end and on the way."""

    values: Mapping[str, Any] = field(default_factory=dict)  # in the end; empty: not known
    changes: Sequence[tuple[Change, str]] = ()  # with when that was, in words

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "TrainedWith":
        """Read what config.json holds; of a change that it does not tell in full, so much."""
        overrides = content.get("overrides")
        entries = overrides if isinstance(overrides, list) else []
        changes = [
            (Change(str(each.get("name")), each.get("from"), each.get("to")), when)
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("changes"), list)
            for when in [_when(entry)]
            for each in entry["changes"]
            if isinstance(each, dict) and when
        ]
        return cls(content["config"], changes)

    def listed(self, names: Sequence[str]) -> str:
        """Say those of some settings that had an effect: "epochs 12, learning_rate 5e-05"."""
        return ", ".join(self._said(name) for name in names if self._had_effect(name))

    @property
    def changed(self) -> str:
        """Say what was changed in mid-training; "" if nothing was."""
        said = (f"{change.name} {_told(change, when)}" for change, when in self.changes)
        return "; ".join(said)

    def _had_effect(self, name: str) -> bool:
        """Tell whether a setting is known and had an effect, be it only before a change."""
        switch = switch_off(name, self.values)
        moved = {change.name for change, _ in self.changes}
        return name in self.values and (switch is None or switch.name in moved)

    def _said(self, name: str) -> str:
        told = [_told(change, when) for change, when in self.changes if change.name == name]
        return f"{name} {short(self.values[name])}" + (f" ({', '.join(told)})" if told else "")


def short(value: object) -> str:
    """Write a setting's value for a reader."""
    return number_text(value) if isinstance(value, float) else str(value) or "not given"


def _told(change: Change, when: str) -> str:
    if isinstance(change.before, dict) or isinstance(change.now, dict):  # fingerprints
        return f"changed {when}"
    return f"changed {when}: {short(change.before)} -> {short(change.now)}"


def _when(entry: Mapping[str, Any]) -> str:
    """Say from when on an override held, "" where that was from the start."""
    after = entry.get("after_epoch")
    finished = entry.get("finished")
    done = [str(name) for name in finished] if isinstance(finished, list) else []
    epochs = after if isinstance(after, dict) else {}
    going = [n for name, n in epochs.items() if name not in done and isinstance(n, int)]
    kept = f"for all but {', '.join(done)}, which had ended" if done else ""
    if not going:
        return kept or "in mid-training"
    if not any(going):
        return kept
    first, last = min(going), max(going)
    held = f"after epoch {first}" if first == last else f"after epochs {first} to {last}"
    return f"{held} {kept}".strip()
