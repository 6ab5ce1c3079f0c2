"""The names and formats of everything in a result directory; other modules ask for them here.

Tables and figures are asked for by their name without the ending. N images, K classes, P pairs.
"""

import contextlib
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import VIEWS
from common.data.class_names import grade_order
from common.history import HISTORY_COLUMNS, EpochRow
from common.pairs import (
    Head,
    class_pairs,
    heads_of_model,
    is_one_network,
    pair_flag,
    pair_name,
)
from common.system.errors import MISFIT, InputError
from common.system.files import (
    atomic_write,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from common.system.log import shell_path

FIGURE_FORMATS = ("svg", "pdf", "none")  # of the vector file beside each PNG; the first by default
REVIEWED = "label_errors"  # the one table that people write in
_MAX_PREDICTIONS = 2**31  # bytes; a million images take a tenth of it
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
_PAIR_FILE = re.compile(r"best_(?P<model>.+)_(?P<head>\d+_\d+|shared|softmax)\.pth")


def of_split(name: str, split: str) -> str:
    """Name a file after its split, but for those of `test`, which go without."""
    return name if split == "test" else f"{name}_{split}"


@dataclass(frozen=True)
class ResultDir:
    """The paths inside one result directory."""

    root: Path

    @property
    def models(self) -> Path:
        """Folder of the best classifiers."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Folder of what resuming needs."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of numbers and figures."""
        return self.root / "results"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "logs" / "tensorboard"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.json"

    @property
    def history(self) -> Path:
        """One row per pair and epoch."""
        return self.root / "logs" / "history.csv"

    @property
    def lock(self) -> Path:
        """Locked for moments, by who writes what all trainings here share."""
        return self.root / ".lock"

    def head_lock(self, model: str, head: Head) -> Path:
        """Locked by the training of a head, so that no second one trains it."""
        return self.root / f".lock_{model}_{head.file_suffix}"

    def best(self, model: str, head: Head) -> Path:
        """The best classifier of a head."""
        return self.models / f"best_{model}_{head.file_suffix}.pth"

    def last(self, model: str, head: Head) -> Path:
        """The state after a head's last epoch, for resuming."""
        return self.checkpoints / f"last_{model}_{head.file_suffix}.pth"

    def previous(self, model: str, head: Head) -> Path:
        """The state before the last one, should that turn out to be damaged."""
        return self.checkpoints / f"previous_{model}_{head.file_suffix}.pth"

    def unfinished(self) -> bool:
        """Tell whether a classifier is left to resume."""
        return any(self.checkpoints.glob("last_*")) or any(self.checkpoints.glob("previous_*"))

    def goes_on(self, model: str, head: Head) -> bool:
        """Tell whether there is a state that a classifier's training goes on from."""
        return any(path(model, head).is_file() for path in (self.last, self.previous))

    def remove_leftovers(self, model: str, heads: Iterable[Head]) -> None:
        """Remove the half-written files of a training that was killed.

        To be called by who has locked these heads, and what all share.
        """
        for path in (self.config, self.history):
            remove_leftovers(path.parent, path.name)
        for head in heads:
            for named in (self.best, self.last, self.previous):
                path = named(model, head)
                remove_leftovers(path.parent, path.name)

    def metrics(self, split: str) -> Path:
        """Numbers of an evaluation."""
        return self.results / f"metrics_{split}.json"

    def predictions(self, split: str) -> Path:
        """Probabilities of an evaluation, image by image."""
        return self.results / f"predictions_{split}.npz"

    def fitting(self, split: str) -> Path:
        """What an evaluation has fitted temperatures and weights on, image by image."""
        return self.results / f"fitting_{split}.npz"

    @property
    def grader(self) -> Path:
        """What an evaluation chose for grading new pictures."""
        return self.results / "grader.json"

    @property
    def reference(self) -> Path:
        """What training pictures look like to the network, and in plain statistics."""
        return self.results / "reference.npz"

    def validation(self, split: str) -> Path:
        """The guide's gates and the rating that follows."""
        return self.results / f"{of_split('validation', split)}.json"

    def comparison(self, split: str) -> Path:
        """Models compared with each other."""
        return self.results / f"{of_split('comparison', split)}.json"

    def diversity(self, split: str) -> Path:
        """How differently models err."""
        return self.results / f"{of_split('diversity', split)}.json"

    def per_class(self, split: str) -> Path:
        """Models compared grade by grade."""
        return self.results / f"{of_split('per_class', split)}.json"

    def report(self, split: str) -> Path:
        """The readable report, one file."""
        return self.results / f"{of_split('report', split)}.html"

    def checklist(self, split: str) -> Path:
        """What a paper on the evaluation must say, filled in as far as a run can tell."""
        return self.results / f"{of_split('checklist', split)}.md"

    def mistakes(self, split: str) -> Path:
        """The worst mistakes with their evidence maps."""
        return self.results / f"mistakes_{split}.jpg"

    @property
    def model_card(self) -> Path:
        """What the model is, was trained on, reaches and is not for, in the hub's format."""
        return self.root / "MODEL_CARD.md"

    def review_sheet(self, split: str) -> Path:
        """The images to be graded again, where a grader writes down what is found."""
        return self.results / f"{REVIEWED}_{split}.csv"

    def table(self, name: str) -> Path:
        """A table."""
        return self.results / f"{name}.csv"

    @property
    def tables(self) -> Path:
        """Folder of the tables that a report shows."""
        return self.results / "tables"

    def split_table(self, name: str, split: str) -> Path:
        """A table as the report of a split shows it."""
        return self.tables / f"{name}_{split}.csv"

    def figure(self, name: str) -> Path:
        """A figure as PNG; beside it lies one in a vector format, if that was asked for."""
        return self.results / f"{name}.png"


@dataclass(frozen=True)
class AnalysisFiles:
    """The paths of what is said of single classifiers; the folder can be one of the user's."""

    folder: Path

    @property
    def numbers(self) -> Path:
        """The table, as JSON."""
        return self.folder / "model_analysis.json"

    @property
    def table(self) -> Path:
        """The table, as CSV."""
        return self.folder / "model_analysis.csv"

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.folder / "training_curves.png"


@dataclass(frozen=True)
class EvidenceDir:
    """The paths of what is written of pictures that were explained, in a folder of the user's."""

    folder: Path

    @property
    def page(self) -> Path:
        """All of it, to be looked at."""
        return self.folder / "evidence.html"

    @property
    def settings(self) -> Path:
        """What the maps were made with."""
        return self.folder / "evidence.run.json"

    @property
    def lock(self) -> Path:
        """Locked by the run that writes."""
        return self.folder / ".evidence.lock"

    @property
    def parts(self) -> tuple[Path, ...]:
        """The folders of what there is of each picture."""
        return tuple(self.folder / name for name in ("pictures", "overlays", "maps"))

    def picture(self, stem: str) -> Path:
        """The square that the networks saw."""
        return self.parts[0] / f"{stem}.jpg"

    def overlay(self, stem: str, decision: str) -> Path:
        """The evidence for a decision, drawn over it."""
        return self.parts[1] / f"{stem}_{decision}.png"

    def maps(self, stem: str) -> Path:
        """The evidence in numbers."""
        return self.parts[2] / f"{stem}.npz"


@dataclass(frozen=True)
class Run:
    """What a result directory says of its model, and the files of its classifiers, in order."""

    directory: ResultDir
    model: str
    head: str
    num_classes: int
    class_names: tuple[str, ...]
    dataset_path: str
    train_fingerprint: str  # of the training images; "" of the earlier trainer
    files: tuple[Path, ...]
    referable_from: str = ""  # the class from which on an eye is referred, if the training said
    skipped: tuple[str, ...] = ()  # ids of unreadable images that the training left out
    tta: str = "none"  # which views of an image predictions average, one of `config.VIEWS`

    @property
    def trained_names(self) -> tuple[str, ...]:
        """The classes' names in the order of the training."""
        return self.class_names or tuple(str(k) for k in range(self.num_classes))

    @property
    def order(self) -> tuple[int, ...]:
        """The places of the training's classes in the order of their grades.

        Earlier trainings took classes in any order.
        """
        return grade_order(self.trained_names)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names in the order of their grades, as all results have them."""
        return tuple(self.trained_names[place] for place in self.order)

    @property
    def unfinished(self) -> int:
        """Count the classifiers whose training has left a state to go on from."""
        heads = heads_of_model(self.num_classes, self.head)
        return sum(self.directory.goes_on(self.model, head) for head in heads)


def unfinished_text(run: Run, count: int) -> str:
    """Say that so many classifiers of a directory are not trained to their end."""
    return (
        f"{run.directory.root}: {count} of {len(run.files)} classifiers are unfinished; "
        f"train_ovo.py --output_dir {shell_path(run.directory.root)} --resume, with the flags that "
        "it was begun with, goes on"
    )


def find_run(directory: ResultDir) -> Run:
    """Find the classifiers of the one model in a result directory.

    A directory of the guide's earlier trainer has no config.json: its file names tell the classes.
    Raises InputError when there is no model, more than one, or a classifier is missing.
    """
    found = model_files(directory)
    if len(found) != 1:
        names = f"those of {', '.join(found)}" if found else "none"
        raise InputError(
            f"expected the classifiers of one model in {directory.models}, found {names}; "
            f"train with train_ovo.py --output_dir {directory.root}"
        )
    model, files = next(iter(found.items()))
    content: dict[str, Any] = {"config": {}}
    if directory.config.is_file():
        content = read_config(directory)
    elif not all("-" in name for name in files):
        whole = ", ".join(name for name in files if "-" not in name)
        raise InputError(f"{directory.config} is missing; the {whole} head needs it")
    try:
        return _run(directory, model, files, content)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{directory.config}: not a usable configuration ({error})") from error


def _run(directory: ResultDir, model: str, files: dict[str, Path], content: dict[str, Any]) -> Run:
    config = content["config"]
    fingerprint = str(content.get("data", {}).get("train", ""))
    highest = max((int(name.split("-")[1]) for name in files if "-" in name), default=0)
    num_classes, head = int(config.get("num_classes", highest + 1)), config.get("head", "ovo")
    if not 2 <= num_classes <= 100:
        raise ValueError(f"num_classes {num_classes}")
    names = config.get("class_names", ())
    if not all(isinstance(name, str) for name in names) or len(names) not in (0, num_classes):
        raise ValueError(f"class_names {names}")
    tta = str(config.get("tta", "none"))
    if tta not in VIEWS:
        raise ValueError(f"tta {tta}")
    expected = [one.name for one in heads_of_model(num_classes, head)]
    missing = [name for name in expected if name not in files]
    if missing:
        lost = [pair_flag(p, names) for p in class_pairs(num_classes) if pair_name(p) in missing]
        chosen = "" if is_one_network(head) else f" --pairs {' '.join(lost)}"
        place = f"--output_dir {shell_path(directory.root)}"
        raise InputError(
            f"expected {len(expected)} {'' if is_one_network(head) else 'pair '}checkpoints in "
            f"{directory.models}, found "
            f"{len(expected) - len(missing)} (missing {' '.join(missing)}); "
            f"run train_ovo.py {place} --resume{chosen}, with the flags that it was begun with"
        )
    return Run(
        directory,
        model,
        head,
        num_classes,
        tuple(names),
        str(config.get("dataset_path", "")),
        fingerprint,
        tuple(files[name] for name in expected),
        str(config.get("referable_from", "")),
        tuple(str(id_) for ids in (content.get("skipped") or {}).values() for id_ in ids),
        tta,
    )


def model_files(directory: ResultDir) -> dict[str, dict[str, Path]]:
    """List the classifiers' files by model and by the classifier's name."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(directory.models.glob("best_*.pth")):
        match = _PAIR_FILE.fullmatch(path.name)
        if match:
            name = match["head"].replace("_", "-")
            found.setdefault(match["model"], {})[name] = path
    return found


def write_history(path: Path, rows: list[EpochRow], heads: list[Head]) -> None:
    """Replace the rows of `heads` in history.csv, keeping those of others."""
    names = {head.name for head in heads}
    kept = [row for row in read_history(path) if row.head not in names]
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted([*kept, *rows], key=lambda row: (row.head, row.epoch)):
        writer.writerow(row.to_dict())
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[EpochRow]:
    """Read history.csv without the rows that nobody here wrote; an absent file has none."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(file):
            with contextlib.suppress(*MISFIT):
                rows.append(EpochRow.from_dict(row))
    return rows


def read_config(directory: ResultDir) -> dict[str, Any]:
    """Read config.json; raises InputError if it is missing or broken."""
    content = read_json(directory.config)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise InputError(f"{directory.config}: expected a configuration written by train_ovo.py")
    return content


def write_predictions(path: Path, arrays: dict[str, np.ndarray], details: dict[str, Any]) -> None:
    """Write predictions as arrays without pickles, and `details` as JSON among them."""
    with atomic_write(path) as file:
        np.savez_compressed(
            file, allow_pickle=False, details=np.array(json.dumps(details)), **arrays
        )


def read_predictions(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_predictions` wrote; raises InputError for anything else."""
    try:
        data = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(data) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_PREDICTIONS:
            raise ValueError(f"{size} bytes when unpacked, limit {_MAX_PREDICTIONS}")
        data.seek(0)
        with np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        odd = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if odd:
            raise TypeError(f"{odd[0][:40]!r} is no array")
        details = json.loads(str(arrays.pop("details")))
        if not isinstance(details, dict):
            raise TypeError(f"details are a {type(details).__name__}")
    except Exception as error:  # a stranger's bytes can raise anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: expected predictions of this tool ({reason})") from error
    return arrays, details


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of equal keys as CSV; what is undefined stays empty."""
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], previous: Path | None = None
) -> None:
    """Write rows below a header as CSV for people; what is undefined stays empty.

    previous: the name that the file now at `path` keeps.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow(map(plain_cell, row))
    with atomic_write(path, previous) as file:
        file.write(text.getvalue().encode())


def plain_cell(cell: Any) -> Any:
    """Keep a spreadsheet from taking text for a formula, by an apostrophe before it.

    As OWASP advises ("CSV Injection"); `without_apostrophe` undoes it.
    """
    if isinstance(cell, float) and cell != cell:
        return ""
    if not isinstance(cell, str):
        return cell
    cell = as_cell(cell)
    return f"'{cell}" if _looks_like_formula(cell) else cell


def as_cell(text: str) -> str:
    """Write text as a cell holds it: UTF-8, its lines ended as those of the table."""
    text = text.encode(errors="backslashreplace").decode()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_apostrophe(cell: str) -> str:
    """Read a text cell that `write_csv` has written."""
    return cell[1:] if cell.startswith("'") and _looks_like_formula(cell[1:]) else cell


def _looks_like_formula(cell: str) -> bool:
    return cell.lstrip("'").startswith(_FORMULA) and not _NUMBER.fullmatch(cell)


def set_aside(path: Path) -> Path:
    """Return a name that is free for an earlier file at this path."""
    numbers = ("", *(f"_{number}" for number in range(2, 1000)))
    names = (path.with_name(f"{path.stem}_earlier{number}{path.suffix}") for number in numbers)
    return next(name for name in names if not name.exists())


def write_metrics(path: Path, content: dict[str, Any]) -> None:
    """Write an evaluation's numbers."""
    write_json(path, content)
