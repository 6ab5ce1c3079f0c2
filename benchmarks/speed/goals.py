"""What is asked of speed, row by row, and whether what was measured keeps it.

A figure that was never measured says so, with the command that would.
"""

import operator
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.speed.results import ModelSpeed, Results, Spent

THREE = ("coatnet", "convnext", "swinv2")
CNNS = ("densenet121", "efficientnetb2", "resnet50", "seresnext50")
SEVEN = (*THREE, *CNNS)
LITE = "tf_efficientnet_lite0"
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
LIBRARY_DEPTHWISE = "the library's depthwise gradients"  # a form of dev.ablation
STORED_COMMAND = "python -m benchmarks.stored"
_RELATIONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_MEAN = "mean of the four CNNs"
_ALL_SEVEN = "all seven, one after the other"
_SLOWEST = "the slowest"

Find = Callable[[Results], Mapping[str, float]]  # by name; what was not measured is left out


def speed_command(device: str, *models: str) -> str:
    """Write the command that measures some models, or without any the three and all seven."""
    chosen = f" --base_models {' '.join(models)} --ensemble" if models else ""
    return f"python -m benchmarks.run --device {device}{chosen}"


def times(value: float) -> str:
    """Write a factor."""
    return f"{value:.2f}x"


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.2f} %"


@dataclass(frozen=True)
class Bound:
    """What a value must be, such as >= 3.5."""

    relation: str  # of _RELATIONS
    limit: float
    show: Callable[[float], str] = times

    def __str__(self) -> str:
        return f"{self.relation} {self.show(self.limit)}"

    def is_kept(self, value: float) -> bool:
        """Tell whether a value is so."""
        return bool(_RELATIONS[self.relation](value, self.limit))


@dataclass(frozen=True)
class Goal:
    """A row of the table: a figure of one or several, each of which must keep the bound."""

    title: str
    device: str  # of DEVICES
    names: tuple[str, ...]  # whose figure: models, or what `find` calls it
    bound: Bound
    find: Find
    command: str  # measures it

    def row(self, results: Results) -> str:
        """Write the row, in Markdown."""
        measured = self.find(results)
        found = {name: measured[name] for name in self.names if name in measured}
        several = len(self.names) > 1
        shown = ", ".join(
            f"{name} {self.bound.show(value)}" if several else self.bound.show(value)
            for name, value in found.items()
        )
        cells = [self.title, DEVICES[self.device], ", ".join(self.names), str(self.bound)]
        return f"| {' | '.join([*cells, shown or 'not measured', self._verdict(found)])} |"

    def _verdict(self, found: Mapping[str, float]) -> str:
        if not found:
            return f"`{self.command}`"
        missed = [name for name, value in found.items() if not self.bound.is_kept(value)]
        verdict = "missed" if missed else "met"
        if 0 < len(missed) < len(self.names):
            verdict += f" by {', '.join(missed)}"
        missing = [name for name in self.names if name not in found]
        if missing:
            verdict += f"; not measured: {', '.join(missing)}: `{self.command}`"
        return verdict


def goals_table(results: Results) -> str:
    """Compare every measurement with what is asked, as a Markdown table."""
    header = ["| | device | of | asked | measured | |", "|---|---|---|---|---|---|"]
    return "\n".join([*header, *(goal.row(results) for goal in GOALS)])


def _speed(device: str, figure: Callable[[ModelSpeed], float]) -> Find:
    """Find a figure of each backbone."""

    def find(results: Results) -> dict[str, float]:
        section = results.speed.get(device)
        return {name: figure(found) for name, found in section.models.items()} if section else {}

    return find


def _mean_of_cnns(find: Find) -> Find:
    """Average what was found of the four CNNs, if it was of all."""

    def mean(results: Results) -> dict[str, float]:
        found = find(results)
        known = [found[name] for name in CNNS if name in found]
        return {_MEAN: statistics.mean(known)} if len(known) == len(CNNS) else {}

    return mean


def _of_seven(device: str) -> Find:
    """Find how much faster all seven are evaluated."""

    def find(results: Results) -> dict[str, float]:
        section = results.speed.get(device)
        seven = section.seven if section else None
        return {_ALL_SEVEN: seven.ratio} if seven and set(seven.names) == set(SEVEN) else {}

    return find


def _own_depthwise(results: Results) -> dict[str, float]:
    """Find how much longer an epoch takes with the library's gradients."""
    section = results.ablation.get("cpu")
    models = section.models if section else {}
    return {
        name: forms[LIBRARY_DEPTHWISE]
        for name, forms in models.items()
        if LIBRARY_DEPTHWISE in forms
    }


def _slowest(spent: Mapping[str, Spent]) -> dict[str, float]:
    return {_SLOWEST: max(own.processor_seconds for own in spent.values())} if spent else {}


def _scripts(results: Results) -> dict[str, float]:
    """Find the processor's time of each command that reads stored predictions."""
    section = results.stored
    scripts = section.scripts if section else {}
    return {name: own.processor_seconds for name, own in scripts.items()}


