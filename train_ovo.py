#!/usr/bin/env python3
"""Train the One-vs-One classifiers of one or several backbones, with one or several seeds.

    python train_ovo.py --base_models coatnet --dataset_path ./my_graded_photographs \\
        --output_dir ./coatnet_5class_results --resume

Reads DATASET_PATH/{train,val}/<grade>/, writes OUTPUT_DIR (see README.md). In `test` it only looks
for copies of files, to warn of them; of several processes, those for which nothing is left decode
and predict it for the evaluation, and compute no figure.
"""

from common.cli import guarded

import dataclasses
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.config import TrainConfig
from common.data.class_names import GRADES, meaning_of
from common.data.folders import Dataset, Split, scan_dataset
from common.data.synthetic import synthetic_note
from common.fine_tuning.schedule import schedule_warnings
from common.flags.training import RESUME_ADVICE, TrainingRequest, parse_training
from common.history import EpochRow
from common.in_force import Change
from common.joint_runs.heads import (
    AllHeldError,
    HeldHeads,
    held_by_others,
    hold_heads,
    left_to_others,
    require_some,
)
from common.locks.kernel_locks import lock_note
from common.locks.run_lock import lock_for_a_moment, require_writable
from common.pairs import Head
from common.pixel_store.pixel_cache import PixelCache, keep_readable, open_cache
from common.prediction.classes import classes_of
from common.result_dir.paths import ResultDir
from common.sharing.launcher import Place, find_place
from common.sharing.training_shares import BackboneShare, TrainingShares, share_training
from common.system import signals
from common.system.environment import worker_count
from common.system.errors import InputError, LeftToOthersError
from common.system.log import duration, log, printable
from common.system.threads import require_threads, use_threads

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.joint_runs.finish import Standings
    from common.training.context import Fingerprints, RunInputs, TrainContext


def load_inputs(config: TrainConfig, dataset: Dataset, place: Place) -> "RunInputs":
    """Build the backbone, on the device that was asked for."""
    from common.fine_tuning.optimizer import rates_line
    from common.models.backbones import JoinedStages, build, preprocessing_for, resolve
    from common.system.device import resolve_precision, select_device
    from common.training.context import RunInputs
    from common.training.resume import kernel_version_of, pixel_version_of

    device = select_device(config.device, place.local_rank)
    precision = resolve_precision(config.precision, config.use_amp, device)
    spec = resolve(config.model)
    directory = ResultDir(Path(config.output_dir))
    preprocessing = preprocessing_for(spec, config.pixel_options, pixel_version_of(directory))
    train_split, val_split = dataset.split("train"), dataset.split("val")
    config = name_classes(config, train_split)
    backbone = build(
        spec,
        preprocessing.img_size,
        config.pretrained,
        config.weights,
        config.freezes,
        config.seed,
        config.frozen_stages,
        config.pooled_stages,
    )
    if config.pooled_stages == "auto" and not isinstance(backbone.stages, JoinedStages):
        log(f"--pooled_stages auto: classifiers see the last stage alone, as {spec.name} needs it")
    rates_line(backbone.stages, config)  # a rate that cannot be is named before anything is written
    return RunInputs(
        config,
        backbone,
        preprocessing,
        train_split,
        val_split,
        device,
        precision,
        kernel_version=kernel_version_of(directory),
    )


def name_classes(config: TrainConfig, split: Split) -> TrainConfig:
    """Note the classes' names where none were given and the folders have names; check the cut.

    Five classes are the grades, and numbers say that already.
    """
    found = split.folders.classes.names if split.folders else ()
    numbered = all(meaning_of(name).counts for name in found)
    if not config.class_names and config.num_classes != GRADES and not numbered:
        config = dataclasses.replace(config, class_names=found)
    classes_of(config.names, config.referable_from)
    return config


def warn_of_dataset(config: TrainConfig, dataset: Dataset) -> None:
    """Log what of a dataset is not used, what is unbalanced, and what its splits share."""
    from common.audit.leakage import training_warnings

    for line in [*dataset.remarks(), *training_warnings(config, dataset)]:
        log(line)


