#!/usr/bin/env python3
"""Compare the product with what else one might take, on the same machine, images and epochs.

    python -m benchmarks.side_by_side --dataset_path ./my_graded_photographs --base_model convnext

Beside the three heads of train_ovo.py: the training loop of timm's documentation (one network of
all classes, none of it frozen, timm's own loader and augmentation), and scikit-learn's logistic
regression on the features of the pretrained network. All learn from train and are judged on val,
whose figures therefore compare and say nothing of new photographs. Writes benchmarks/RESULTS.md.
"""

from common.cli import Parser, folder, guarded, named_file

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.run import positive
from benchmarks.speed import report, results
from benchmarks.speed.results import SideBySideSection, Way
from benchmarks.speed.timing import processor
from common.config import TrainConfig
from common.data.folders import Split, scan_split
from common.fitting.ensemble import apply_vote
from common.metrics.bounds import metrics_with_intervals
from common.metrics.intervals import BootstrapConfig
from common.prediction.voting import ClassPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.result_dir.stored import read_history
from common.system.log import log

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    import torch

_TIMM, _SKLEARN = "timm's loop, one network of all classes", "scikit-learn on frozen features"
_HEADS = {"softmax": "softmax head", "shared": "shared OVO head", "ovo": "OVO, a branch per pair"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--dataset_path", type=folder, required=True)
    parser.add_argument("--base_model", default="convnext")
    parser.add_argument("--weights", type=named_file, default=None, help="pretrained, of timm")
    parser.add_argument("--no_pretrained", action="store_true", help="start from random weights")
    parser.add_argument("--img_size", type=positive, default=224)
    parser.add_argument("--epochs", type=positive, default=5)
    parser.add_argument("--data_name", default="", help="what the images are, for RESULTS.md")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    args = parser.parse_args(argv)
    from common.models.backbones import resolve

    resolve(args.base_model)
    return args


def way(seconds: float, speed: float, targets: np.ndarray, predictions: ClassPredictions) -> Way:
    """Sum up one way: seconds per epoch, images/s at evaluation, kappa with its interval."""
    names = ("kappa",)
    kappa = metrics_with_intervals(targets, predictions, BootstrapConfig(), names=names)["kappa"]
    return Way(seconds, speed, kappa.value, kappa.low, kappa.high)


def take_timm(args: argparse.Namespace, train: Split, val: Split, device: "torch.device") -> Way:
    """Train as timm's documentation does: its loader, optimiser and scheduler."""
    import timm
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch import nn

    from common.models.backbones import resolve
    from common.system.device import autocast, resolve_precision

    name, classes = resolve(args.base_model).builder, len(np.unique(train.labels))
    pretrained = not args.no_pretrained and args.weights is None
    model = timm.create_model(name, pretrained=pretrained, num_classes=classes).to(device)
    if args.weights:
        own = model.state_dict()
        loaded = torch.load(args.weights, map_location=device, weights_only=True)
        fitting = {k: v for k, v in loaded.items() if k in own and v.shape == own[k].shape}
        model.load_state_dict(fitting, strict=False)
    size = (3, args.img_size, args.img_size)
    data = resolve_data_config({"input_size": size}, model=model)
    loaders = [
        create_loader(
            create_dataset("", root=str(args.dataset_path / split.name), is_training=training),
            input_size=size,
            batch_size=8,
            is_training=training,
            use_prefetcher=False,
            num_workers=1,
            mean=data["mean"],
            std=data["std"],
            interpolation=data["interpolation"],
            device=device,
        )
        for split, training in ((train, True), (val, False))
    ]
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-4, weight_decay=0.05)
    scheduler = CosineLRScheduler(optimizer, t_initial=args.epochs, warmup_t=1, lr_min=1e-6)
    precision, loss_of = resolve_precision("auto", True, device), nn.CrossEntropyLoss()
    seconds, speed = [], 0.0
    for epoch in range(args.epochs):
        started = time.perf_counter()
        scheduler.step(epoch)
        model.train()
        for pixels, targets in loaders[0]:
            optimizer.zero_grad()
            with autocast(device, precision):
                loss = loss_of(model(pixels.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
        model.eval()
        likely, labels, began = [], [], time.perf_counter()
        with torch.inference_mode(), autocast(device, precision):
            for pixels, targets in loaders[1]:
                likely.append(model(pixels.to(device)).float().softmax(1).cpu())
                labels.append(targets)
        seconds.append(time.perf_counter() - started)
        speed = len(val) / (time.perf_counter() - began)
    probabilities = torch.cat(likely).numpy()
    predictions = ClassPredictions(probabilities, probabilities.argmax(1))
    return way(statistics.median(seconds), speed, torch.cat(labels).numpy(), predictions)


def take_sklearn(
    config: TrainConfig, train: Split, val: Split, device: "torch.device", cache: Path
) -> Way:
    """Fit a logistic regression; its time is that of the features and the fit."""
    from sklearn.linear_model import LogisticRegression

    from benchmarks.recipes.probe import ProbeSetting, pooled_features

    setting = ProbeSetting(config, device, cache, np.arange(len(train)))
    started = time.perf_counter()
    inputs = pooled_features(train, setting)
    linear = LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced")
    linear.fit(inputs, train.labels)
    seconds = time.perf_counter() - started
    began = time.perf_counter()
    probabilities = linear.predict_proba(pooled_features(val, setting))
    speed = len(val) / (time.perf_counter() - began)
    predictions = ClassPredictions(probabilities, probabilities.argmax(1))
    return way(seconds, speed, val.labels, predictions)


def take_product(
    args: argparse.Namespace, head: str, val: Split, device: "torch.device", scratch: Path
) -> Way:
    """Train through train_ovo.py; time the epochs that it records."""
    from common.prediction.predict import PredictionConfig, predict_run
    from common.system.device import resolve_precision

    output, start = scratch / head, ["--weights", str(args.weights)] if args.weights else []
    start = ["--no_pretrained"] if args.no_pretrained else start
    places = ["--dataset_path", str(args.dataset_path), "--cache_dir", str(scratch / "cache")]
    words = ["--base_models", args.base_model, "--head", head, "--output_dir", str(output)]
    words += ["--img_size", str(args.img_size), "--epochs", str(args.epochs)]
    words += ["--warmup_epochs", "1" if args.epochs > 1 else "0", "--device", args.device]
    status = importlib.import_module("train_ovo").main([*words, *places, *start])
    if status:
        raise SystemExit(status)
    rows = read_history(ResultDir(output).history)
    seconds = statistics.median(row.seconds for row in rows if row.head == rows[0].head)
    precision = resolve_precision("auto", True, device)
    config = PredictionConfig(scratch / "cache", 1, device, precision)
    pairs = predict_run(find_run(ResultDir(output)), val, config)
    classes = apply_vote(head, pairs, "coupling").classes
    return way(seconds, pairs.cost.images_per_second, pairs.targets, classes)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Take every way in turn, and write what there is after each."""
    args = parse_args(argv)
    from common.models.backbones import preprocessing_for, resolve
    from common.system.device import select_device

    device = select_device(args.device)
    train, val = (scan_split(args.dataset_path, name) for name in ("train", "val"))
    spec = resolve(args.base_model)
    config = TrainConfig(
        model=spec.name,
        img_size=args.img_size,
        pretrained=not args.no_pretrained,
        weights=str(args.weights or ""),
    )
    start = "random weights" if args.no_pretrained else "pretrained weights"
    size = preprocessing_for(spec, config.pixel_options).img_size
    section = SideBySideSection(
        processor=processor(device),
        command=f"python -m benchmarks.side_by_side --base_model {args.base_model} --img_size "
        f"{size} --epochs {args.epochs} --device {device.type}"
        f"{' --no_pretrained' if args.no_pretrained else ''} --dataset_path ...",
        data=f"{args.data_name or args.dataset_path.name}, {len(train)} images of train and "
        f"{len(val)} of val; {spec.name} at {size} px from {start}, {args.epochs} epochs",
    )
    key = results.side_by_side_key(spec.alias)
    with tempfile.TemporaryDirectory() as scratch:
        for title in (_TIMM, _SKLEARN, *_HEADS.values()):
            if title == _TIMM:
                found = take_timm(args, train, val, device)
            elif title == _SKLEARN:
                found = take_sklearn(config, train, val, device, Path(scratch) / "cache")
            else:
                head = next(name for name, each in _HEADS.items() if each == title)
                found = take_product(args, head, val, device, Path(scratch))
            section.ways[title] = found
            log(f"{title}: {found}")
            kept = results.store(args.output_dir, key, section)
            report.write(args.output_dir, kept)
    print(report.side_by_side_table(section))
    return 0


if __name__ == "__main__":
    sys.exit(main())
