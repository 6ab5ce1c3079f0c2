"""What the training of a directory comes to: told by each process that ends, done by the last."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.config import LAST, TrainConfig
from common.history import EpochRow
from common.joint_runs.heads import held_by_others, names_by_holder, remove_left_locks
from common.locks.file_lock import Taken, advice_on
from common.locks.run_lock import lock_for_a_moment
from common.model_card.card import card_of_training
from common.model_card.card_file import write_card
from common.model_card.sections import what_is_known
from common.models.checkpoint import PairCheckpoint
from common.pairs import Head, Pair, heads_of_model, is_one_network, pair_flag
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run, read_config
from common.result_dir.stored import write_history
from common.system.errors import InputError
from common.system.log import log, shell_path
from common.training.context import TrainContext
from common.training.resume import load_best
from common.training.trainer import HeadTrainer


def finish_heads(context: TrainContext, trainers: Sequence[HeadTrainer]) -> None:
    """Drop the checkpoints of finished heads and say what came out."""
    config, directory = context.config, context.directory
    for trainer in trainers:
        directory.last(config.model, trainer.head).unlink(missing_ok=True)
        directory.previous(config.model, trainer.head).unlink(missing_ok=True)
        best = trainer.history[trainer.best_epoch - 1].validation
        if best:
            kept = "kept" if config.monitor == LAST else "best"
            log(
                f"{trainer.title}: {kept} epoch {trainer.best_epoch} of {trainer.epoch}, "
                f"val acc {100 * best.accuracy:.1f} %, AUC {best.auc:.3f}"
            )


def finished_before(
    directory: ResultDir, config: TrainConfig, heads: Sequence[Head]
) -> list[EpochRow] | None:
    """Read the history of heads that are all finished; None if anything is left to do for one."""
    rows: list[EpochRow] = []
    for head in heads:
        best = _finished(directory, config.model, head)
        if best is None:
            return None
        rows += best.history
    return rows


@dataclass(frozen=True)
class Standings:
    """Which heads of a model are trained, and which others are with other processes."""

    heads: Sequence[Head]
    done: frozenset[Head]
    others: dict[Head, Taken]

    @property
    def missing(self) -> list[Head]:
        """The heads that are not trained, and not being trained either."""
        return [head for head in self.heads if head not in self.done and head not in self.others]

    @property
    def complete(self) -> bool:
        """Tell whether all is trained."""
        return len(self.done) == len(self.heads)

    def line(self, names: Sequence[str]) -> str:
        """Say it for people. names: of the classes."""
        head = self.heads[0]
        if is_one_network(head.kind):
            if taken := self.others.get(head):
                return f"the {head.title} is with {taken.said}{advice_on([taken])}"
            if not self.complete:
                return f"the {head.title} is not finished (--resume goes on)"
            return f"the {head.title} is trained, the directory is complete"
        said = [f"{len(self.done)} of {len(self.heads)} pairs are trained"]
        said += names_by_holder(self.others)
        if said[1:]:
            said[-1] += advice_on(self.others.values())
        if self.missing:
            flags = " ".join(pair_flag(_pair_of(head), names) for head in self.missing)
            said.append(f"missing {flags} (--resume with these --pairs trains them)")
        return "; ".join(said) if len(said) > 1 else f"{said[0]}, the directory is complete"

    def left_of(self, wanted: Sequence[Head]) -> str:
        """Say which of some heads are not trained, and who has them; "" where all are."""
        left = [head for head in wanted if head not in self.done]
        others = {head: self.others[head] for head in left if head in self.others}
        said = names_by_holder(others)
        if gone := [head.name for head in left if head not in others]:
            said.append(f"{' '.join(gone)} by a process that has ended")
        return ", ".join(said) + advice_on(others.values())


def conclude(
    directory: ResultDir, config: TrainConfig, heads: list[Head], rows: list[EpochRow]
) -> Standings:
    """Say, and return, how much of the model is there; where all is, tidy up, and describe it.

    To be called when this process has let go of its heads, which are finished: of several that end
    at once, the last one to come here finds none with another. rows: the history of its heads.
    """
    with lock_for_a_moment(directory.lock):
        write_history(directory.history, rows, heads)
        found = _standings(directory, config, heads)
        log(f"{directory.root}: {found.line(config.names)}")
        if not found.complete:
            return found
        remove_left_locks(directory, config.model, found.heads)
        if not directory.is_unfinished():
            shutil.rmtree(directory.checkpoints, ignore_errors=True)
        describe_unless_described(directory, directory.root)
    log(f"next: {evaluation_of([directory.root], config.dataset_path)}")
    return found


def is_trained(directory: ResultDir, config: TrainConfig) -> bool:
    """Tell whether all of a model is trained, by whichever processes."""
    return _standings(directory, config, ()).complete


def evaluation_of(folders: Sequence[Path], dataset_path: str) -> str:
    """Write the command that evaluates complete directories, and the ensemble of several."""
    places = " ".join(shell_path(folder) for folder in folders)
    return (
        f"python evaluate_ensemble.py --results_dirs {places} "
        f"--dataset_path {shell_path(dataset_path)} --split test"
    )


def _standings(directory: ResultDir, config: TrainConfig, finished: Sequence[Head]) -> Standings:
    """See which heads are trained; finished: by this process."""
    heads = heads_of_model(config.num_classes, config.head)
    others = held_by_others(directory, config, heads)
    done = {
        head
        for head in heads
        if head not in others and (head in finished or _finished(directory, config.model, head))
    }
    return Standings(heads, frozenset(done), others)


def _pair_of(head: Head) -> Pair:
    first, second = head.classes
    return first, second


def _finished(directory: ResultDir, model: str, head: Head) -> PairCheckpoint | None:
    """Read a head's file where it is finished and nothing is left to tidy up."""
    best = load_best(directory.best(model, head), model, head, [])
    done = best is not None and best.complete and not directory.goes_on(model, head)
    return best if done else None


def describe_unless_described(directory: ResultDir, place: Path) -> None:
    """Write a model card that says what was trained; one that is there may hold figures.

    place: where the directory will lie.
    """
    if directory.model_card.exists():
        return
    try:
        run = find_run(directory)
    except InputError as error:  # what else lies there is no fault of this training
        log(f"note: no model card is written: {error}")
        return
    run = replace(run, directory=ResultDir(place))
    known = what_is_known(place.name, run, read_config(directory))
    write_card(directory.model_card, card_of_training(known))