def leave_out_unreadable(inputs: "RunInputs") -> "RunInputs":
    """Decode the images now, and go on without those that cannot be read."""
    folder, workers = Path(inputs.config.cache_dir), inputs.config.num_workers
    train_part, val_part = (
        keep_readable(split, inputs.preprocessing, folder, workers)
        for split in (inputs.train, inputs.val)
    )
    skipped = {
        part.split.name: sorted(part.skipped) for part in (train_part, val_part) if part.skipped
    }
    return replace(inputs, train=train_part.split, val=val_part.split, skipped=skipped)


def open_caches(inputs: "RunInputs") -> tuple[PixelCache, PixelCache]:
    """Decode the images that are not in the cache yet."""
    folder, workers = Path(inputs.config.cache_dir), inputs.config.num_workers
    train_cache = open_cache(inputs.train, inputs.preprocessing, folder, workers)
    return train_cache, open_cache(inputs.val, inputs.preprocessing, folder, workers)


def describe(context: "TrainContext", heads: list[Head]) -> None:
    """Log what is going to happen."""
    from common.fine_tuning.optimizer import rates_line

    config = context.config
    title = f" ({config.experiment_name})" if config.experiment_name else ""
    note = synthetic_note(context.train.ids)
    log(f"training {config.model}{title} into {context.directory.root}{note}")
    log(
        f"{context.preprocessing.img_size} px, {context.precision} on {context.device}, "
        f"seed {config.seed}, "
        f"effective batch {config.batch_size} x {config.gradient_accumulation_steps}, "
        f"{worker_count(config.num_workers)} decoding threads"
    )
    for line in filter(None, (config.recipe_line, rates_line(context.backbone.stages, config))):
        log(line)
    for text in config.without_effect.values():
        log(f"note: {text}")
    word = classes_of(config.names).word
    for split in (context.train, context.val):
        log(f"{split.name}: {len(split)} images, per {word} {split.counts(config.num_classes)}")
    if config.freezes and not config.pretrained:
        log("note: the frozen stages hold random weights; --freeze_weights false trains them")
    log(class_line(context))
    titles = [head.title_with(config.names).removeprefix("pair ") for head in heads]
    log(f"classifiers: {(', ' if '(' in titles[0] else ' ').join(titles)}")


def class_line(context: "TrainContext") -> str:
    """Say which folder holds which class, and which are referable."""
    config = context.config
    classes = classes_of(config.names, config.referable_from)
    labels = context.train.folders.labels if context.train.folders else {}
    held = [
        printable(name) + ("" if name == classes.names[label] else f" ({classes.titles[label]})")
        for name, label in labels.items()
    ]
    return f"classes, from folders: {', '.join(held)}; referable: {classes.referable}"


def differences(
    inputs: "RunInputs", fingerprints: "Fingerprints", held: HeldHeads, request: TrainingRequest
) -> list[Change]:
    """Refuse what does not fit the run that lies there; returns what an override may change."""
    from common.training.resume import check_continuation

    return check_continuation(
        held.directory,
        inputs.config,
        inputs.backbone,
        fingerprints,
        held.heads,
        request.resume,
        request.override,
    )


def agree_on_settings(
    inputs: "RunInputs", fingerprints: "Fingerprints", held: HeldHeads, request: TrainingRequest
) -> list[Change]:
    """Refuse what does not fit the run that is there; returns what an override changes in it."""
    from common.training.resume import find_standing, require_effect

    config, directory = inputs.config, held.directory
    with lock_for_a_moment(directory.lock):
        changes = differences(inputs, fingerprints, held, request)
        if changes:
            standings = [find_standing(directory, config, head, True) for head in held.heads]
            require_effect(directory, changes, [standing.finished for standing in standings])
            held.take_the_rest(config, "--override changes the settings of all pairs")
    return changes


def begin_run(
    inputs: "RunInputs", fingerprints: "Fingerprints", held: HeldHeads, request: TrainingRequest
) -> None:
    """Write config.json, unless another process has begun the run meanwhile: then fit that."""
    from common.training.resume import start_config

    config, directory = inputs.config, held.directory
    counts = {each.name: each.counts(config.num_classes) for each in (inputs.train, inputs.val)}
    with lock_for_a_moment(directory.lock):
        differences(inputs, fingerprints, held, request)
        start_config(directory, config, fingerprints, counts)


