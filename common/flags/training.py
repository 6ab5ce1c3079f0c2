"""The command line of the training: every setting is a flag, and a recipe sets several."""

from common.cli import Parser, expand_home

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from common.config import VIEWS, TrainConfig
from common.flags.finding import backbone_named, default_directory
from common.flags.settings import add_field
from common.pairs import Head, heads_of_model, pair_head, parse_pairs
from common.recipes import Sources, recipe_settings
from common.result_dir.paths import ResultDir
from common.result_dir.run import read_config
from common.system.errors import InputError
from common.system.log import shell_path

PAIRS_HELP = "only these pairs, by places 0-1 or names (names first where they are numbers)"
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
    if len({backbone_named(model).name for model in models}) < len(models):
        raise InputError(f"--base_models: {' '.join(models)} names a model twice")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seed: {' '.join(map(str, seeds))} names a seed twice")
    values["pretrained"] = not values.pop("no_pretrained")
    values["class_names"] = tuple(values["class_names"])
    weights = weights_by_model(values.pop("weights"), models)
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
            add_field(parser, item)
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


def weights_by_model(entries: list[str], models: list[str]) -> dict[str, str]:
    """Read --weights: one PATH for one model, or MODEL=PATH; InputError for what is no file."""
    alone = entries[0] if len(models) == 1 and len(entries) == 1 else ""
    if alone and ("=" not in alone or Path(expand_home(alone)).exists()):
        weights = {models[0]: entries[0]}
    else:
        weights = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if len(weights) != len(entries) or set(weights) - set(models):
        raise InputError(
            "--weights: expected one PATH for one model or MODEL=PATH for each of "
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
    found = {}
    for model, seed in asked:
        usual, of_seed = (
            Path(folder or ".") / default_directory(model, classes, head, which)
            for which in ("", seed)
        )
        place, other = (of_seed, usual) if len(seeds) > 1 else (usual, of_seed)
        _require_no_other(place, other, seed)
        found[model, seed] = str(place)
    return found


def _require_no_other(place: Path, other: Path, seed: int) -> None:
    """Raise InputError where a seed would be trained again under the name of one, or of several."""
    if _seed_in(other) == seed and _seed_in(place) != seed:
        raise InputError(
            f"--seed {seed}: {other} holds a training with that seed, and this command is for "
            f"{place}; go on there by --seed {seed} --output_dir {shell_path(other)}, leave the "
            "seed out (the evaluation's --base_models finds it), or choose another --output_dir"
        )


def _seed_in(place: Path) -> Any:
    """Read the seed of the training in a directory; None: there is none."""
    directory = ResultDir(place)
    return read_config(directory)["config"].get("seed") if directory.config.is_file() else None


def _config(model: str, values: dict[str, Any], weights: dict[str, str]) -> TrainConfig:
    name = backbone_named(model).name
    return TrainConfig(**{**values, "model": name, "weights": weights.get(model, "")})
