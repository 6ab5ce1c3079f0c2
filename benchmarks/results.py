"""results.json and RESULTS.md: what was measured, against what was asked.

Two sections per device, one for precision; a section that was never measured says so, with the
command that would.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.reporting.tables import format_table
from common.system.errors import InputError
from common.system.files import read_json, write_json, write_text

THREE = ("coatnet", "convnext", "swinv2")
SEVEN = (*THREE, "densenet121", "efficientnetb2", "resnet50", "seresnext50")
HERE = Path(__file__).parent
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
COMMANDS = {
    "cpu": "python -m benchmarks.run --device cpu",
    "cuda": "python -m benchmarks.run --device cuda",
    "means_cpu": "python -m dev.ablation --device cpu",
    "means_cuda": "python -m dev.ablation --device cuda",
    "precision": "python -m dev.bf16_vs_fp32 --results_dirs ./*_5class_results "
    "--dataset_path ./my_graded_photographs --device cuda",
}
# goal, key of the measurement, least or greatest allowed on a CPU and on a GPU
GOALS = (
    ("training, pair-samples/s against the reference", "training", 2.5, 20.0),
    ("evaluation of ten pairs, images/s against the reference", "evaluation", 3.0, 10.0),
    ("seven-model evaluation, images/s against the reference", "seven", 3.0, 10.0),
    ("reading pixels, share of the second epoch", "data_share", 0.02, 0.02),
    ("first fill of the cache against an epoch of the reference's decoding", "fill", 1.0, 1.0),
    ("peak device memory, GB", "peak_gb", None, 15.0),
)
AT_MOST = ("data_share", "fill", "peak_gb")


def load(folder: Path) -> dict[str, Any]:
    """Read results.json, if there is one; raises InputError if it is damaged."""
    path = folder / "results.json"
    everything = read_json(path) if path.is_file() else {}
    try:
        render(everything)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: expected earlier results, found something else ({error!r}); move it away"
        ) from error
    return everything


def begun(folder: Path, name: str, conditions: dict[str, Any]) -> dict[str, Any]:
    """Return a section to add to: what was measured under the same conditions, or a fresh one."""
    section = load(folder).get(name, {})
    same = all(section.get(key) == value for key, value in conditions.items())
    return section if same else {"models": {}, **conditions}


def store(folder: Path, name: str, content: dict[str, Any]) -> str:
    """Put one section, with its date, into results.json; write RESULTS.md anew, return its text."""
    everything = load(folder)
    everything[name] = content | {"date": datetime.now(UTC).date().isoformat()}
    text = render(everything)
    write_json(folder / "results.json", everything)
    write_text(folder / "RESULTS.md", text)
    return text


def render(everything: dict[str, Any]) -> str:
    """Lay out RESULTS.md."""
    parts = [
        "# Product against reference loop",
        "`reference.py` is the recipe as one would first write it: a full model per pair, decoding "
        "in a DataLoader, batches of two, fp32. Both work in one process on the same images, in "
        "turn; a ratio is the median over the repeats, with its range.",
        "## Goals",
        goals_table(everything),
    ]
    for device in DEVICES:
        means = f"means_{device}"
        parts += [
            f"## {DEVICES[device]}",
            _device_section(everything.get(device), device),
            f"### What each means is worth, {DEVICES[device]}",
            _means_section(everything.get(means), means),
        ]
    parts += ["## bf16 against fp32", _precision_section(everything.get("precision"))]
    return "\n\n".join(parts) + "\n"


def goals_table(everything: dict[str, Any]) -> str:
    """Compare every measurement with what was asked, as a Markdown table."""
    lines = ["| | device | asked | measured | |", "|---|---|---|---|---|"]
    for title, key, *asked in GOALS:
        for (device, name), bound in zip(DEVICES.items(), asked):
            if bound is None:
                continue
            found = _values(everything.get(device), key)
            sign = "<=" if key in AT_MOST else ">="
            limit = f"{sign} {_number(key, bound)}"
            if not found:
                lines.append(
                    f"| {title} | {name} | {limit} | not measured | `{COMMANDS[device]}` |"
                )
                continue
            good = [
                value <= bound if key in AT_MOST else value >= bound for value in found.values()
            ]
            shown = ", ".join(f"{model} {_number(key, v)}" for model, v in found.items())
            missing = [] if key == "seven" else sorted(set(THREE) - set(found))
            verdict = "met" if all(good) else "missed"
            verdict += f", without {', '.join(missing)}" if missing else ""
            lines.append(f"| {title} | {name} | {limit} | {shown} | {verdict} |")
    return "\n".join(lines)


def _number(key: str, value: float) -> str:
    if key == "data_share":
        return f"{100 * value:.2f} %"
    return f"{value:.1f} GB" if key == "peak_gb" else f"{value:.2f}x"


def _values(section: dict[str, Any] | None, key: str) -> dict[str, float]:
    if section is None:
        return {}
    if key == "seven":
        seven = section.get("seven")
        return {"all": seven["ratio"]} if seven and set(seven["names"]) == set(SEVEN) else {}
    if key == "fill":
        return {name: 1 / found["decoding"]["ratio"] for name, found in section["models"].items()}
    found = {name: entry[key] for name, entry in section["models"].items()}
    return {n: v["ratio"] if isinstance(v, dict) else v for n, v in found.items()}


def _device_section(section: dict[str, Any] | None, device: str) -> str:
    if section is None:
        return f"Not measured. Where there is one: `{COMMANDS[device]}`"
    rows, details = [], []
    works = (
        ("training", "pair-samples/s"),
        ("evaluation", "images/s"),
        ("evaluation, cold", "images/s"),
        ("decoding", "images/s"),
    )
    entries = [
        (name, work, unit, found[work])
        for name, found in section["models"].items()
        for work, unit in works
    ]
    if section.get("seven"):
        title = f"{len(section['seven']['names'])} models"
        entries.append((title, "evaluation", "images/s", section["seven"]))
    for name, work, unit, entry in entries:
        rows.append(
            [
                name,
                work,
                unit,
                f"{entry['reference_per_second']:.2f}",
                f"{entry['product_per_second']:.2f}",
                f"{entry['ratio']:.2f}",
                f"{entry['ratio_low']:.2f} to {entry['ratio_high']:.2f}",
            ]
        )
    for name, found in section["models"].items():
        details.append(
            [
                name,
                found["precision"],
                found["img_size"],
                f"{100 * found['data_share']:.2f} %",
                f"{found['training_flops'] / 1e9:.1f}",
                f"{100 * found['share_of_ceiling']:.0f} %",
                f"{found['peak_gb']:.1f}",
            ]
        )
    header = ["model", "work", "unit", "reference", "product", "ratio", "range"]
    columns = [
        "model",
        "precision",
        "px",
        "reading / epoch",
        "training GFLOP/s",
        "of the matrix product's",
        "peak GB",
    ]
    software = ", ".join(f"{key} {value}" for key, value in section["versions"].items())
    return (
        f"{section['date']}; `{section['command']}`; {section['processor']}\n\n{software}\n\n"
        f"```\n{format_table(header, rows)}\n\n{format_table(columns, details)}\n```\n\n"
        "Evaluation reads a filled cache; cold fills it first, timed after the others. Decoding: "
        "the reference's epoch of ten pairs against the product's first fill. "
        + (
            "Peak: resident memory of the process with both loops."
            if device == "cpu"
            else "Peak: of the product alone, all defaults, and the most that "
            "the pixels of a larger dataset may take."
        )
    )


def _means_section(section: dict[str, Any] | None, name: str) -> str:
    if section is None:
        return f"Not measured: `{COMMANDS[name]}`"
    models = section["models"]
    forms = list(dict.fromkeys(form for found in models.values() for form in found))
    rows = [
        [form, *(f"{found[form]:.2f}" if form in found else "-" for found in models.values())]
        for form in forms
    ]
    return (
        f"{section['date']}; `{section['command']}`; {section['processor']}\n\n"
        "The time of a training epoch in that form, over that of the product as it is; above 1 is "
        f"slower.\n\n```\n{format_table(['form', *models], rows)}\n```"
    )


def _precision_section(section: dict[str, Any] | None) -> str:
    if section is None:
        return f"Not measured: `{COMMANDS['precision']}`"
    rows = [
        [
            name,
            found["images"],
            f"{100 * found['agreement']:.1f} %",
            *(
                "n/a" if found[key] is None or math.isnan(found[key]) else f"{found[key]:.4f}"
                for key in ("auc_class", "auc_pair", "probability")
            ),
        ]
        for name, found in section["models"].items()
    ]
    header = [
        "model",
        "images",
        "same grade",
        "class AUC, largest diff.",
        "pair AUC, largest diff.",
        "pair probability, largest diff.",
    ]
    return (
        f"{section['date']}; `{section['command']}`; {section['data']}\n\n"
        f"```\n{format_table(header, rows)}\n```"
    )
