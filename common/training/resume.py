"""Continue a run: one configuration from start to end."""

from datetime import UTC, datetime
from typing import Any

from common.config import FIXED_FIELDS, TrainConfig, config_differences
from common.pairs import heads_of_model
from common.result_dir import ResultDir, read_config, read_history
from common.system.environment import git_commit, versions
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log

# what a run may not change even with --override: its networks or its pixels would not fit
_FIXED = (*FIXED_FIELDS, "initial_weights", "synthetic")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def start_or_continue(
    directory: ResultDir, config: TrainConfig, state: dict[str, Any], resume: bool, override: bool
) -> list[dict[str, Any]]:
    """Write config.json for a new run, or make sure that this one continues the one there.

    state: fingerprints of data and starting weights. Raises InputError on any difference, unless
    `override` accepts it; returns what it accepted, for `record_override`.
    """
    if not directory.config.is_file():
        if directory.models.is_dir() and any(directory.models.glob("*.pth")):
            raise InputError(f"{directory.models} holds models but {directory.config} is missing")
        content = {
            "config": config.to_dict(),
            **state,
            "seed": config.seed,
            "versions": versions(),
            "git_commit": git_commit(),
            "created": _now(),
        }
        write_json(directory.config, content)
        return []
    if not resume:
        raise InputError(
            f"{directory.root} already holds a run; pass --resume to go on with it, "
            "or choose another --output_dir"
        )
    old = read_config(directory)
    changed = config_differences(old["config"], config)
    changed += [
        {"name": name, "from": old.get(name), "to": value}
        for name, value in state.items()
        if old.get(name) != value
    ]
    fixed = [change for change in changed if change["name"] in _FIXED]
    if fixed or (changed and not override):
        differences = "; ".join(f"{c['name']}: {c['from']} -> {c['to']}" for c in fixed or changed)
        advice = "no --override can change that" if fixed else "--override accepts the new ones"
        raise InputError(
            f"--resume: {directory.root} was trained differently ({differences}); "
            f"use the old settings or choose another --output_dir; {advice}"
        )
    return changed


def record_override(
    directory: ResultDir, config: TrainConfig, state: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    """Write into config.json what was changed, from what, to what, when, and after which epochs.

    To be called once history.csv tells what each classifier goes on from.
    """
    content = read_config(directory)
    rows = read_history(directory.history)
    names = [head.name for head in heads_of_model(config.num_classes, config.head)]
    epochs = {name: sum(row["pair"] == name for row in rows) for name in names}
    entry = {"when": _now(), "changes": changes, "after_epoch": epochs, "git_commit": git_commit()}
    earlier = content.get("overrides")
    content |= {"config": config.to_dict(), **state, "seed": config.seed}
    content["overrides"] = [*(earlier if isinstance(earlier, list) else []), entry]
    write_json(directory.config, content)
    for change in changes:
        log(f"override: {change['name']}: {change['from']} -> {change['to']}, from here on")
    log("override: recorded in config.json; classifiers that are finished stay as they are")
