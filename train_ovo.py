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
import sys
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from common.audit.leakage import training_warnings
from common.cli import TrainingRequest, guarded, parse_training
from common.config import TrainConfig
from common.data.folders import Split, scan_split
from common.data.pixel_cache import open_cache
from common.data.synthetic import synthetic_note
from common.models.backbones import Backbone, build, native_state, preprocessing_for, resolve
from common.pairs import Head, heads_of_model
from common.result_dir import ResultDir
from common.system import signals
from common.system.device import resolve_precision, select_device
from common.system.environment import worker_count
from common.system.log import duration, log
from common.system.run_lock import lock_directory
from common.training.context import TrainContext
from common.training.dry_run import plan_lines
from common.training.loop import train
from common.training.resume import record_override, start_or_continue
from common.training.trainer import PairTrainer


def weights_fingerprint(backbone: Backbone) -> str:
    """Hash the weights that training starts from."""
    digest = hashlib.sha256()
    for part in (backbone.trunk, backbone.stages):
        for key, value in sorted(native_state(part).items()):
            digest.update(key.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def describe(setup: TrainContext, heads: list[Head]) -> None:
    """Log what is going to happen."""
    config, preprocessing = setup.config, setup.preprocessing
    title = f" ({config.experiment_name})" if config.experiment_name else ""
    note = synthetic_note(setup.train.split.ids)
    log(f"training {config.model}{title} into {setup.directory.root}{note}")
    log(
        f"{preprocessing.img_size} px, {setup.precision} on {setup.device}, seed {config.seed}, "
        f"effective batch {config.batch_size} x {config.gradient_accumulation_steps}, "
        f"{worker_count(config.num_workers)} decoding threads"
    )
    for cache in (setup.train, setup.val):
        counts = cache.split.counts(config.num_classes)
        log(f"{cache.split.name}: {len(cache)} images, per grade {counts}")
    if config.freeze_weights and not config.pretrained:
        log("note: the frozen stages hold random weights; --freeze_weights false trains them")
    log(f"classifiers: {' '.join(head.name for head in heads)}")


def finish(setup: TrainContext, trainers: list[PairTrainer]) -> None:
    """Drop the checkpoints of finished pairs and say what came out."""
    config, directory = setup.config, setup.directory
    for trainer in trainers:
        directory.last(config.model, trainer.head).unlink(missing_ok=True)
        directory.previous(config.model, trainer.head).unlink(missing_ok=True)
        best = trainer.history[trainer.best_epoch - 1]
        log(
            f"{trainer.head.title}: best epoch {trainer.best_epoch} of "
            f"{len(trainer.history)}, val acc {100 * best['val_accuracy']:.1f} %, "
            f"AUC {best['val_auc']:.3f}"
        )
    files = [
        directory.best(config.model, head)
        for head in heads_of_model(config.num_classes, config.head)
    ]
    if all(path.is_file() for path in files) and not directory.unfinished():
        shutil.rmtree(directory.checkpoints, ignore_errors=True)
        log(
            f"next: python evaluate_ensemble.py --results_dirs {shlex.quote(str(directory.root))} "
            f"--dataset_path {shlex.quote(config.dataset_path)} --split test"
        )


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
    preprocessing = preprocessing_for(
        spec,
        config.img_size,
        config.enable_clahe,
        config.clahe_clip_limit,
        config.clahe_tile_grid_size,
    )
    train_split, val_split = load_splits(config)
    backbone = build(
        spec,
        preprocessing.img_size,
        config.pretrained,
        config.weights,
        config.freeze_weights,
        config.seed,
    )
    if request.dry_run:
        plan = plan_lines(
            config,
            backbone,
            preprocessing,
            train_split,
            val_split,
            request.heads,
            device,
            precision,
        )
        print("\n".join(plan))
        return
    for line in training_warnings(config, (train_split, val_split)):
        log(line)
    fingerprints = {
        "data": {"train": train_split.fingerprint(), "val": val_split.fingerprint()},
        "initial_weights": weights_fingerprint(backbone),
        "precision": precision,
        "synthetic": bool(synthetic_note(train_split.ids)),
    }
    directory = ResultDir(Path(config.output_dir))
    with lock_directory(directory.root, directory.lock):  # before hours of decoding
        directory.remove_leftovers()
        caches = [
            open_cache(split, preprocessing, Path(config.cache_dir), config.num_workers)
            for split in (train_split, val_split)
        ]
        changes = start_or_continue(
            directory, config, fingerprints, request.resume, request.override
        )
        names = list(config.class_names) or [str(grade) for grade in range(config.num_classes)]
        details = {
            "class_names": names,
            "synthetic": fingerprints["synthetic"],
            "config": config.to_dict(),
            "data": fingerprints["data"],
        }
        setup = TrainContext(
            config,
            backbone,
            preprocessing,
            device,
            precision,
            *caches,
            directory,
            details,
            overridden=bool(changes),
        )

        def resumed() -> None:
            if changes:
                record_override(directory, config, fingerprints, changes)

        describe(setup, request.heads)
        with SummaryWriter(str(directory.tensorboard)) as writer:
            trainers = train(setup, request.heads, writer, resumed)
        finish(setup, trainers)
    log(f"finished {config.model} in {duration(time.monotonic() - started)}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Train every backbone that was asked for, one after the other."""
    request = parse_training(argv, __doc__)
    for config in request.configs:
        signals.check()
        run(config, request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
