"""Flags of the scripts: those of the training from its configuration, those of the evaluation."""

from common.cli import (
    Parser,
    boolean,
    expand_home,
    folder,
    known_folder,
    named_file,
    whole_number,
)

import argparse
import os
import shlex
from contextlib import suppress
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any

from common.architectures import BackboneSpec, in_table, stored_architecture
from common.config import VIEWS, TrainConfig
from common.data.class_names import quoted
from common.data.patients import AUTO, PATIENT_HELP
from common.doubts.references import MOST_PICTURES
from common.fitting.calibration import WEIGHTS
from common.grading.finding import GivenGrader, given_grader, runs_of
from common.listing.split_folders import SPLITS
from common.models.checkpoint_file import load_checkpoint
from common.pairs import Head, heads_of_model, pair_head, parse_pairs, split_head, with_head
from common.prediction.alterations import ALTERATIONS
from common.prediction.evaluated_models import RESULT_PATTERNS
from common.prediction.voting import VOTES
from common.recipes import Sources, command_of, recipe_settings
from common.result_dir import (
    FIGURE_FORMATS,
    ResultDir,
    Run,
    find_run,
    read_config,
)
from common.screening.patients import PATIENT_RULES
from common.system.errors import MISFIT, InputError

HOLDOUT_CHECKS = ("pictures", "names")
PAIRS_HELP = "only these pairs, by places 0-1 or names (names first where they are numbers)"
_FOLDERS = ("dataset_path", "cache_dir")  # that must have a name
_ENVIRONMENT = {"dataset_path": "DATASET_PATH", "cache_dir": "CACHE_DIR"}
_MODES = ("resume", "dry_run", "override", "require_trained")  # flags that are no settings
RESUME_ADVICE = "what was complete is kept: run the same command again with --resume"


@dataclass(frozen=True)
class TrainingRequest:
    """What a training command line asks for."""

    configs: list[TrainConfig]
    heads: list[Head]
    resume: bool
    dry_run: bool
    override: bool = False
    require_trained: bool = False


def default_of(name: str) -> Any:
    """Return a field's default, after what the environment or .env sets."""
    default = next(f.default for f in fields(TrainConfig) if f.name == name)
    return os.environ.get(_ENVIRONMENT.get(name, ""), "") or default


def _resolve(model: str) -> BackboneSpec:
    """Find a backbone by its name; only for one that is not in the table, timm is imported."""
    known = in_table(model)
    if known is not None:
        return known
    from common.models.backbones import resolve

    return resolve(model)


def parse_training(argv: list[str] | None, description: str) -> TrainingRequest:
    """Read a training command line; one configuration per backbone and seed.

    The configuration's fields become flags of the same name and default. Raises InputError for
    what contradicts itself.
    """
    parser = _training_parser(description)
    asked = vars(parser.parse_args(argv))
    asked["pretrained"] = not asked["no_pretrained"]
    of_recipe = recipe_settings(asked["recipe"], asked)
    parser.set_defaults(**of_recipe)  # which given flags overrule
    values = vars(parser.parse_args(argv))
    models, pairs = values.pop("base_models"), values.pop("pairs")
    seeds = values.pop("seed")
    modes = {name: values.pop(name) for name in _MODES}
    if modes["require_trained"] and modes["dry_run"]:
        raise InputError("--require_trained has no effect with --dry_run, which trains nothing")
    if modes["override"] and not modes["resume"]:
        raise InputError("--override accepts changed settings of a run that goes on; add --resume")
    if len({_resolve(model).name for model in models}) < len(models):
        raise InputError(f"--base_models: {' '.join(models)} names a model twice")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seed: {' '.join(map(str, seeds))} names a seed twice")
    values["pretrained"] = not values.pop("no_pretrained")
    values["class_names"] = tuple(values["class_names"])
    weights = _weights_by_model(values.pop("weights"), models)
    if weights and not values["pretrained"]:
        raise InputError("--weights and --no_pretrained exclude each other")
    sources = Sources(values, _given(parser, argv), asked["recipe"], of_recipe)
    try:
        places = _places(models, seeds, values)
        configs = [
            _config(model, {**values, "seed": seed, "output_dir": place}, weights)
            for (model, seed), place in places.items()
        ]
        chosen = parse_pairs(pairs, values["num_classes"], values["class_names"])
    except InputError:
        raise
    except ValueError as error:
        raise InputError(sources.explain(str(error))) from error
    if chosen and values["head"] != "ovo":
        raise InputError(
            sources.explain(
                f"--pairs chooses among the classifiers of --head ovo; --head {values['head']} "
                "trains one network for all classes"
            )
        )
    if modes["resume"] and "tta" not in sources.given:
        configs = [_with_recorded_views(config) for config in configs]
    for config in configs:
        _refuse_idle(config, sources, modes["resume"])
    heads = [pair_head(pair) for pair in chosen]
    heads = heads or heads_of_model(values["num_classes"], values["head"])
    return TrainingRequest(configs, heads, **modes)


