"""Command lines: flags from the configuration, and one line for a user's mistake."""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from common.backbones import resolve
from common.config import TrainConfig
from common.pairs import Pair, class_pairs, parse_pairs
from common.runtime import InputError
from common.training import TrainingError

_ENVIRONMENT = {"dataset_path": "DATASET_PATH", "cache_dir": "CACHE_DIR"}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the error without the page of usage, exit 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


@dataclass(frozen=True)
class TrainingRequest:
    """What a training command line asks for."""

    configs: list[TrainConfig]
    pairs: list[Pair]
    resume: bool
    dry_run: bool


def guarded(main: Callable[..., int | None]) -> Callable[..., int]:
    """Turn a user's mistake into one line on stderr and exit status 2, never a traceback.

    A training that cannot go on exits 1, Ctrl-C 130.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except TrainingError as error:
            return _fail(error, 1)
        except InputError as error:
            return _fail(error, 2)
        except OSError as error:
            place = f" at {error.filename}" if error.filename else ""
            return _fail(f"{error.strerror or error}{place}; nothing that was complete is lost", 2)
        except KeyboardInterrupt:
            return _fail("interrupted; run the same command with --resume to go on", 130)

    return run


def _fail(message: object, status: int) -> int:
    sys.stdout.flush()
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return status


def boolean(text: str) -> bool:
    """Read true/false, yes/no, on/off, 1/0."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")


def default_of(name: str) -> Any:
    """Return a field's default, after what the environment or .env sets."""
    default = next(f.default for f in fields(TrainConfig) if f.name == name)
    return os.environ.get(_ENVIRONMENT.get(name, ""), "") or default


def parse_training(argv: list[str] | None, description: str) -> TrainingRequest:
    """Read a training command line; one configuration per --base_models.

    The configuration's fields become flags of the same name and default.
    """
    parser = Parser(description=description)
    parser.add_argument("--base_models", nargs="+", required=True, metavar="MODEL",
                        help="backbones: aliases or timm names")  # fmt: skip
    for item in fields(TrainConfig):
        if item.name not in ("model", "pretrained", "weights", "class_names"):
            _add_field(parser, item)
    parser.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")
    parser.add_argument("--weights", nargs="+", default=[], metavar="PATH",
                        help="pretrained weights: PATH, or MODEL=PATH for several")  # fmt: skip
    parser.add_argument("--no_pretrained", action="store_true", help="start from random weights")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="A-B", help="only these pairs")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, train nothing")
    values = vars(parser.parse_args(argv))
    models = values.pop("base_models")
    pairs, resume, dry_run = values.pop("pairs"), values.pop("resume"), values.pop("dry_run")
    values["pretrained"] = not values.pop("no_pretrained")
    values["class_names"] = tuple(values["class_names"])
    weights = _weights_by_model(values.pop("weights"), models)
    try:
        configs = [_config(model, values, weights, len(models) > 1) for model in models]
        chosen = parse_pairs(pairs, values["num_classes"])
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    return TrainingRequest(configs, chosen or class_pairs(values["num_classes"]), resume, dry_run)


def add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every script that predicts."""
    for name in ("dataset_path", "cache_dir", "num_workers", "device", "use_amp", "precision"):
        _add_field(parser, next(f for f in fields(TrainConfig) if f.name == name))
    parser.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")


def default_directory(model: str, num_classes: int) -> Path:
    """Name the result directory of a model where none was given."""
    return Path(f"{resolve(model).alias}_{num_classes}class_results")


def _add_field(parser: argparse.ArgumentParser, item: Any) -> None:
    default, choices = default_of(item.name), item.metadata["choices"]
    text = item.metadata["help"].replace("%", "%%")
    options: dict[str, Any] = {"default": default, "help": f"{text} (default {default})"}
    if item.type is bool:
        options.update(type=boolean, nargs="?", const=True, metavar="true|false")
    else:
        options.update(type=item.type, choices=choices)
    parser.add_argument(f"--{item.name}", **options)


def _weights_by_model(entries: list[str], models: list[str]) -> dict[str, str]:
    if len(models) == 1 and len(entries) == 1 and not entries[0].startswith(f"{models[0]}="):
        return {models[0]: entries[0]}
    weights = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if len(weights) != len(entries) or set(weights) - set(models):
        raise InputError(
            f"--weights: expected one PATH for one model or MODEL=PATH for each of "
            f"{' '.join(models)}, found {' '.join(entries)}"
        )
    return weights


def _config(
    model: str, values: dict[str, Any], weights: dict[str, str], several: bool
) -> TrainConfig:
    spec = resolve(model)
    output = values["output_dir"]
    if not output or several:
        output = str(Path(output or ".") / default_directory(model, values["num_classes"]))
    given = {**values, "model": spec.name, "output_dir": output, "weights": weights.get(model, "")}
    return TrainConfig(**given)
