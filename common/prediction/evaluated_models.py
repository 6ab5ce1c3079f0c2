"""Find models that were evaluated, by the predictions that their result directories hold."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.architectures import stored_architecture
from common.data.class_names import quoted
from common.data.metadata import Metadata, read_metadata
from common.pairs import seed_of, split_head, with_head
from common.prediction.classes import classes_of
from common.prediction.labels import unique_labels
from common.prediction.predictions import PairPredictions, load_predictions, same_images
from common.result_dir.paths import ResultDir
from common.system.errors import InputError
from common.system.files import read_json

RESULT_PATTERNS = ("*_5class_results", "v2.5-model-dr/*_5class_results")  # where models usually are


@dataclass(frozen=True)
class EvaluatedModel:
    """A model's stored predictions and where they are."""

    label: str
    directory: ResultDir
    pairs: PairPredictions

    def stored_val(self) -> PairPredictions | None:
        """Read the predictions on val, if they are of the same checkpoints."""
        return load_val(self.directory, self.pairs)


def metadata_of(model: EvaluatedModel, split: str) -> Metadata | None:
    """Read metadata.csv of the dataset that a model was evaluated on, if both are still there."""
    try:
        content = read_json(model.directory.metrics(split))
        root = Path(content["dataset_path"])
    except (InputError, KeyError, TypeError):
        return None
    return read_metadata(root)


def load_val(directory: ResultDir, pairs: PairPredictions) -> PairPredictions | None:
    """Read a model's predictions on val, if they were made as `pairs` were, by the same files."""
    val = load_predictions(directory.predictions("val"))
    if val is None or val.set_classes is not None or val.class_names != pairs.class_names:
        return None
    made = [(p.origin.checkpoints, p.origin.tta) for p in (val, pairs)]
    return val if made[0] == made[1] else None


def find_evaluated_models(
    names: Sequence[str], folders: Sequence[Path], split: str, referable_from: str = ""
) -> list[EvaluatedModel]:
    """Read the stored predictions on a split of the models that are asked for.

    names: aliases, ALIAS_shared or ALIAS_softmax for a model with that head, with _seed1 for that
    of several; none: all models.
    folders: none: the usual places. What is missing or was evaluated on other images is named on
    stderr; the rest is returned, at least one. referable_from: the class from which on an eye is
    referred, if not the one that the evaluation took. Raises InputError when nothing is left, or
    these differ.
    """
    wanted = {name: _label_of(name) for name in names}
    found = []
    for folder in _different(folders) if folders else _usual_folders():
        model = _read(ResultDir(folder), split)
        if model is None:
            continue
        if not wanted or any(_is_called(model, name, label) for name, label in wanted.items()):
            found.append(model)
    for name, label in wanted.items():
        if not any(_is_called(model, name, label) for model in found):
            _say_missing(f"{name}: no evaluated result directory found")
    labels = unique_labels([m.label for m in found], [m.directory for m in found])
    found = [replace(model, label=label) for model, label in zip(found, labels)]
    kept = [model for model in found if same_images(found[0].pairs, model.pairs)]
    for model in found:
        if model not in kept:
            names = [quoted(each.pairs.class_names) for each in (model, found[0])]
            lists = f" ({names[0]}; {names[1]})" if names[0] != names[1] else ""
            _say_missing(
                f"{model.label}: was evaluated on other images or classes than {found[0].label}"
                f"{lists}; left out"
            )
    if not kept:
        raise InputError(
            "found no evaluated result directory; pass --results_dirs, or run evaluate_ensemble.py"
        )
    kept = [replace(model, pairs=_with_cut(model.pairs, referable_from)) for model in kept]
    first = kept[0].pairs.scored
    for model in kept[1:]:
        if model.pairs.scored.referable_from != first.referable_from:
            raise InputError(
                f"{kept[0].label} was evaluated with {first.referable} as referable, {model.label} "
                f"with {model.pairs.scored.referable}; pass --referable_from CLASS for all"
            )
    return kept


def _with_cut(pairs: PairPredictions, referable_from: str) -> PairPredictions:
    if not referable_from:
        return pairs
    return replace(pairs, scored=classes_of(pairs.scored.names, referable_from))


def _label_of(name: str) -> str:
    """Read a name of --models: ALIAS, or ALIAS_shared and the like for another head."""
    from common.models.backbones import resolve  # which takes seconds to import

    alias, kind = split_head(name)
    return with_head(resolve(alias).alias, kind)


def _is_called(model: EvaluatedModel, name: str, label: str) -> bool:
    """Tell whether a name of --models is a model's; one with a seed is that of its directory."""
    seed, folder = seed_of(name), model.directory.root.resolve().name
    with_seed = f"{label.replace(' ', '_')}_seed{seed}_"  # a head follows the alias
    return model.label == label and (not seed or folder.startswith(with_seed))


def _different(folders: Sequence[Path]) -> Sequence[Path]:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("--results_dirs: the same directory is given twice")
    return folders


def _usual_folders() -> list[Path]:
    usual = sorted(path for pattern in RESULT_PATTERNS for path in Path().glob(pattern))
    # a link and what it leads to are one directory
    return list({path.resolve(): path for path in reversed(usual)}.values())[::-1]


def _read(directory: ResultDir, split: str) -> EvaluatedModel | None:
    pairs = load_predictions(directory.predictions(split))
    if pairs is None:
        folder = directory.root
        _say_missing(
            f"{folder}: no usable predictions on {split}; run evaluate_ensemble.py "
            f"--results_dirs {folder} --split {split} --dataset_path ..."
        )
        return None
    alias = stored_architecture(pairs.model).alias
    return EvaluatedModel(with_head(alias, pairs.head), directory, pairs)


def _say_missing(message: str) -> None:
    print(f"missing: {message}", file=sys.stderr, flush=True)