def _given(parser: Parser, argv: list[str] | None) -> frozenset[str]:
    """List the settings that a command line gives by hand."""
    untouched = object()
    names = vars(parser.parse_args(argv))
    values = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, untouched))))
    return frozenset(name for name, value in values.items() if value is not untouched)


def _with_recorded_views(config: TrainConfig) -> TrainConfig:
    """Leave the views of predictions as a run that goes on has recorded them."""
    directory = ResultDir(Path(config.output_dir))
    if not directory.config.is_file():
        return config
    views = read_config(directory)["config"].get("tta", config.tta)
    return replace(config, tta=views) if views in tuple(VIEWS) else config


def _refuse_idle(config: TrainConfig, sources: Sources, resume: bool) -> None:
    """Refuse what was given by hand and has no effect.

    A run that goes on may have been started with that by an earlier release; the log says it.
    """
    if resume and ResultDir(Path(config.output_dir)).config.is_file():
        return
    for name, text in config.without_effect.items():
        if name in sources.given:
            raise InputError(sources.explain(f"{text}; leave out one of the two"))


def _training_parser(description: str) -> Parser:
    parser = Parser(description=description)
    parser.add_argument(
        "--base_models",
        nargs="+",
        required=True,
        metavar="MODEL",
        help="backbones: aliases or timm names",
    )
    for item in fields(TrainConfig):
        if item.name not in ("model", "pretrained", "weights", "class_names"):
            _add_field(parser, item)
    parser.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="PATH",
        help="pretrained weights: PATH, or MODEL=PATH for several",
    )
    parser.add_argument("--no_pretrained", action="store_true", help="start from random weights")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="A-B", help=PAIRS_HELP)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--override",
        action="store_true",
        help="with --resume: accept other settings from here on, and record "
        "the change in config.json",
    )
    parser.add_argument(
        "--require_trained",
        action="store_true",
        help="for scripts: end with status 3 where another process has a part of what was asked "
        "for, and that is not trained yet",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the plan, train nothing")
    return parser


def add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every script that predicts."""
    for name in (
        "dataset_path",
        "cache_dir",
        "num_workers",
        "threads",
        "skip_unreadable",
        "device",
        "use_amp",
        "precision",
    ):
        _add_named_field(parser, name)
    parser.add_argument(
        "--class_names",
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="class folders to read, matched with the model's classes by name or meaning "
        "(default: all)",
    )
    parser.add_argument(
        "--class_map",
        nargs="+",
        default=(),
        metavar="FOLDER=CLASS",
        help="which of the model's classes a folder holds, by name or index, where its name does "
        "not say; FOLDER=FIRST..LAST for several",
    )


def add_ensemble_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the evaluation: which models, how they vote, what is fitted and restated."""
    _add_results_dirs(parser, "result directories of train_ovo.py")
    parser.add_argument(
        "--base_models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="in place of --results_dirs: models (ALIAS_shared or ALIAS_softmax with that head) in "
        "their default directories, such as ./convnext_5class_results, or, with --output_dir DIR, "
        "in DIR/convnext_5class_results; a model alone in DIR itself",
    )
    parser.add_argument(
        "--output_dir",
        type=folder,
        default=None,
        help="of the ensemble (default ./super_ensemble_results); with --base_models, the folder "
        "that the models are in, too",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=["uniform"],
        metavar="W",
        help=f"{', '.join(WEIGHTS)} on cal or val, or a number per model (default uniform)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="?",
        const="on",
        default="auto",
        choices=("auto", "on", "off"),
        help="divide log probabilities by temperatures fitted on cal or val: where that is "
        "possible, always (alone or with on: end with an error if it is not), or not (default "
        "auto)",
    )
    _add_tta(parser, "what each model was trained with")
    parser.add_argument(
        "--prevalence",
        default="",
        metavar="SHARES|TABLE",
        help="restate results at a population's grade mix: shares, or a label table",
    )
    parser.add_argument(
        "--prevalence_column",
        default="",
        metavar="NAME",
        help="the column of grades in the table of --prevalence, where its name does not tell",
    )
    parser.add_argument(
        "--evidence_maps",
        type=int,
        choices=range(13),
        default=6,
        metavar="N",
        help="show so many of the worst mistakes with maps of the evidence for the class given, 0 "
        "to 12 (default 6; 0 saves the time of loading the models again)",
    )
    parser.add_argument(
        "--reference_pictures",
        type=whole_number,
        default=MOST_PICTURES,
        metavar="N",
        help="look at up to N pictures each of train and val, once for a model, so that predict.py "
        f"can tell new ones that are unlike them; 0: do not (default {MOST_PICTURES})",
    )
    parser.add_argument("--require", action="store_true", help="exit 1 unless every gate passes")
    parser.add_argument(
        "--verbose", action="store_true", help="print all tables below the short summary"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="only compute stored predictions again; exit 1 if they differ",
    )
    parser.add_argument(
        "--holdout_check",
        choices=HOLDOUT_CHECKS,
        default=HOLDOUT_CHECKS[0],
        help="compare the test pictures with those that were trained on, or only names and bytes, "
        "without opening them (default pictures)",
    )
    parser.add_argument(
        "--num_classes", type=int, default=None, help="expected of the models (default: theirs)"
    )
    _add_screening_flags(parser)
    _add_measuring_flags(parser)


def add_images_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says where new pictures are."""
    parser.add_argument(
        "--images",
        nargs="+",
        required=True,
        type=expand_home,
        metavar="PLACE",
        help="folders, however deep, files, or patterns such as 'left/*.jpg'",
    )


def add_grader_flags(parser: argparse.ArgumentParser, arithmetic: bool = True) -> None:
    """Add the flags of scripts that take models as they are used: which, and how these run.

    arithmetic: device and precision can be chosen.
    """
    _add_results_dirs(
        parser,
        "result directories of train_ovo.py, or that of an ensemble, which "
        "evaluate_ensemble.py has written",
    )
    parser.add_argument(
        "--base_models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="in place of --results_dirs: models (ALIAS_shared or ALIAS_softmax with that head) in "
        "their default directories, such as ./convnext_5class_results",
    )
    parser.add_argument(
        "--grader",
        type=named_file,
        default=None,
        metavar="FILE",
        help="what an evaluation has chosen, results/grader.json (default: that of the one model, "
        "or of super_ensemble_results if it is of these models)",
    )
    for name in ("device", "precision", "threads") if arithmetic else ():
        _add_named_field(parser, name)
    _add_tta(parser, "what each model was evaluated with, else trained with")


def _add_tta(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--tta",
        default="",
        choices=tuple(VIEWS),
        help="test-time augmentation of all models: take an image as it is (none), or average the "
        "logits of its mirror images (flips: 4 views), or of these in all quarter turns (d4: 8) "
        f"(default: {default})",
    )


def add_worker_flag(parser: argparse.ArgumentParser, help: str) -> None:
    """Add how many threads read pictures."""
    default = default_of("num_workers")
    parser.add_argument(
        "--num_workers", type=int, default=default, help=f"{help} (default {default})"
    )


def add_patient_regex(parser: argparse.ArgumentParser) -> None:
    """Add the pattern of the patients' names."""
    parser.add_argument("--patient_regex", default=AUTO, help=PATIENT_HELP)


def _add_screening_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a screening programme asks of the final grader."""
    parser.add_argument(
        "--operating_point",
        nargs="+",
        default=["argmax"],
        metavar="RULE",
        help="who is referred: sensitivity=0.90, specificity=0.90 or youden choose a threshold on "
        "val or cal; several may be given, the first of which is named first in the report. "
        "argmax, which refers what is graded as referable, is always measured beside them "
        "(default argmax alone)",
    )
    parser.add_argument(
        "--patient_rule",
        choices=PATIENT_RULES,
        default=PATIENT_RULES[0],
        help="how a patient's images become one decision: the worst of them, or the mean of their "
        "probabilities (default worst)",
    )
    parser.add_argument(
        "--robustness",
        nargs="*",
        default=None,
        metavar="ALTERATION",
        help="predict the split again under alterations of the photographs, all or some of "
        f"{', '.join(each.name for each in ALTERATIONS)}; takes as many predictions",
    )


def add_analysis_flags(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Add the flags of the scripts that read stored predictions."""
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="ALIAS",
        help="only these models, ALIAS_shared or ALIAS_softmax for that head (default all that are "
        "found)",
    )
    _add_results_dirs(parser, f"(default {' and '.join(RESULT_PATTERNS)})")
    parser.add_argument(
        "--output_dir", type=folder, default=Path(output_dir), help=f"(default {output_dir})"
    )
    _add_measuring_flags(parser)


