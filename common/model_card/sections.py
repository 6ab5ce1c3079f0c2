"""The sections of a model card on what a model is, what it has learned from, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.fitting.sources import Trained
from common.in_force import TrainedWith
from common.listing.walking import count_of
from common.pairs import class_pairs, is_one_network
from common.prediction.predictions import PairPredictions
from common.reporting import checklist, summary
from common.reporting.table import Cell, escaped, make_table
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.system.log import printable

_INTENDED = (
    "Research on grading diabetic retinopathy in colour photographs of the retina: comparing "
    "models and training sets, and studies in which a qualified person reads every picture, too."
)
_SETTINGS = {
    "pixels": checklist.PIXELS,
    "where the weights start": checklist.START,
    "training": checklist.RECIPE,
    "imbalance of the classes": checklist.IMBALANCE,
    "choice of the epoch": checklist.CHOICE,
}


@dataclass(frozen=True)
class Known:
    """What is known of one model beside its figures."""

    label: str
    run: Run
    content: Mapping[str, Any] = field(default_factory=dict)  # of config.json, if there is one
    images: Mapping[str, Sequence[int]] = field(default_factory=dict)  # by split, of each class
    predicted: PairPredictions | None = None  # None: it was not evaluated

    @property
    def name(self) -> str:
        """The name of its result directory."""
        return folder_name(self.run.directory)

    @property
    def settings(self) -> TrainedWith:
        """The settings of its training, with the weights' file by its name, not its place."""
        if not self.content:
            return TrainedWith()
        found = TrainedWith.from_content(self.content)
        weights = Path(str(found.values.get("weights", ""))).name
        return replace(found, values={**found.values, "weights": weights})


def what_is_known(
    label: str,
    run: Run,
    content: Mapping[str, Any],
    trained: Trained | None = None,
    predicted: PairPredictions | None = None,
) -> Known:
    """Gather what is known of a model.

    content: of config.json. Numbers of images are as listed now (trained), else as it says.
    """
    images: dict[str, Sequence[int]] = {}
    stored = content.get("images")
    for name, counts in stored.items() if isinstance(stored, dict) else ():
        if isinstance(counts, list) and len(counts) == run.num_classes:
            images[str(name)] = [counts[place] for place in run.order]
    for split in (trained.train, trained.val) if trained is not None else ():
        if split is not None:
            images[split.name] = split.counts(run.num_classes)
    return Known(label, run, content, images, predicted)


def folder_name(directory: ResultDir) -> str:
    """Return what a result directory is called, wherever it lies."""
    return printable(directory.root.resolve().name)


def introduction(models: Sequence[Known]) -> str:
    """Say what the models are made of."""
    names = models[0].run.names
    what = "An ensemble of:" if len(models) > 1 else "The model:"
    kinds = [f"- `{known.run.model}`: {'; '.join(_made_of(known))}" for known in models]
    return "\n".join(
        [
            f"Grades diabetic retinopathy on colour photographs of the retina into {len(names)} "
            f"classes ({escaped(', '.join(names))}), One-vs-One: each pair of classes is decided "
            "by itself, and a vote turns these decisions into a probability of each class. "
            f"{what}",
            "",
            *kinds,
        ]
    )


def _made_of(known: Known) -> list[str]:
    """List outputs, pixels, size, views and the fingerprint of the weights, as far as known."""
    run, pairs = known.run, len(class_pairs(known.run.num_classes))
    if run.head == "softmax":
        said = [f"one network with an output for each of {run.num_classes} classes"]
    elif is_one_network(run.head):
        said = [f"one network with {count_of(pairs, 'output')}, one for each pair"]
    else:
        said = [f"{count_of(pairs, 'binary classifier')}, one for each pair"]
    size = known.settings.values.get("img_size")
    if isinstance(size, int) and size > 0:
        said.append(f"{size} x {size} pixels")
    if known.predicted is not None:
        cost, origin = known.predicted.cost, known.predicted.origin
        said.append(f"{cost.parameters / 1e6:.1f} M parameters, {cost.gflops:.1f} GFLOPs an image")
        if origin.tta != "none":
            said.append(f"logits averaged over views of each image ({origin.tta})")
        said.append(f"fingerprint of its files `{printable(origin.checkpoints)}`")
    return said


