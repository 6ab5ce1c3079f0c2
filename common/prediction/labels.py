"""What models are called in results, and where their results go."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.data.folders import Dataset
from common.listing.split_folders import LEARNED_FROM
from common.models.backbones import resolve
from common.pairs import with_head
from common.result_dir import ResultDir, Run
from common.system.errors import InputError


def label_runs(runs: Sequence[Run]) -> list[str]:
    """Name trained models briefly and differently."""
    names = [with_head(resolve(run.model).alias, run.head) for run in runs]
    return unique_labels(names, [run.directory for run in runs])


def unique_labels(names: list[str], directories: list[ResultDir]) -> list[str]:
    """Keep names that only one model has; name the others by their directory."""
    return [
        name if names.count(name) == 1 else str(directory.root)
        for name, directory in zip(names, directories, strict=True)
    ]


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