def _add_results_dirs(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument(
        "--results_dirs", nargs="+", type=folder, default=[], metavar="DIR", help=help
    )


def add_figure_flags(parser: argparse.ArgumentParser) -> None:
    """Add how figures are stored."""
    parser.add_argument(
        "--figure_format",
        choices=FIGURE_FORMATS,
        default=FIGURE_FORMATS[0],
        help="of the vector file that is written beside each figure's PNG "
        f"(default {FIGURE_FORMATS[0]})",
    )


def _add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is measured: the split, the vote, the cut, and how the bootstrap resamples."""
    parser.add_argument(
        "--referable_from",
        default="",
        metavar="CLASS",
        help="first class that is referred, by name or index (default: by the names)",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="(default test)")
    parser.add_argument(
        "--vote", choices=VOTES, default="coupling", help="pairs to classes (default coupling)"
    )
    add_patient_regex(parser)
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of the bootstrap (default 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    add_figure_flags(parser)


def default_directory(
    model: str, num_classes: int, head: str = "ovo", seed: int | str = ""
) -> Path:
    """Name the result directory of a model where none was given; seed: where it is one of more."""
    kind = "" if head == "ovo" else f"_{head}"
    which = f"_seed{seed}" if seed != "" else ""
    return Path(f"{_resolve(model).alias}{kind}{which}_{num_classes}class_results")


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
        raise InputError("--results_dirs: the same directory is given twice")
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
        if stored_architecture(run.model).name != _resolve(alias).name or run.head != kind != "ovo":
            path, held = run.directory.root, with_head(run.model, run.head)
            raise InputError(f"{path} holds {held}, not {model}; check --output_dir")
    return runs


def _trained(
    model: str, models: list[str], output_dir: Path | None, num_classes: int
) -> list[Path]:
    """List the directories of one of the models: its own, and those of several seeds."""
    (alias, kind), folder = split_head(model), output_dir or Path()
    alone = output_dir is not None and len(models) == 1
    only = folder if alone else folder / default_directory(alias, num_classes, kind)
    seeds = folder.glob(str(default_directory(alias, num_classes, kind, "*")))
    found = sorted(seeds, key=lambda place: (len(place.name), place.name))
    return [only, *found] if ResultDir(only).config.is_file() else found or [only]


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
        command = f"python train_ovo.py --output_dir {shlex.quote(str(directory.root))}"
    raise InputError(
        f"{directory.root}: the training is unfinished: {done} of {config.get('epochs', '?')} "
        f"epochs are done and there is no classifier yet; go on with: {command} --resume"
    )


def _add_named_field(parser: argparse.ArgumentParser, name: str) -> None:
    _add_field(parser, next(item for item in fields(TrainConfig) if item.name == name))


def _add_field(parser: argparse.ArgumentParser, item: Field[Any]) -> None:
    """Add a field of the training's configuration as a flag of the same name and default."""
    default, text = default_of(item.name), item.metadata["help"].replace("%", "%%")
    options: dict[str, Any] = {"default": default, "help": text}
    if default != "":
        options["help"] += f" (default {default})"
    if item.name == "seed":  # the one setting of which a command may name several
        options.update(default=[default], type=int, nargs="+")
    elif item.type is bool:
        options.update(type=boolean, nargs="?", const=True, metavar="true|false")
    elif item.name in _FOLDERS:
        options["type"] = _folder_name  # argparse applies it to the default, too, if that is used
    elif item.name == "output_dir":
        options["type"] = expand_home
    else:
        options.update(type=item.type, choices=item.metadata["choices"])
    parser.add_argument(f"--{item.name}", **options)


def _folder_name(text: str) -> str:
    """Read a folder's name; one without ~ and variables stays as it was written."""
    found = str(known_folder(text))
    return text if found == str(Path(text)) else found


def _weights_by_model(entries: list[str], models: list[str]) -> dict[str, str]:
    """Read --weights: one PATH for one model, or MODEL=PATH for each."""
    alone = entries[0] if len(models) == 1 and len(entries) == 1 else ""
    if alone and ("=" not in alone or Path(expand_home(alone)).exists()):
        weights = {models[0]: entries[0]}
    else:
        weights = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if len(weights) != len(entries) or set(weights) - set(models):
        raise InputError(
            f"--weights: expected one PATH for one model or MODEL=PATH for each of "
            f"{' '.join(models)}, found {' '.join(entries)}"
        )
    weights = {model: expand_home(path) for model, path in weights.items()}
    for path in weights.values():
        if not Path(path).is_file():
            what = "expected a file, found a folder" if Path(path).is_dir() else "no such file"
            raise InputError(f"--weights {path}: {what}")
    return weights


def _places(
    models: list[str], seeds: list[int], values: dict[str, Any]
) -> dict[tuple[str, int], str]:
    """Say where each backbone is trained with each seed: one alone in --output_dir itself."""
    folder, classes, head = values["output_dir"], values["num_classes"], values["head"]
    asked = [(model, seed) for model in models for seed in seeds]
    if folder and len(asked) == 1:
        return {asked[0]: folder}
    named = [default_directory(m, classes, head, s if seeds[1:] else "") for m, s in asked]
    return {key: str(Path(folder or ".") / name) for key, name in zip(asked, named)}


def _config(model: str, values: dict[str, Any], weights: dict[str, str]) -> TrainConfig:
    name = _resolve(model).name
    return TrainConfig(**{**values, "model": name, "weights": weights.get(model, "")})