def uses() -> str:
    """Say what a model is for, and what it is not for."""
    return f"## Intended use\n\n{_INTENDED}\n\n## Not intended for\n\n{summary.NOT_FOR}"


@dataclass(frozen=True)
class _Images:
    """Images that models have learned from, or that their epochs were chosen on."""

    dataset: str
    split: str
    counts: tuple[int, ...] | None  # by class; None: not at hand
    fingerprint: str


def training_data(models: Sequence[Known]) -> str:
    """List which images models have learned from, equal ones once."""
    names, several = models[0].run.names, len(models) > 1
    users: dict[_Images, list[str]] = {}
    for known in models:
        for split in ("train", "val"):
            users.setdefault(_images(known, split), []).append(known.label)
    rows: list[list[Cell]] = []
    for each, labels in users.items():
        unknown: list[int | None] = [None] * (len(names) + 1)
        counts = unknown if each.counts is None else [sum(each.counts), *each.counts]
        of = [", ".join(labels)] if several else []
        rows.append([each.dataset, each.split, *counts, each.fingerprint, *of])
    notes = [
        "Numbers of images, in all and by class (-: they were not at hand). The model has learned "
        "from train; val has told how far it was. Fingerprint: of the files' names and sizes."
    ]
    for known in models:
        if known.run.skipped:
            left_out = count_of(len(known.run.skipped), "unreadable image")
            notes.append(f"{known.label}: {left_out} left out.")
        if known.run.unfinished:
            notes.append(f"{known.label}: the training was not ended when this was written.")
    if any(known.content.get("synthetic") for known in models):
        notes.append("The images were drawn by this software: none shows an eye.")
    columns = ["dataset", "split", "images", *names, "fingerprint", *(["models"] * several)]
    return f"## Training data\n\n{make_table('data', '', columns, rows, notes).to_markdown()}"


def _images(known: Known, split: str) -> _Images:
    counts, data = known.images.get(split), known.content.get("data")
    fingerprint = str(data.get(split, "")) if isinstance(data, dict) else ""
    return _Images(
        printable(Path(known.run.dataset_path).name) or "not known",
        split,
        None if counts is None else tuple(counts),
        fingerprint or "not known",
    )


def how_trained(models: Sequence[Known]) -> str:
    """Say with which settings models were trained, those that had an effect, and with what."""
    recipes = {known.label: known.settings for known in models}
    rows = [
        [title, said]
        for title, names in _SETTINGS.items()
        if (said := checklist.settings_text(recipes, names))
    ]
    for known in models:
        if made := _made_with(known.content):
            rows.append(["made with" if len(models) == 1 else f"{known.label} made with", made])
    notes = []
    for label, recipe in recipes.items():
        if not recipe.values:
            notes.append(f"Settings of {label} are not known: the earlier trainer kept none.")
        if recipe.changed:
            notes.append(f"Changed in mid-training of {label}: {recipe.changed}.")
    table = make_table("training", "", ["", "settings that had an effect"], rows, notes)
    return f"## How it was trained\n\n{table.to_markdown().strip()}"


def _made_with(content: Mapping[str, Any]) -> str:
    """Say with which versions and when a model was trained."""
    versions = content.get("versions")
    known = versions if isinstance(versions, dict) else {}
    said = [f"{name} {known[name]}" for name in ("torch", "timm", "device") if name in known]
    for name, title in (("precision", ""), ("created", "on "), ("git_commit", "commit ")):
        said += [f"{title}{content[name]}"] if content.get(name) else []
    return ", ".join(said)
