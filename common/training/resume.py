"""Continue a run: one configuration from start to end, each head from its latest checkpoint."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.config import FIXED_FIELDS, PixelOptions, TrainConfig, config_differences
from common.in_force import Change, TrainedWith
from common.kernels.depthwise import KERNEL_VERSION
from common.models.backbones import Backbone, count_frozen, preprocessing_for
from common.models.checkpoint import PairCheckpoint, ResumeState, load_pair
from common.models.checkpoint_file import DamagedError, load_checkpoint
from common.pairs import Head, heads_of_model
from common.pixels.decoding import PIXEL_VERSION
from common.result_dir.paths import ResultDir
from common.result_dir.run import read_config
from common.result_dir.stored import read_history
from common.system.environment import git_commit, versions
from common.system.errors import MISFIT, InputError
from common.system.files import write_json
from common.system.log import log
from common.training.context import Fingerprints, TrainContext
from common.training.trainer import HeadTrainer, load_finished, load_state

# keys of config.json that earlier releases did not write, and what they meant
OLDER_RUN: dict[str, Any] = {"pixel_version": 1, "kernel_version": 1, "skipped": {}}
# what a run may not change even with --override: its networks or its pixels would not fit
_FIXED = (*FIXED_FIELDS, "initial_weights", "synthetic", "pixel_version", "kernel_version")
# settings that can be written in several ways which mean the same to one network or device
_NEED_THE_NETWORK = (
    "img_size",
    "freeze_weights",
    "frozen_stages",
    "class_names",
    "precision",
    "use_amp",
)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# -- the run ----------------------------------------------------------------------------------


def check_start(
    directory: ResultDir, config: TrainConfig, heads: Sequence[Head], resume: bool, override: bool
) -> None:
    """Refuse early what `check_continuation` would, as far as it is seen without the network."""
    if _is_there(directory, config, heads, resume):
        old = read_config(directory)["config"]
        changed = [c for c in config_differences(old, config) if c.name not in _NEED_THE_NETWORK]
        _require_accepted(directory, config, heads, changed, resume, override)


def check_continuation(
    directory: ResultDir,
    config: TrainConfig,
    backbone: Backbone,
    fingerprints: Fingerprints,
    heads: Sequence[Head],
    resume: bool,
    override: bool,
) -> list[Change]:
    """Make sure that this run is a new one, continues the one there or has a part in it.

    Writes nothing. Raises InputError on any difference, unless `override` accepts it; returns what
    it accepted, for `record_override`.
    """
    if not _is_there(directory, config, heads, resume):
        return []
    changed = _differences(read_config(directory), config, backbone, fingerprints)
    _require_accepted(directory, config, heads, changed, resume, override)
    return changed


def _is_there(
    directory: ResultDir, config: TrainConfig, heads: Sequence[Head], resume: bool
) -> bool:
    """Tell whether there is a run; raises InputError for one that is not to be gone on with."""
    if not directory.config.is_file():
        if directory.models.is_dir() and any(directory.models.glob("*.pth")):
            raise InputError(
                f"{directory.models} holds models but {directory.config} is missing; "
                "put it back, or choose another --output_dir"
            )
        return False
    if not resume and any(_is_begun(directory, config.model, head) for head in heads):
        raise InputError(
            f"{directory.root} already holds a run; pass --resume to go on with it, "
            "or choose another --output_dir"
        )
    return True


def _is_over(directory: ResultDir, config: TrainConfig, heads: Sequence[Head]) -> bool:
    """Tell whether all heads are there and none of them has a state to go on from."""
    return all(
        directory.best(config.model, head).is_file() and not directory.goes_on(config.model, head)
        for head in heads
    )


def _require_accepted(
    directory: ResultDir,
    config: TrainConfig,
    heads: Sequence[Head],
    changed: list[Change],
    resume: bool,
    override: bool,
) -> None:
    fixed = [change for change in changed if change.name in _FIXED]
    if fixed or (changed and not override):
        differences = _listed(changed)
        advice = "--override accepts the new ones"
        if fixed:
            advice = "no --override can change that"
        elif _is_over(directory, config, heads):
            advice = "its classifiers are finished, so that --override has nothing to train"
        raise InputError(
            f"{'--resume: ' if resume else ''}{directory.root} was trained differently "
            f"({differences}); "
            f"use the old settings or choose another --output_dir; {advice}"
        )


def _is_begun(directory: ResultDir, model: str, head: Head) -> bool:
    return directory.best(model, head).is_file() or directory.goes_on(model, head)


def _listed(changes: list[Change]) -> str:
    return "; ".join(f"{c.name}: {c.before} -> {c.now}" for c in changes)


def start_config(
    directory: ResultDir,
    config: TrainConfig,
    fingerprints: Fingerprints,
    images: dict[str, list[int]],
) -> None:
    """Write config.json for a new run; that of a run which goes on stays as it is.

    But for how predictions are made, which has no part in what is learned. images: numbers of them
    by split, per class.
    """
    if directory.config.is_file():
        _record_views(directory, config)
        return
    content = {
        "config": config.to_dict(),
        **asdict(fingerprints),
        "images": images,
        "seed": config.seed,
        "versions": versions(),
        "git_commit": git_commit(),
        "created": _now(),
    }
    write_json(directory.config, content)


def _record_views(directory: ResultDir, config: TrainConfig) -> None:
    """Let config.json say what the command line says now of how predictions are made."""
    content = read_config(directory)
    before = content["config"].get("tta", "none")
    if config.tta != before:
        content["config"]["tta"] = config.tta
        write_json(directory.config, content)
        log(f"tta: {before} -> {config.tta}, recorded in config.json for predictions from now on")


def pixel_version_of(directory: ResultDir) -> int:
    """Return the version of the pixels of the run that is there, of a new one the latest."""
    return _version_of(directory, "pixel_version", PIXEL_VERSION)


def kernel_version_of(directory: ResultDir) -> int:
    """Return how gradients are computed in the run that is there, in a new one as of late."""
    return _version_of(directory, "kernel_version", KERNEL_VERSION)


def _version_of(directory: ResultDir, name: str, latest: int) -> int:
    if not directory.config.is_file():
        return latest
    version = read_config(directory).get(name, 1)
    if version not in range(1, latest + 1):
        raise InputError(
            f"{directory.config}: {name} {version!r}; this release knows 1 to {latest}"
        )
    return version


def _differences(
    old: dict[str, Any], config: TrainConfig, backbone: Backbone, fingerprints: Fingerprints
) -> list[Change]:
    """List what is not as config.json has it."""
    old = OLDER_RUN | old
    same = _same_meaning(old["config"], config, backbone)
    same |= {"precision", "use_amp"}  # what they come to is a fingerprint
    settings = [c for c in config_differences(old["config"], config) if c.name not in same]
    return settings + [
        Change(name, old.get(name), value)
        for name, value in asdict(fingerprints).items()
        if old.get(name) != value
    ]


def _same_meaning(old: dict[str, Any], config: TrainConfig, backbone: Backbone) -> set[str]:
    """Name settings that mean what they meant, though they may be written in another way."""
    before = {**TrainConfig().to_dict(), **old}
    own_size = preprocessing_for(backbone.spec, PixelOptions()).img_size
    frozen = count_frozen(backbone, before["freeze_weights"], before["frozen_stages"])
    numbered = [str(place) for place in range(config.num_classes)]
    same = set()
    if (before["img_size"] or own_size) == (config.img_size or own_size):
        same.add("img_size")
    if frozen == count_frozen(backbone, config.freeze_weights, config.frozen_stages):
        same |= {"freeze_weights", "frozen_stages"}
    if (before["class_names"] or numbered) == list(config.names):
        same.add("class_names")
    return same


def require_effect(directory: ResultDir, changes: list[Change], finished: list[bool]) -> None:
    """Raise InputError for an override where all classifiers of a command are finished.

    The settings on record would have trained nothing.
    """
    if changes and all(finished):
        which = "its classifier is" if len(finished) == 1 else "these classifiers are"
        raise InputError(
            f"--override: {directory.root} would learn nothing from the changed settings "
            f"({_listed(changes)}), since {which} finished; use the old settings, or choose "
            "another --output_dir to train with the new ones"
        )


def record_override(
    directory: ResultDir,
    config: TrainConfig,
    fingerprints: Fingerprints,
    changes: list[Change],
    trainers: list[HeadTrainer],
) -> None:
    """Write into config.json what was changed, from what, to what, when, and after which epochs.

    To be called once history.csv tells what each head goes on from. trainers: of this command.
    """
    content = read_config(directory)
    rows = read_history(directory.history)
    heads = heads_of_model(config.num_classes, config.head)
    epochs = {head.name: sum(row.head == head.name for row in rows) for head in heads}
    here = {trainer.head: trainer.finished for trainer in trainers}
    finished = [
        head.name
        for head in heads
        if here.get(head, epochs[head.name] > 0 and not directory.goes_on(config.model, head))
    ]
    entry = {
        "when": _now(),
        "changes": [change.to_dict() for change in changes],
        "after_epoch": epochs,
        "finished": finished,
        "git_commit": git_commit(),
    }
    earlier = content.get("overrides")
    content |= {"config": config.to_dict(), **asdict(fingerprints), "seed": config.seed}
    content["overrides"] = [*(earlier if isinstance(earlier, list) else []), entry]
    write_json(directory.config, content)
    for change in changes:
        log(f"override: {change.name}: {change.before} -> {change.now}, from here on")
    log("override: recorded in config.json; classifiers that are finished stay as they are")


def note_threads(directory: ResultDir) -> None:
    """Say so if a run goes on with another number of threads: sums may round in another way."""
    versions_then = read_config(directory).get("versions")
    before = versions_then.get("threads") if isinstance(versions_then, dict) else None
    now = versions()["threads"]
    if before and before != now:
        began = f"{before} thread{'s' * (before != 1)}"
        log(
            f"note: this run began with {began} and goes on with {now}, so that its last "
            f"digits may differ from those of a run without a break; --threads {before} avoids that"
        )


# -- one head ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """How far the training of a head has come."""

    epoch: int = 0  # epochs done
    finished: bool = False
    notes: tuple[str, ...] = ()  # what is wrong with files that are there


def find_standing(
    directory: ResultDir, config: TrainConfig, head: Head, overridden: bool
) -> Standing:
    """See where `resume_head` would go on; changes nothing. Raises InputError where that would."""
    notes: list[str] = []
    best = load_best(directory.best(config.model, head), config.model, head, notes)
    if best is not None and best.complete:
        return Standing(len(best.history), True)
    state = load_latest(directory, config.model, head, best, notes, overridden, tidy=False)
    standing = Standing(state.epoch if state else 0, False, tuple(notes))
    _require_an_end(config, head.title_with(config.names), standing)
    return standing


def _require_an_end(config: TrainConfig, title: str, standing: Standing) -> None:
    """Raise InputError for a head that is to end before where it is."""
    if standing.epoch >= config.epochs and not standing.finished:
        raise InputError(
            f"--epochs {config.epochs}: {title} has been trained for {standing.epoch} already and "
            "has no end there; give more, or choose another --output_dir"
        )


def resume_head(context: TrainContext, trainer: HeadTrainer) -> None:
    """Bring a trainer to where its head's training ended, and say so.

    Where the last checkpoint is damaged, it goes on from the one before it, or from the start.
    Raises InputError for a file that is whole but cannot be continued from.
    """
    directory, model, head = context.directory, context.config.model, trainer.head
    notes: list[str] = []  # what is wrong with files that are there
    path = directory.best(model, head)
    best = load_best(path, model, head, notes)
    if best is not None and best.complete:
        with _named(path):
            load_finished(trainer, best)
    else:
        state = load_latest(directory, model, head, best, notes, context.overridden)
        if state is not None:
            with _named(directory.last(model, head)):
                _require_all_parts(context, trainer, state)
                load_state(trainer, state)
    if notes:
        how = (
            f"goes on after epoch {trainer.epoch}" if trainer.epoch else "is trained from the start"
        )
        log(f"{trainer.title}: {'; '.join(notes)}; it {how}")
    _require_an_end(context.config, trainer.title, Standing(trainer.epoch, trainer.finished))
    if trainer.finished:
        log(f"{trainer.title}: is finished, {trainer.epoch} epochs")
    elif trainer.epoch:
        log(f"{trainer.title}: goes on after epoch {trainer.epoch}")


def load_best(path: Path, model: str, head: Head, notes: list[str]) -> PairCheckpoint | None:
    """Read a head's own file; None, with a note unless it is absent, if it cannot be used."""
    if not path.is_file():
        return None
    try:
        checkpoint = load_pair(path)
    except DamagedError as error:
        notes.append(str(error))
        return None
    if (checkpoint.model, checkpoint.head) != (model, head):
        notes.append(f"{path} holds {checkpoint.head.title} of {checkpoint.model}")
        return None
    return checkpoint


