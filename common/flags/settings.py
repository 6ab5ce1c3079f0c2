"""The settings of the training as flags: each of the name, default and help that it has there."""

from common.cli import boolean, expand_home, known_folder

import argparse
import os
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from common.config import TrainConfig

_FOLDERS = ("dataset_path", "cache_dir")  # that must have a name
_ENVIRONMENT = {"dataset_path": "DATASET_PATH", "cache_dir": "CACHE_DIR"}


def default_of(name: str) -> Any:
    """Return a field's default, after what the environment or .env sets."""
    default = next(f.default for f in fields(TrainConfig) if f.name == name)
    return os.environ.get(_ENVIRONMENT.get(name, ""), "") or default


def add_named_field(parser: argparse.ArgumentParser, name: str) -> None:
    """Add a setting as a flag, by its name."""
    add_field(parser, next(item for item in fields(TrainConfig) if item.name == name))


def add_field(parser: argparse.ArgumentParser, item: Field[Any]) -> None:
    """Add a field of the training's configuration as a flag of the same name and default."""
    default, text = default_of(item.name), item.metadata["help"].replace("%", "%%")
    options: dict[str, Any] = {"default": default, "help": text}
    if default != "":
        options["help"] += f" (default {default})"
    if item.name == "seed":  # the one setting of which a command may name several
        options.update(default=[default], type=_seed, nargs="+")
    elif item.type is bool:
        options.update(type=boolean, nargs="?", const=True, metavar="true|false")
    elif item.name in _FOLDERS:
        options["type"] = _folder_name  # argparse applies it to the default, too, if that is used
    elif item.name == "output_dir":
        options["type"] = expand_home
    else:
        options.update(type=item.type, choices=item.metadata["choices"])
    parser.add_argument(f"--{item.name}", **options)


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        message = f"expected whole numbers with spaces between, such as 0 1 2, found {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _folder_name(text: str) -> str:
    """Read a folder's name; one without ~ and variables stays as it was written."""
    found = str(known_folder(text))
    return text if found == str(Path(text)) else found
