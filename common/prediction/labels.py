"""What models are called in results, and where their results go."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from common.architectures import stored_architecture
from common.config import VIEWS
from common.data.folders import Dataset
from common.listing.split_folders import LEARNED_FROM
from common.pairs import with_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.system.errors import InputError

_ENDING = re.compile(r"(?<=[^/])_\d+class_results$")  # of result directories


def label_runs(runs: Sequence[Run]) -> list[str]:
    """Name trained models briefly and differently."""
    names = [with_head(stored_architecture(run.model).alias, run.head) for run in runs]
    return unique_labels(names, [run.directory for run in runs])


def unique_labels(names: list[str], directories: list[ResultDir]) -> list[str]:
    """Keep names that only one model has; name the others by what their directories differ in.

    Of those, the folders that all have in front go, and what all are called at the end, unless
    two names would be the same then.
    """
    alike = [place for place, name in enumerate(names) if names.count(name) > 1]
    roots = [directories[place].root for place in alike]
    differing = _without_common_folders([Path(os.path.abspath(root)) for root in roots])
    endless = [_ENDING.sub("", folder) for folder in differing]
    labels = list(names)
    for folders in (endless, differing, list(map(str, roots))):
        for place, folder in zip(alike, folders):
            labels[place] = folder
        if len(set(labels)) == len(labels):
            break
    return labels


def same_classifiers(run: Run, other: Run) -> str:
    """Say that a directory holds what another one does, such as a seed that was trained twice."""
    return (
        f"{run.directory.root} holds the same classifiers as {other.directory.root}, whose answers "
        "would count twice; give each model once (--results_dirs names single directories)"
    )


def views_text(tta: Mapping[str, str]) -> str:
    """Say which views of an image models average, by label; "" where all take it as it is."""
    different = set(tta.values())
    if different == {"none"}:
        return ""
    if len(different) == 1:
        (name,) = different
        return f"logits averaged over {VIEWS[name]} views of each image (tta {name})"
    each = ", ".join(f"{label} {VIEWS[name]} (tta {name})" for label, name in tta.items())
    return f"logits averaged over views of each image: {each}"


def single_views_text(tta: str) -> str:
    """Say that the pairs' accuracies on val, taken in training, are of no averaged views."""
    if tta == "none":
        return ""
    return f"pairs' val accuracies are of single views, probabilities of {VIEWS[tta]} (tta {tta})"


def _without_common_folders(paths: list[Path]) -> list[str]:
    """Leave out of absolute paths the folders that all begin with, but never a last one."""
    folders = [path.parts for path in paths]
    shortest = min(map(len, folders), default=1) - 1
    same = [len({parts[place] for parts in folders}) == 1 for place in range(shortest)]
    first = (*same, False).index(False)
    return [str(Path(*parts[first:])) for parts in folders]


def output_dir_for(run: Run, dataset: Dataset, output_dir: Path | None) -> ResultDir:
    """Return where a model's results on a dataset go: into its own directory, if it is its own.

    Results on another dataset must not take the place of those; they go into `output_dir`. It is
    the model's own at the place where it was trained, or where the training images are the same; of
    the earlier trainer's models, which do not say, where there are training or validation images.
    """
    if run.dataset_path or run.train_fingerprint:
        own = dataset.root.resolve() == Path(run.dataset_path).resolve()
        if not own and dataset.has("train"):
            with suppress(InputError):  # what cannot be listed is not what it was trained on
                train = dataset.without(run.skipped).split("train")
                own = train.fingerprint() == run.train_fingerprint
    else:
        own = any(dataset.has(name) for name in LEARNED_FROM)
    coarser = any(s.folders and s.folders.classes.coarser for s in dataset.splits.values())
    if own and not coarser:
        return run.directory
    name = "-".join(run.directory.root.resolve().parts[-2:]).strip("/")
    return ResultDir((output_dir or Path("external_results")) / name)
