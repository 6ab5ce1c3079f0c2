#!/usr/bin/env python3
"""Train the One-vs-One classifiers of one or several backbones.

    python train_ovo.py --base_models coatnet --dataset_path ./my_graded_photographs \\
        --output_dir ./coatnet_5class_results --resume

Reads DATASET_PATH/{train,val}/<grade>/, writes OUTPUT_DIR (see README.md). In `test` it only looks
for copies of files, to warn of them.
"""

import hashlib
import shlex
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from common import artifacts
from common.artifacts import ResultDir
from common.backbones import Backbone, build, native_state, preprocessing_for, resolve
from common.cli import TrainingRequest, guarded, parse_training
from common.config import TrainConfig, config_differences
from common.dataset import Split, open_cache, scan_split
from common.leakage import training_warnings
from common.pairs import Pair, classifiers, pair_name, pair_title
from common.planning import plan_lines
from common.runtime import (
    InputError,
    log,
    resolve_precision,
    select_device,
    versions,
    worker_count,
    write_json,
)
from common.synthetic import synthetic_note
from common.training import PairTrainer, Setup, duration, train


def weights_fingerprint(backbone: Backbone) -> str:
    """Hash the weights that training starts from."""
    digest = hashlib.sha256()
    for part in (backbone.trunk, backbone.stages):
        for key, value in sorted(native_state(part).items()):
            digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def git_commit() -> str:
    """Name the commit of this code, "" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def claim_directory(
    directory: ResultDir, config: TrainConfig, state: dict[str, Any], resume: bool
) -> None:
    """Write config.json for a new run, or make sure that this one continues the one there.

    state: fingerprints of data and starting weights. Raises InputError on any difference.
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
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(directory.config, content)
        return
    if not resume:
        raise InputError(
            f"{directory.root} already holds a run; pass --resume to go on with it, "
            "or choose another --output_dir"
        )
    old = artifacts.read_config(directory)
    changed = config_differences(old["config"], config)
    changed += [f"{k}: {old.get(k)} -> {v}" for k, v in state.items() if old.get(k) != v]
    if changed:
        raise InputError(
            f"--resume: {directory.root} was trained differently ({'; '.join(changed)}); "
            "use the old settings or choose another --output_dir"
        )


def describe(setup: Setup, pairs: list[Pair]) -> None:
    """Log what is going to happen."""
    config, settings = setup.config, setup.settings
    title = f" ({config.experiment_name})" if config.experiment_name else ""
    note = synthetic_note(setup.train.split.ids)
    log(f"training {config.model}{title} into {setup.directory.root}{note}")
    log(
        f"{settings.img_size} px, {setup.precision} on {setup.device}, seed {config.seed}, "
        f"effective batch {config.batch_size} x {config.gradient_accumulation_steps}, "
        f"{worker_count(config.num_workers)} decoding threads"
    )
    for cache in (setup.train, setup.val):
        counts = cache.split.counts(config.num_classes)
        log(f"{cache.split.name}: {len(cache)} images, per grade {counts}")
    if config.freeze_weights and not config.pretrained:
        log("note: the frozen stages hold random weights; --freeze_weights false trains them")
    log(f"classifiers: {' '.join(map(pair_name, pairs))}")


def finish(setup: Setup, trainers: list[PairTrainer]) -> None:
    """Drop the checkpoints of finished pairs and say what came out."""
    config, directory = setup.config, setup.directory
    for trainer in trainers:
        directory.last(config.model, trainer.pair).unlink(missing_ok=True)
        best = trainer.history[trainer.best_epoch - 1]
        log(
            f"{pair_title(trainer.pair)}: best epoch {trainer.best_epoch} of "
            f"{len(trainer.history)}, val acc {100 * best['val_accuracy']:.1f} %, "
            f"AUC {best['val_auc']:.3f}"
        )
    files = [
        directory.best(config.model, pair) for pair in classifiers(config.num_classes, config.head)
    ]
    if all(path.is_file() for path in files) and not any(directory.checkpoints.glob("last_*")):
        shutil.rmtree(directory.checkpoints, ignore_errors=True)
        log(f"next: python evaluate_ensemble.py --results_dirs {shlex.quote(str(directory.root))} "
            f"--dataset_path {shlex.quote(config.dataset_path)} --split test")  # fmt: skip


def load_splits(config: TrainConfig) -> tuple[Split, Split]:
    """List the training and the validation images."""
    root = Path(config.dataset_path)
    train_split, val_split = (
        scan_split(root, name, config.num_classes, config.class_names) for name in ("train", "val")
    )
    return train_split, val_split


def run(config: TrainConfig, request: TrainingRequest) -> None:
    """Train one backbone."""
    started = time.monotonic()
    device = select_device(config.device)
    precision = resolve_precision(config.precision, config.use_amp, device)
    spec = resolve(config.model)
    settings = preprocessing_for(
        spec, config.img_size, config.enable_clahe, config.clahe_clip_limit,
        config.clahe_tile_grid_size,
    )  # fmt: skip
    train_split, val_split = load_splits(config)
    backbone = build(
        spec, settings.img_size, config.pretrained, config.weights,
        config.freeze_weights, config.seed,
    )  # fmt: skip
    if request.dry_run:
        plan = plan_lines(config, backbone, settings, train_split, val_split, request.pairs,
                          device, precision)  # fmt: skip
        print("\n".join(plan))
        return
    for line in training_warnings(Path(config.dataset_path), (train_split, val_split),
                                  config.class_names, config.num_classes,
                                  config.num_workers):  # fmt: skip
        log(line)
    fingerprints = {
        "data": {"train": train_split.fingerprint(), "val": val_split.fingerprint()},
        "initial_weights": weights_fingerprint(backbone),
        "precision": precision,
        "synthetic": bool(synthetic_note(train_split.ids)),
    }
    directory = ResultDir(Path(config.output_dir))
    train_cache, val_cache = (
        open_cache(split, settings, Path(config.cache_dir), config.num_workers)
        for split in (train_split, val_split)
    )
    claim_directory(directory, config, fingerprints, request.resume)
    names = list(config.class_names) or [str(grade) for grade in range(config.num_classes)]
    details = {
        "class_names": names,
        "synthetic": fingerprints["synthetic"],
        "config": config.to_dict(),
        "data": fingerprints["data"],
    }
    setup = Setup(config, backbone, settings, device, precision, train_cache, val_cache,
                  directory, details)  # fmt: skip
    describe(setup, request.pairs)
    with SummaryWriter(str(directory.tensorboard)) as writer:
        trainers = train(setup, request.pairs, writer)
    finish(setup, trainers)
    log(f"finished {config.model} in {duration(time.monotonic() - started)}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Train every backbone that was asked for, one after the other."""
    request = parse_training(argv, __doc__)
    for config in request.configs:
        run(config, request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