def train_held(
    inputs: "RunInputs",
    fingerprints: "Fingerprints",
    held: HeldHeads,
    request: TrainingRequest,
    changes: list[Change],
) -> list[EpochRow]:
    """Train the heads that this process holds to their end; returns their history."""
    from torch.utils.tensorboard import SummaryWriter

    from common.joint_runs.finish import finish_heads
    from common.training.context import build_context
    from common.training.loop import start_heads, train
    from common.training.resume import note_threads, record_override

    config, directory = inputs.config, held.directory
    caches = open_caches(inputs)
    threads = use_threads(config.threads, speak=False)  # which config.json records
    begin_run(inputs, fingerprints, held, request)
    log(threads.line)  # not before: a refusal is to be one line
    note_threads(directory)
    context = build_context(inputs, *caches, directory, fingerprints, bool(changes))
    describe(context, held.heads)
    for line in (*left_to_others(held.others), lock_note(directory.root)):
        if line:
            log(line)
    trainers = start_heads(context, held.heads)
    if changes:  # history.csv now tells from which epochs on they hold
        with lock_for_a_moment(directory.lock):
            record_override(directory, config, fingerprints, changes, trainers)
        held.release_the_rest()
    with SummaryWriter(str(directory.tensorboard)) as writer:
        train(context, trainers, writer)
    finish_heads(context, trainers)
    return [row for trainer in trainers for row in trainer.history]


def run(
    share: BackboneShare, dataset: Dataset, request: TrainingRequest, place: Place
) -> "Standings | None":
    """Train one backbone, or what this process has of it.

    Returns how much of it is trained then, by whomever; None of a dry run.
    """
    from common.joint_runs.finish import conclude, finished_before
    from common.training.context import check_inputs, take_fingerprints
    from common.training.dry_run import foresee, plan_lines

    started = time.monotonic()
    request = replace(request, heads=list(share.heads))
    inputs = load_inputs(share.config, dataset, place)
    config = inputs.config
    check_inputs(inputs, request.heads)
    if request.dry_run:
        directory = ResultDir(Path(config.output_dir))
        others = held_by_others(directory, config, request.heads)
        require_some(directory, request.heads, others)
        heads = [head for head in request.heads if head not in others]
        standings = foresee(inputs, heads, request.resume, request.override)
        plan = plan_lines(inputs, heads, standings)
        print("\n".join([*plan, *left_to_others(others), *dataset.remarks()]))
        return None
    for line in schedule_warnings(config):
        log(line)
    directory = ResultDir(Path(config.output_dir))
    with hold_heads(directory, config, request.heads) as held:  # before hours of decoding
        if config.skip_unreadable:
            inputs = leave_out_unreadable(inputs)
            dataset = dataset.without({id_ for ids in inputs.skipped.values() for id_ in ids})
        fingerprints = take_fingerprints(inputs)
        changes = agree_on_settings(inputs, fingerprints, held, request)
        if share.speaks:
            warn_of_dataset(config, dataset)
        heads = held.heads
        rows = None if changes else finished_before(directory, config, heads)
        if rows is None:
            rows = train_held(inputs, fingerprints, held, request, changes)
        else:  # nothing is decoded, which a machine without a cache would take hours for
            begin_run(inputs, fingerprints, held, request)
            for head in heads:
                epochs = sum(row.head == head.name for row in rows)
                log(f"{head.title_with(config.names)}: is finished, {epochs} epochs")
    found = conclude(directory, config, heads, rows)
    log(f"finished {config.model}, seed {config.seed}, in {duration(time.monotonic() - started)}")
    return found


def look_ahead(shares: Sequence[BackboneShare], request: TrainingRequest) -> None:
    """Refuse what stands in the way of a later backbone or seed before the first is trained."""
    from common.training.resume import check_start

    for share in shares:
        directory = ResultDir(Path(share.config.output_dir))
        require_writable(directory.root)
        others = held_by_others(directory, share.config, share.heads)
        heads = [head for head in share.heads if head not in others]
        check_start(directory, share.config, heads, request.resume, request.override)