def _training(found: ModelSpeed) -> float:
    return found.training.ratio


def _evaluation(found: ModelSpeed) -> float:
    return found.evaluation.ratio


def _gigabytes(value: float) -> str:
    return f"{value:.1f} GB"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _per_second(value: float) -> str:
    return f"{value:,.0f}/s"


_TRAINING = "training, pair-samples/s against the reference"
_EVALUATION = "evaluation of ten pairs, images/s against the reference"
_READING = "reading pixels, share of the second epoch"
_FILLING = "first fill of the cache against an epoch of the reference's decoding"
_CPU, _CPU_CNNS, _GPU = (
    speed_command("cpu"),
    speed_command("cpu", *CNNS, LITE),
    speed_command("cuda"),
)
_CPU_TRAINING, _CPU_EVALUATION = _speed("cpu", _training), _speed("cpu", _evaluation)
_CPU_READING = _speed("cpu", lambda found: found.data_share)
_GPU_READING = _speed("cuda", lambda found: found.data_share)
_CPU_FILLING = _speed("cpu", lambda found: 1 / found.decoding.ratio)
_GPU_FILLING = _speed("cuda", lambda found: 1 / found.decoding.ratio)
_DEPTHWISE_COMMAND = f"python -m dev.ablation --device cpu --base_models {LITE} efficientnetb2"

GOALS = (
    Goal(_TRAINING, "cpu", ("coatnet",), Bound(">=", 3.5), _CPU_TRAINING, _CPU),
    Goal(_TRAINING, "cpu", ("convnext", "swinv2"), Bound(">=", 4.0), _CPU_TRAINING, _CPU),
    Goal(_TRAINING, "cpu", (_MEAN,), Bound(">=", 5.0), _mean_of_cnns(_CPU_TRAINING), _CPU_CNNS),
    Goal(
        "training, against that with the library's depthwise gradients",
        "cpu",
        (LITE, "efficientnetb2"),
        Bound(">=", 2.0),
        _own_depthwise,
        _DEPTHWISE_COMMAND,
    ),
    Goal(_EVALUATION, "cpu", ("coatnet",), Bound(">=", 5.0), _CPU_EVALUATION, _CPU),
    Goal(_EVALUATION, "cpu", ("convnext", "swinv2"), Bound(">=", 3.0), _CPU_EVALUATION, _CPU),
    Goal(_EVALUATION, "cpu", CNNS, Bound(">=", 3.0), _CPU_EVALUATION, _CPU_CNNS),
    Goal(_EVALUATION, "cpu", (_ALL_SEVEN,), Bound(">=", 3.0), _of_seven("cpu"), _CPU),
    Goal(_READING, "cpu", THREE, Bound("<", 0.02, percent), _CPU_READING, _CPU),
    Goal(_FILLING, "cpu", THREE, Bound("<=", 1.0), _CPU_FILLING, _CPU),
    Goal(
        "--help of each command, processor time",
        "cpu",
        (_SLOWEST,),
        Bound("<", 1.5, _seconds),
        lambda results: _slowest(results.stored.helps if results.stored else {}),
        STORED_COMMAND,
    ),
    Goal(
        "model_analyzer.py's refusals, processor time",
        "cpu",
        (_SLOWEST,),
        Bound("<", 1.5, _seconds),
        lambda results: _slowest(results.stored.refusals if results.stored else {}),
        STORED_COMMAND,
    ),
    Goal(
        "stored predictions of seven models on 10,000 images, processor time",
        "cpu",
        ("evaluate_ensemble.py",),
        Bound("<", 30.0, _seconds),
        _scripts,
        STORED_COMMAND,
    ),
    Goal(_TRAINING, "cuda", THREE, Bound(">=", 20.0), _speed("cuda", _training), _GPU),
    Goal(
        "training, pair-samples/s",
        "cuda",
        THREE,
        Bound(">=", 2100.0, _per_second),
        _speed("cuda", lambda found: found.training.product_per_second),
        _GPU,
    ),
    Goal(
        "training, of the largest matrix product's FLOP/s",
        "cuda",
        THREE,
        Bound(">", 0.4, percent),
        _speed("cuda", lambda found: found.share_of_ceiling),
        _GPU,
    ),
    Goal(_EVALUATION, "cuda", THREE, Bound(">=", 10.0), _speed("cuda", _evaluation), _GPU),
    Goal(_EVALUATION, "cuda", (_ALL_SEVEN,), Bound(">=", 10.0), _of_seven("cuda"), _GPU),
    Goal(_READING, "cuda", THREE, Bound("<", 0.02, percent), _GPU_READING, _GPU),
    Goal(_FILLING, "cuda", THREE, Bound("<=", 1.0), _GPU_FILLING, _GPU),
    Goal(
        "peak device memory, all defaults",
        "cuda",
        THREE,
        Bound("<=", 15.0, _gigabytes),
        _speed("cuda", lambda found: found.peak_gb),
        _GPU,
    ),
)
