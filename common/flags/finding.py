"""Find the trained models that a command names, by their directories or by their names."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.architectures import BackboneSpec, in_table, stored_architecture
from common.config import TrainConfig
from common.data.class_names import quoted
from common.grading.finding import GivenGrader, given_grader, runs_of
from common.models.checkpoint_file import load_checkpoint
from common.pairs import seed_of, split_head, with_head
from common.recipes import command_of
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run, model_files, read_config
from common.system.errors import MISFIT, InputError
from common.system.log import shell_path


def backbone_named(model: str) -> BackboneSpec:
    """Find a backbone by its name; only for one that is not in the table, timm is imported."""
    known = in_table(model)
    if known is not None:
        return known
    from common.models.backbones import resolve

    return resolve(model)


def default_directory(
    model: str, num_classes: int, head: str = "ovo", seed: int | str = ""
) -> Path:
    """Name the result directory of a model where none was given; seed: where it is one of more."""
    kind = "" if head == "ovo" else f"_{head}"
    which = f"_seed{seed}" if seed != "" else ""
    return Path(f"{backbone_named(model).alias}{kind}{which}_{num_classes}class_results")


def find_runs(
    results_dirs: list[Path],
    base_models: list[str],
    output_dir: Path | None,
    num_classes: int | None,
) -> list[Run]:
    """Find the trained models to evaluate, by their directories or by their names.

    base_models: models in their default directories below `output_dir`; one model may be in
    `output_dir` itself. num_classes: if given, that of all models. Raises InputError unless there
    is one directory for each.
    """
    if bool(results_dirs) == bool(base_models):
        raise InputError("expected either --results_dirs or --base_models")
    folders, models = results_dirs, base_models
    if models:
        found = [(model, _trained(model, models, output_dir, num_classes or 5)) for model in models]
        models = [model for model, places in found for _ in places]
        folders = [place for _, places in found for place in places]
    for path in folders:
        if not path.is_dir():
            below = f"; with --base_models, --output_dir {output_dir} says where models are"
            raise InputError(
                f"{path}: expected a result directory of train_ovo.py, found none"
                + (below if base_models and output_dir else "")
            )
    if len({path.resolve() for path in folders}) < len(folders):
        flag = "--base_models" if base_models else "--results_dirs"
        raise InputError(f"{flag}: the same directory is given twice")
    for path in folders:
        require_a_classifier(ResultDir(path))
    runs = [find_run(ResultDir(path)) for path in folders]
    for run in runs:
        if num_classes not in (None, run.num_classes):
            raise InputError(
                f"--num_classes {num_classes}: {run.directory.root} was trained on "
                f"{run.num_classes} classes, {quoted(run.names)}; leave the flag out"
            )
    for model, run in zip(models, runs):
        alias, kind = split_head(model)
        if (
            stored_architecture(run.model).name != backbone_named(alias).name
            or run.head != kind != "ovo"
        ):
            path, held = run.directory.root, with_head(run.model, run.head)
            raise InputError(f"{path} holds {held}, not {model}; check --output_dir")
    return runs


def _trained(
    model: str, models: list[str], output_dir: Path | None, num_classes: int
) -> list[Path]:
    """List the directories of one of the models: its own, and those of several seeds."""
    (alias, kind), folder = split_head(model), output_dir or Path()
    if seed := seed_of(model):
        return [folder / default_directory(alias, num_classes, kind, seed)]
    usual = folder / default_directory(alias, num_classes, kind)
    seeds = folder.glob(str(default_directory(alias, num_classes, kind, "*")))
    places = [usual, *sorted(seeds, key=lambda place: (len(place.name), place.name))]
    found = [place for place in places if place.is_dir()]
    if output_dir is not None and len(models) == 1 and (_holds_a_run(folder) or not found):
        found.insert(0, folder)
    return found or [usual]


def _holds_a_run(folder: Path) -> bool:
    directory = ResultDir(folder)
    return directory.config.is_file() or bool(model_files(directory))


@dataclass(frozen=True)
class GradedBy:
    """The trained models that are to grade, and what was chosen for them if that was named."""

    runs: list[Run]
    given: GivenGrader | None


def find_graded_by(
    results_dirs: list[Path], base_models: list[str], grader: Path | None
) -> GradedBy:
    """Find models by the flags of `add_grader_flags`; those of a grader are where it says."""
    given = given_grader(grader, results_dirs)
    named = base_models or (results_dirs and (given is None or grader))
    if given is not None and not named:
        return GradedBy(runs_of(given.grader), given)
    return GradedBy(find_runs(results_dirs, base_models, None, None), given)


def require_a_classifier(directory: ResultDir) -> None:
    """Raise InputError for a training that ended before it kept a classifier, with the way on."""
    if any(directory.models.glob("*.pth")) or not directory.config.is_file():
        return
    config, done = read_config(directory)["config"], 0
    for path in sorted(directory.checkpoints.glob("last_*.pth"))[:1]:  # all go on together
        with suppress(InputError, *MISFIT):
            done = int(load_checkpoint(path)["epoch"])
    try:
        command = command_of(config, TrainConfig().to_dict())
    except MISFIT:
        command = f"python train_ovo.py --output_dir {shell_path(directory.root)}"
    raise InputError(
        f"{directory.root}: the training is unfinished: {done} of {config.get('epochs', '?')} "
        f"epochs are done and there is no classifier yet; go on with: {command} --resume"
    )