def name_ensemble(request: TrainingRequest, complete: Collection[str]) -> None:
    """Say how all that was asked for is evaluated together, where all of it is trained.

    complete: directories that are known to be; others are looked at.
    """
    from common.joint_runs.finish import evaluation_of, is_trained

    first, folders = request.configs[0], [Path(each.output_dir) for each in request.configs]
    if all(
        config.output_dir in complete or is_trained(ResultDir(folder), config)
        for folder, config in zip(folders, request.configs)
    ):
        log(f"all {len(folders)} together: {evaluation_of(folders, first.dataset_path)}")


def work_beside(shares: TrainingShares, heads: list[Head], dataset: Dataset, place: Place) -> None:
    """Do what is left for a process that trains nothing: decode, predict for the evaluation."""
    from common.joint_runs.surplus import Surplus, help_evaluating

    surplus = Surplus(
        configs=shares.configs,
        heads=heads,
        predicts=shares.predicts(place.rank),
        trainers=place.size - len(shares.surplus),
        local_rank=place.local_rank,
    )
    help_evaluating(surplus, dataset)


def require_shareable(request: TrainingRequest, place: Place) -> None:
    """Raise InputError for what several processes cannot do together, or not start again."""
    if request.override and not place.alone:
        raise InputError(
            "--override changes the settings of all pairs, which one process must do: run this "
            "command once without torchrun, then stop it there (Ctrl-C) and go on with all "
            "processes, without --override"
        )
    if place.max_restarts and not request.resume and not request.dry_run:
        raise InputError(
            f"--max_restarts {place.max_restarts}: a training that is started again goes on from "
            "its checkpoints; add --resume, which begins one where there is none yet"
        )
    if request.require_trained and not place.alone:
        raise InputError(
            "--require_trained: torchrun would end the other processes with the first one that "
            "leaves something to others; run the same command once more in one process, with "
            "--resume, when all have ended: where all is trained that takes seconds"
        )


@partial(guarded, advice=RESUME_ADVICE, shares=True)
def main(argv: list[str] | None = None) -> int:
    """Train all that was asked for, or this process's share of it, one backbone after the other."""
    request, place = parse_training(argv, __doc__), find_place()
    first = request.configs[0]
    require_threads(first.threads)
    require_shareable(request, place)
    dataset = scan_dataset(Path(first.dataset_path), first.num_classes, first.class_names)
    counts = dataset.split("train").counts(first.num_classes)
    shares = share_training(request.configs, request.heads, counts, place.size)
    for line in shares.lines() if place.leads and not place.alone else ():
        log(line)
    if request.dry_run and not place.leads:
        return 0
    own = shares.share(place.rank)
    if len(own) > 1:
        look_ahead(own, request)
    held: list[AllHeldError] = []
    left: list[str] = []
    complete: set[str] = set()
    for number, share in enumerate(own):
        signals.check()
        try:
            found = run(share, dataset, request, place)
            if found is not None and (others := found.left_of(share.heads)):
                left.append(f"{Path(share.config.output_dir)}: {others}")
            if found is not None and found.complete:
                complete.add(share.config.output_dir)
        except AllHeldError as error:  # whoever has these pairs trains them; the others are ours
            held.append(error)
            if len(own) > 1 or not place.alone:
                log(f"left to others: {error}")
        except Exception:
            if later := [printable(each.config.output_dir) for each in own[number + 1 :]]:
                log(f"not begun: {', '.join(later)}")
            raise
    left = [*map(str, held), *left]
    if request.require_trained and left:
        raise LeftToOthersError(f"left to others: {'; '.join(left)}")
    if held and len(held) == len(own) and place.alone:
        raise held[0]
    if len(own) > 1 and left:
        log(f"not all is trained: {'; '.join(left)}")
    if own and len(request.configs) > 1 and not request.dry_run and not left:
        name_ensemble(request, complete)
    if not own:
        work_beside(shares, request.heads, dataset, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
