"""The model of a result directory, as its files and configuration tell it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import VIEWS
from common.data.class_names import grade_order
from common.pairs import class_pairs, heads_of_model, is_one_network, pair_flag, pair_name
from common.result_dir.paths import ResultDir
from common.system.errors import MISFIT, InputError
from common.system.files import read_json
from common.system.log import shell_path

MOST_CLASSES = 100  # that a config.json is believed
_PAIR_FILE = re.compile(r"best_(?P<model>.+)_(?P<head>\d+_\d+|shared|softmax)\.pth")


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
    if not found:
        raise InputError(
            f"expected the classifiers of one model in {directory.models}, found none; "
            f"train with train_ovo.py --output_dir {shell_path(directory.root)}"
        )
    if len(found) > 1:
        each = (f"{name} ({min(own.values()).name})" for name, own in found.items())
        raise InputError(
            f"expected the classifiers of one model in {directory.models}, found those of "
            f"{', '.join(each)}; keep one model's files there"
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
    num_classes, head = _classes_and_head({"num_classes": highest + 1, **config})
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


def _classes_and_head(config: dict[str, Any]) -> tuple[int, str]:
    """Read how many classes there are, and the head; raises one of MISFIT for what cannot be."""
    num_classes = int(config["num_classes"])
    if not 2 <= num_classes <= MOST_CLASSES:
        raise ValueError(f"num_classes {num_classes}")
    return num_classes, config.get("head", "ovo")


def recorded_files(directory: ResultDir) -> set[str] | None:
    """Name the files of a run's classifiers; None where its config.json does not tell."""
    try:
        config = read_config(directory)["config"]
        heads = heads_of_model(*_classes_and_head(config))
        return {directory.best(config["model"], head).name for head in heads}
    except MISFIT:
        return None


def model_files(directory: ResultDir) -> dict[str, dict[str, Path]]:
    """List the classifiers' files by model and by the classifier's name."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(directory.models.glob("best_*.pth")):
        match = _PAIR_FILE.fullmatch(path.name)
        if match:
            name = match["head"].replace("_", "-")
            found.setdefault(match["model"], {})[name] = path
    return found


def read_config(directory: ResultDir) -> dict[str, Any]:
    """Read config.json; raises InputError if it is missing or broken."""
    content = read_json(directory.config)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise InputError(f"{directory.config}: expected a configuration written by train_ovo.py")
    return content
