"""RESULTS.md: what was measured, against what was asked.

A section that was never measured says so, with the command that would.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import (
    AblationSection,
    KindOfWork,
    ModelSpeed,
    PrecisionSection,
    ProfileSection,
    Results,
    SideBySideSection,
    Speed,
    SpeedSection,
    StoredSection,
)
from common.reporting.table import format_table
from common.system.files import write_text

THREE = ("coatnet", "convnext", "swinv2")
SEVEN = (*THREE, "densenet121", "efficientnetb2", "resnet50", "seresnext50")
_DEVICES = {"cpu": "CPU", "cuda": "GPU"}
_PRECISION_COMMAND = (
    "python -m dev.bf16_vs_fp32 --results_dirs ./*_5class_results "
    "--dataset_path ./my_graded_photographs --device cuda"
)


@dataclass(frozen=True)
class Goal:
    """A bound that a measurement of each backbone should keep, on a CPU and on a GPU.

    at_most: the bound is the greatest value allowed, otherwise the least. Without a bound for a
    type of device, there is no goal.
    """

    title: str
    value: Callable[[ModelSpeed], float]
    bounds: dict[str, float]
    show: Callable[[float], str]
    at_most: bool = False

    def limit(self, device: str) -> str:
        """Write the bound."""
        return f"{'<=' if self.at_most else '>='} {self.show(self.bounds[device])}"

    def is_met(self, value: float, device: str) -> bool:
        """Tell whether a value keeps the bound."""
        bound = self.bounds[device]
        return value <= bound if self.at_most else value >= bound


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _gigabytes(value: float) -> str:
    return f"{value:.1f} GB"


_TRAINING = Goal(
    "training, pair-samples/s against the reference",
    lambda found: found.training.ratio,
    {"cpu": 2.5, "cuda": 20.0},
    _times,
)
_EVALUATION = Goal(
    "evaluation of ten pairs, images/s against the reference",
    lambda found: found.evaluation.ratio,
    {"cpu": 3.0, "cuda": 10.0},
    _times,
)
_READING = Goal(
    "reading pixels, share of the second epoch",
    lambda found: found.data_share,
    {"cpu": 0.02, "cuda": 0.02},
    _percent,
    at_most=True,
)
_FILLING = Goal(
    "first fill of the cache against an epoch of the reference's decoding",
    lambda found: 1 / found.decoding.ratio,
    {"cpu": 1.0, "cuda": 1.0},
    _times,
    at_most=True,
)
_MEMORY = Goal(
    "peak device memory, GB",
    lambda found: found.peak_gb,
    {"cuda": 15.0},
    _gigabytes,
    at_most=True,
)
_STORED_COMMAND = "python -m benchmarks.stored"
_STORED = (  # title, seconds of the processor at most, of which commands, their place in results
    ("--help of each script", 1.5, "helps"),
    ("evaluate_ensemble.py, stored predictions of seven models", 30.0, "scripts"),
)
_SEVEN_TITLE = "seven-model evaluation, images/s against the reference"


def write(folder: Path, results: Results) -> str:
    """Write RESULTS.md and return its text."""
    text = render(results)
    write_text(folder / "RESULTS.md", text)
    return text


def render(results: Results) -> str:
    """Lay out RESULTS.md."""
    parts = [
        "# Product against reference loop",
        "`reference.py` is the recipe as one would first write it: a full model per pair, decoding "
        "in a DataLoader, batches of two, fp32. Both work in one process on the same images, in "
        "turn; a ratio is the median over the repeats, with its range.",
        "Ratios move with the machine and its hour: on another day the same kind of machine gave "
        "2.6x for the training and 3.8x for the evaluation of ConvNeXt. Without bf16 hardware the "
        "product computes in fp32, as the reference does, and gains less.",
        "## Goals",
        _goals(results),
    ]
    for device, title in _DEVICES.items():
        parts += [
            f"## {title}",
            _speed(results.speed.get(device), device),
            f"### Ablation, {title}",
            _ablation(results.ablation.get(device), device),
            f"### Where a training epoch's time goes, {title}",
            _profile(results.profile.get(device), device),
        ]
    parts += ["## Without a network", _stored(results.stored)]
    parts += ["## Beside other ways", _side_by_side(results.side_by_side)]
    parts += ["## bf16 against fp32", _precision(results.precision)]
    return "\n\n".join(parts) + "\n"


def _goals(results: Results) -> str:
    """Compare every measurement with what was asked, as a Markdown table."""
    lines = ["| | device | asked | measured | |", "|---|---|---|---|---|"]
    for goal in (_TRAINING, _EVALUATION):
        lines += [_goal(goal, device, results.speed.get(device)) for device in goal.bounds]
    lines += [_goal_of_seven(device, results.speed.get(device)) for device in _DEVICES]
    for goal in (_READING, _FILLING, _MEMORY):
        lines += [_goal(goal, device, results.speed.get(device)) for device in goal.bounds]
    return "\n".join([*lines, *_stored_goals(results.stored)])


def _stored_goals(section: StoredSection | None) -> list[str]:
    lines = []
    for title, bound, part in _STORED:
        start = f"| {title}, processor time | CPU | < {bound:g} s |"
        if section is None:
            lines.append(f"{start} not measured | `{_STORED_COMMAND}` |")
            continue
        of_all = part == "helps"
        spent = section.helps if of_all else section.scripts
        most = max(
            own.processor_seconds for name, own in spent.items() if name in title or part == "helps"
        )
        lines.append(f"{start} {most:.1f} s | {'met' if most < bound else 'missed'} |")
    return lines


def _goal(goal: Goal, device: str, section: SpeedSection | None) -> str:
    start = f"| {goal.title} | {_DEVICES[device]} | {goal.limit(device)} |"
    if section is None or not section.models:
        return f"{start} not measured | `{_speed_command(device)}` |"
    values = {name: goal.value(found) for name, found in section.models.items()}
    shown = ", ".join(f"{name} {goal.show(value)}" for name, value in values.items())
    verdict = "met" if all(goal.is_met(v, device) for v in values.values()) else "missed"
    missing = sorted(set(THREE) - set(values))
    verdict += f", without {', '.join(missing)}" if missing else ""
    return f"{start} {shown} | {verdict} |"


def _goal_of_seven(device: str, section: SpeedSection | None) -> str:
    bound = _EVALUATION.bounds[device]
    start = f"| {_SEVEN_TITLE} | {_DEVICES[device]} | {_EVALUATION.limit(device)} |"
    seven = section.seven if section else None
    if seven is None or set(seven.names) != set(SEVEN):
        return f"{start} not measured | `{_speed_command(device)}` |"
    verdict = "met" if seven.ratio >= bound else "missed"
    return f"{start} all {_times(seven.ratio)} | {verdict} |"


def _speed_command(device: str) -> str:
    return f"python -m benchmarks.run --device {device}"


def _speed(section: SpeedSection | None, device: str) -> str:
    if section is None:
        return f"Not measured. Where there is one: `{_speed_command(device)}`"
    rows = []
    for name, found in section.models.items():
        rows += [
            _speed_row(name, "training", "pair-samples/s", found.training),
            _speed_row(name, "evaluation", "images/s", found.evaluation),
            _speed_row(name, "evaluation, cold", "images/s", found.cold),
            _speed_row(name, "decoding", "images/s", found.decoding),
        ]
    if section.seven:
        title = f"{len(section.seven.names)} models"
        rows.append(_speed_row(title, "evaluation", "images/s", section.seven))
    header = ["model", "work", "unit", "reference", "product", "ratio", "range"]
    software = ", ".join(f"{key} {value}" for key, value in section.versions.items())
    peak = "Peak: of the product alone, all defaults, and the most that the pixels of a larger "
    peak += "dataset may take."
    if device == "cpu":
        peak = "Peak: resident memory of the process with both loops."
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n{software}\n\n"
        f"```\n{format_table(header, rows)}\n\n{_details(section)}\n```\n\n"
        "Evaluation reads a filled cache; cold fills it first, timed after the others. Decoding: "
        f"the reference's epoch of ten pairs against the product's first fill. {peak}"
    )


def _speed_row(name: str, work: str, unit: str, speed: Speed) -> list[str]:
    return [
        name,
        work,
        unit,
        f"{speed.reference_per_second:.2f}",
        f"{speed.product_per_second:.2f}",
        f"{speed.ratio:.2f}",
        f"{speed.ratio_low:.2f} to {speed.ratio_high:.2f}",
    ]


def _details(section: SpeedSection) -> str:
    header = [
        "model",
        "precision",
        "px",
        "reading / epoch",
        "training GFLOP/s",
        "of the matrix product's",
        "peak GB",
    ]
    rows = [
        [
            name,
            found.precision,
            found.img_size,
            _percent(found.data_share),
            f"{found.training_flops / 1e9:.1f}",
            f"{100 * found.share_of_ceiling:.0f} %",
            f"{found.peak_gb:.1f}",
        ]
        for name, found in section.models.items()
    ]
    return format_table(header, rows)


def _ablation(section: AblationSection | None, device: str) -> str:
    if section is None:
        return f"Not measured: `python -m dev.ablation --device {device}`"
    models = section.models
    forms = list(dict.fromkeys(form for found in models.values() for form in found))
    rows = [
        [form, *(f"{found[form]:.2f}" if form in found else "-" for found in models.values())]
        for form in forms
    ]
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n"
        "The time of a training epoch in that form, over that of the product as it is; above 1 is "
        f"slower.\n\n```\n{format_table(['form', *models], rows)}\n```"
    )


def _stored(section: StoredSection | None) -> str:
    if section is None:
        return f"Not measured: `{_STORED_COMMAND}`"
    found = {**section.scripts, **{f"{name} --help": own for name, own in section.helps.items()}}
    rows = [
        [name, f"{own.processor_seconds:.1f}", f"{own.seconds:.1f}"] for name, own in found.items()
    ]
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n"
        f"Predictions of {section.models} models on {section.images:,} images are stored; "
        f"{section.resamples:,} resamples; files are compared with those of training by name and "
        "bytes (`--holdout_check names`).\n\n"
        f"```\n{format_table(['command', 'processor s', 's'], rows)}\n```"
    )


def _profile(section: ProfileSection | None, device: str) -> str:
    if section is None:
        return (
            "Not measured: `python -m dev.profile_step --base_models coatnet convnext swinv2 "
            f"--device {device} --output_dir benchmarks`"
        )
    return profile_table(section)


def profile_table(section: ProfileSection) -> str:
    """Lay out where the time goes."""
    models = section.models
    kinds = list(dict.fromkeys(kind for found in models.values() for kind in found))
    rows = []
    for kind in kinds:
        cells = [models[name].get(kind) for name in models]
        rows.append([kind, *("-" if cell is None else _share(cell) for cell in cells)])
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n"
        "Each kind's share of the time, and in brackets how much of its bound it reaches: matrix "
        "products and convolutions together of the largest matrix product "
        f"({section.ceiling / 1e9:.0f} GFLOP/s), the rest of a large copy "
        f"({section.bandwidth / 1e9:.0f} GB/s; more than all of it where numbers stay in the "
        f"processor's cache).\n\n```\n{format_table(['kind', *models], rows)}\n```"
    )


def _share(found: KindOfWork) -> str:
    bound = "" if math.isnan(found.of_bound) else f" ({100 * found.of_bound:.0f} %)"
    return f"{100 * found.share:.1f} %{bound}"


def _side_by_side(sections: Mapping[str, SideBySideSection]) -> str:
    if not sections:
        command = "python -m benchmarks.side_by_side --dataset_path ./my_graded_photographs"
        return f"Not measured: `{command}`"
    told = (
        "An epoch with its validation; timm decodes every photograph in every epoch, the three "
        "heads once before the first, which is not counted; scikit-learn has one epoch: decoding, "
        "features and fit. Every way was judged on the val that chose its best epoch (timm's: its "
        "last), so that kappa compares and promises nothing."
    )
    return "\n\n".join([told, *map(side_by_side_table, sections.values())])


def side_by_side_table(section: SideBySideSection) -> str:
    """Lay out what each way gave."""
    header = ["way", "seconds per epoch", "evaluation, images/s", "quadratic kappa on val (95 %)"]
    rows = []
    for title, found in section.ways.items():
        bounds = (found.kappa, found.kappa_low, found.kappa_high)
        shown = ["n/a" if math.isnan(value) else f"{value:.2f}" for value in bounds]
        rows.append(
            [
                title,
                f"{found.seconds_per_epoch:.1f}",
                f"{found.images_per_second:.1f}",
                f"{shown[0]} ({shown[1]} to {shown[2]})",
            ]
        )
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n{section.data}.\n\n"
        f"```\n{format_table(header, rows)}\n```"
    )


def _precision(section: PrecisionSection | None) -> str:
    if section is None:
        return f"Not measured: `{_PRECISION_COMMAND}`"
    header = [
        "model",
        "images",
        "same grade",
        "class AUC, largest diff.",
        "pair AUC, largest diff.",
        "pair probability, largest diff.",
    ]
    rows = []
    for name, found in section.models.items():
        largest = (found.auc_class, found.auc_pair, found.probability)
        shown = ["n/a" if math.isnan(value) else f"{value:.4f}" for value in largest]
        rows.append([name, found.images, f"{100 * found.agreement:.1f} %", *shown])
    return (
        f"{section.date}; `{section.command}`; {section.data}\n\n"
        f"```\n{format_table(header, rows)}\n```"
    )