def load_latest(
    directory: ResultDir,
    model: str,
    head: Head,
    best: PairCheckpoint | None,
    notes: list[str],
    overridden: bool,
    tidy: bool = True,
) -> ResumeState | None:
    """Read the newest state that is whole and whose best weights `best` holds; None without one.

    Notes what it passes over. tidy: remove damaged ones, which must not become the previous one.
    """
    for path in (directory.last(model, head), directory.previous(model, head)):
        if not path.is_file():
            continue
        try:
            content = load_checkpoint(path)
        except DamagedError as error:
            notes.append(str(error))
            if tidy:
                path.unlink()
            continue
        with _named(path):
            state = ResumeState.from_dict(content)
        if _has_best_weights(best, state, overridden):
            return state
        if not notes:
            notes.append(f"{directory.best(model, head)} is missing or of another epoch")
    return None


def _require_all_parts(context: TrainContext, trainer: HeadTrainer, state: ResumeState) -> None:
    """Raise ValueError for a state without what only an override could have added since."""
    lacks = {
        "ema_decay": trainer.average is not None and not state.average,
        "precision": trainer.scaler.is_enabled() and not state.scaler,
    }
    for name in (name for name, lacking in lacks.items() if lacking):
        if not (context.overridden or name in _overridden_before(context.directory)):
            raise ValueError(f"without the part that --{name} needs")


def _overridden_before(directory: ResultDir) -> set[str]:
    """Name the settings that earlier overrides have changed, as config.json records them."""
    if not directory.config.is_file():
        return set()
    return {change.name for change, _ in TrainedWith.from_content(read_config(directory)).changes}


def _has_best_weights(best: PairCheckpoint | None, state: ResumeState, overridden: bool) -> bool:
    """Tell whether a head's file holds the weights that the state calls the best so far.

    A later epoch's will do: that epoch comes again, with the same outcome if the settings are the
    same.
    """
    if state.best_epoch <= 0:
        return True
    found = best.best_epoch if best is not None else -1
    return found == state.best_epoch if overridden else found >= state.best_epoch


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the error of a checkpoint that does not fit into one that names its file."""
    try:
        yield
    except MISFIT as error:
        raise InputError(
            f"{path}: cannot be continued from ({' '.join(repr(error).split())[:120]}); remove "
            "it to train this classifier from the start"
        ) from error
