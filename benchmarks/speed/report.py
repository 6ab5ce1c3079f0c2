"""RESULTS.md: what was measured, against what was asked.

A section that was never measured says so, with the command that would.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.speed.goals import (
    CNNS,
    DEVICES,
    LITE,
    STORED_COMMAND,
    THREE,
    goals_table,
    percent,
    speed_command,
)
from benchmarks.speed.results import (
    AblationSection,
    KindOfWork,
    OtherHour,
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

_PRECISION_COMMAND = (
    "python -m dev.bf16_vs_fp32 --results_dirs ./*_5class_results "
    "--dataset_path ./my_graded_photographs --device cuda"
)


def write(folder: Path, results: Results) -> str:
    """Write RESULTS.md and return its text."""
    text = render(results)
    write_text(folder / "RESULTS.md", text)
    return text


def render(results: Results) -> str:
    """Lay out RESULTS.md."""
    parts = [
        "# Product against reference loop",
        "`speed/reference.py` is the recipe as one would first write it: a full model per pair, "
        "decoding in a DataLoader, batches of two, fp32. Both work in one process on the same "
        "images, in turn; a ratio is the median over the repeats, with its range. Ratios move with "
        "the machine and its hour: those of others stand below.",
        "## Goals",
        goals_table(results),
    ]
    for device, title in DEVICES.items():
        parts += [
            f"## {title}",
            _speed(results.speed.get(device), device),
            f"### Ablation, {title}",
            _ablation(results.ablation.get(device), device),
            f"### Where a training epoch's time goes, {title}",
            _profile(results.profile.get(device), device),
        ]
    if results.other_hours:
        parts += ["## On other machines and in other hours", _other_hours(results.other_hours)]
    parts += ["## Without a network", _stored(results.stored)]
    parts += ["## Beside other ways", _side_by_side(results.side_by_side)]
    parts += ["## bf16 against fp32", _precision(results.precision)]
    return "\n\n".join(parts) + "\n"


def _speed(section: SpeedSection | None, device: str) -> str:
    if section is None:
        return (
            f"Not measured. Where there is one: `{speed_command(device)}` and, of the other "
            f"networks, `{speed_command(device, *CNNS, LITE)}`"
        )
    rows = []
    for name, found in section.models.items():
        rows += [
            _speed_row(name, "training", "pair-samples/s", found.training, found.date),
            _speed_row(name, "evaluation", "images/s", found.evaluation, found.date),
            _speed_row(name, "evaluation, cold", "images/s", found.cold, found.date),
            _speed_row(name, "decoding", "images/s", found.decoding, found.date),
        ]
    if section.seven:
        title = f"{len(section.seven.names)} models"
        rows.append(_speed_row(title, "evaluation", "images/s", section.seven, section.seven.date))
    missing = [name for name in (*THREE, *CNNS, LITE) if name not in section.models]
    rows += [[name, "not measured", *"------"] for name in missing]
    header = ["model", "work", "unit", "reference", "product", "ratio", "range", "measured on"]
    software = ", ".join(f"{key} {value}" for key, value in section.versions.items())
    peak = "Peak: of the product alone, all defaults, and the most that the pixels of a larger "
    peak += "dataset may take."
    if device == "cpu":
        peak = "Peak: resident memory of the process with both loops."
    rest = f" Not measured: `{speed_command(device, *missing)}`" if missing else ""
    return (
        f"{section.date}; `{section.command}`; {section.processor}\n\n{software}\n\n"
        f"```\n{format_table(header, rows)}\n\n{_details(section)}\n```\n\n"
        "Evaluation reads a filled cache; cold fills it first, timed after the others. Decoding: "
        "the reference's epoch of ten pairs against the product's first fill. Ratio at all of it: "
        "what it would be if all that the product multiplies were as fast as the "
        f"largest matrix product and nothing else took time. {peak}{rest}"
    )


def _other_hours(hours: Sequence[OtherHour]) -> str:
    single = [name for hour in hours for name in hour.training]
    names = dict.fromkeys([*single, *(name for hour in hours for name in hour.evaluation)])
    rows = [
        [name, *(_both(hour.training.get(name), hour.evaluation.get(name)) for hour in hours)]
        for name in names
    ]
    header = ["training / evaluation", *(f"[{number + 1}]" for number in range(len(hours)))]
    notes = [f"[{number + 1}] {hour.told}" for number, hour in enumerate(hours)]
    return (
        "The product against the reference on a CPU, as in its table above. Without bf16 in its "
        "hardware the product computes in fp32, as the reference does, and gains less; beside "
        "other work it gains more, since the reference loses more to that.\n\n"
        f"```\n{format_table(header, rows)}\n```\n\n" + "  \n".join(notes)
    )


def _both(training: float | None, evaluation: float | None) -> str:
    shown = ["-" if ratio is None else f"{ratio:.2f}x" for ratio in (training, evaluation)]
    return " / ".join(shown) if training or evaluation else "-"


def _speed_row(name: str, work: str, unit: str, speed: Speed, date: str) -> list[str]:
    return [
        name,
        work,
        unit,
        f"{speed.reference_per_second:.2f}",
        f"{speed.product_per_second:.2f}",
        f"{speed.ratio:.2f}",
        f"{speed.ratio_low:.2f} to {speed.ratio_high:.2f}",
        date,
    ]


def _details(section: SpeedSection) -> str:
    header = [
        "model",
        "precision",
        "px",
        "reading / epoch",
        "training GFLOP/s",
        "of the largest product's",
        "ratio at all of it",
        "evaluation, of the largest product's",
        "ratio at all of it",
        "peak GB",
    ]
    rows = [
        [
            name,
            found.precision,
            found.img_size,
            percent(found.data_share),
            f"{found.training_flops / 1e9:.1f}",
            *_of_ceiling(found.training, found.share_of_ceiling),
            *_of_ceiling(found.evaluation, found.evaluation_share),
            f"{found.peak_gb:.1f}",
        ]
        for name, found in section.models.items()
    ]
    return format_table(header, rows)


def _of_ceiling(speed: Speed, share: float | None) -> list[str]:
    """Show a share of the largest product's speed, and the ratio that all of it would give."""
    return [f"{100 * share:.0f} %", f"{speed.ratio / share:.2f}"] if share else ["-", "-"]


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
        return f"Not measured: `{STORED_COMMAND}`"
    found = dict(section.scripts)
    found |= {f"model_analyzer.py: {name}": own for name, own in section.refusals.items()}
    found |= {f"{name} --help": own for name, own in section.helps.items()}
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
