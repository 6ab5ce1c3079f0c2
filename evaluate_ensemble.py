#!/usr/bin/env python3
"""Evaluate result directories on graded images, each alone and, if several, as an ensemble.

    python evaluate_ensemble.py --results_dirs ./coatnet_5class_results \\
        --dataset_path ./my_graded_photographs --split test

Writes metrics, predictions and figures into each directory's results/; the ensemble, the plain
mean of the models' class probabilities, into --output_dir.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from common import artifacts
from common.aggregation import VOTES, aggregate, combine_models
from common.artifacts import ResultDir
from common.backbones import resolve
from common.cli import Parser, add_evaluation_flags, default_directory, guarded
from common.dataset import SPLITS, scan_split
from common.evaluation import evaluate_classes, evaluate_votes
from common.inference import Predictions, predict_directory, save_predictions
from common.metrics import REFERABLE_GRADE
from common.plots import plot_confusion, plot_roc
from common.reporting import confusion_table, decimal, metrics_table, per_class_table
from common.runtime import InputError, log, resolve_precision, select_device


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--results_dirs", nargs="+", type=Path, default=[], metavar="DIR",
                        help="result directories of train_ovo.py")  # fmt: skip
    parser.add_argument("--base_models", nargs="+", default=[], metavar="MODEL",
                        help="in place of --results_dirs: models in their default "
                             "directories, or one model in --output_dir")  # fmt: skip
    parser.add_argument("--split", choices=SPLITS, default="test", help="(default test)")
    parser.add_argument("--output_dir", type=Path, default=None,
                        help="of the ensemble (default ./super_ensemble_results)")  # fmt: skip
    parser.add_argument("--vote", choices=VOTES, default=VOTES[0],
                        help=f"pairs to classes (default {VOTES[0]})")  # fmt: skip
    parser.add_argument("--num_classes", type=int, default=5, help="(default 5)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    add_evaluation_flags(parser)
    return parser.parse_args(argv)


def result_dirs(args: argparse.Namespace) -> list[ResultDir]:
    """Find the directories to evaluate; InputError unless there is one for each model."""
    if bool(args.results_dirs) == bool(args.base_models):
        raise InputError("expected either --results_dirs or --base_models")
    folders = args.results_dirs
    if args.base_models:
        defaults = [default_directory(model, args.num_classes) for model in args.base_models]
        folders = [(args.output_dir or Path()) / folder for folder in defaults]
        if len(folders) == 1 and args.output_dir:
            folders = [args.output_dir]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a result directory of train_ovo.py, found none")
    for model, folder in zip(args.base_models, folders):
        name = artifacts.read_config(ResultDir(folder))["config"].get("model")
        if name != resolve(model).name:
            raise InputError(f"{folder} holds {name}, not {model}; check --output_dir")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("--results_dirs: the same directory is given twice")
    return [ResultDir(folder) for folder in folders]


def predict(directory: ResultDir, args: argparse.Namespace) -> Predictions:
    """Predict the split with one directory's classifiers."""
    config = artifacts.read_config(directory)["config"]
    names = tuple(args.class_names or config.get("class_names", ()))
    split = scan_split(Path(args.dataset_path), args.split, config.get("num_classes", 5), names)
    device = select_device(args.device)
    precision = resolve_precision(args.precision, args.use_amp, device)
    return predict_directory(
        directory, split, Path(args.cache_dir), args.num_workers, device, precision
    )


def report(
    title: str, content: dict[str, Any], rows: dict[str, Any], kind: str, names: list[str]
) -> None:
    """Print an evaluation as tables; rows: what to compare, by name, and of which kind it is."""
    metrics = content["metrics"]
    print(f"\n{title}: {content['images']} images, 95 % intervals by bootstrap\n")
    print(metrics_table(rows, kind))
    print(f"\n{title}, {content['vote']} vote, by grade")
    print(per_class_table(metrics, names, content["images_per_grade"]))
    print()
    print(confusion_table(content["confusion_matrix"], names))
    for name, reason in content["undefined"].items():
        print(f"{name} is n/a: {reason}")
    print(flush=True)


def draw(
    directory: ResultDir, split: str, content: dict[str, Any], title: str, names: list[str],
    targets: np.ndarray, scores: np.ndarray,
) -> None:  # fmt: skip
    """Draw confusion matrix and ROC curves, and name the files."""
    curves = {}
    for k, name in enumerate(names):
        if 0 < (targets == k).sum() < len(targets):
            auc = decimal(content["metrics"][f"auc_{k}"]["value"])
            curves[f"grade {name}, AUC {auc}"] = roc_curve(targets == k, scores[:, k])[:2]
    referable = targets >= REFERABLE_GRADE
    if 0 < referable.sum() < len(targets):
        auc = decimal(content["metrics"]["referable_auc"]["value"])
        curves[f"referable, AUC {auc}"] = roc_curve(
            referable, scores[:, REFERABLE_GRADE:].sum(1)
        )[:2]  # fmt: skip
    confusion, roc = (directory.figure(f"{kind}_{split}") for kind in ("confusion", "roc"))
    plot_confusion(np.array(content["confusion_matrix"]), names, title, confusion)
    plot_roc(curves, title, roc)
    log(f"wrote {directory.metrics(split)}, {confusion.name}, {roc.name}")


def evaluate_member(
    directory: ResultDir, found: Predictions, args: argparse.Namespace
) -> tuple[dict[str, Any], np.ndarray]:
    """Evaluate one backbone and write its results; returns them and class probabilities (N, K)."""
    scores, predicted = aggregate(
        found.pair_probabilities, found.num_classes, args.vote, found.pair_accuracies
    )
    content = {"model": found.model, "split": args.split, "dataset_path": str(args.dataset_path)}
    content |= evaluate_votes(
        found.targets, found.pair_probabilities, found.pair_accuracies, found.num_classes,
        args.vote, args.resamples, args.seed,
    )  # fmt: skip
    content |= {"class_names": found.class_names, "origin": found.origin}
    save_predictions(directory.predictions(args.split), found, scores, predicted)
    artifacts.write_metrics(directory.metrics(args.split), content)
    title = f"{found.model} on {args.split}"
    report(title, content, content["votes"], "vote", found.class_names)
    draw(directory, args.split, content, title, found.class_names, found.targets, scores)
    return content, scores


def evaluate_mean(
    members: list[Predictions],
    results: list[tuple[dict[str, Any], np.ndarray]],
    args: argparse.Namespace,
) -> None:
    """Evaluate the plain mean of the models' class probabilities, beside each, and write it."""
    first = members[0]
    for member in members[1:]:
        if not np.array_equal(member.ids, first.ids) or member.class_names != first.class_names:
            raise InputError(f"{member.model} and {first.model} were evaluated on other images")
    directory = ResultDir(args.output_dir or Path("super_ensemble_results"))
    scores = combine_models([probabilities for _, probabilities in results])
    predicted = scores.argmax(1)
    content = {"model": "mean ensemble", "members": [m.model for m in members],
               "split": args.split, "dataset_path": str(args.dataset_path),
               "vote": args.vote}  # fmt: skip
    content |= evaluate_classes(first.targets, scores, predicted, args.resamples, args.seed)
    content |= {"class_names": first.class_names}
    details = {key: content[key] for key in ("model", "members", "class_names", "vote")}
    arrays = {"ids": first.ids, "targets": first.targets, "class_probabilities": scores,
              "predictions": predicted}  # fmt: skip
    artifacts.write_predictions(directory.predictions(args.split), arrays, details)
    artifacts.write_metrics(directory.metrics(args.split), content)
    title = f"mean of {len(members)} models on {args.split}"
    rows = {found["model"]: found["metrics"] for found, _ in results}
    report(title, content, rows | {"mean": content["metrics"]}, "model", first.class_names)
    draw(directory, args.split, content, title, first.class_names, first.targets, scores)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Evaluate every directory, then their ensemble."""
    args = parse_args(argv)
    if args.resamples < 1:
        raise InputError(f"--resamples: expected 1 or more, found {args.resamples}")
    directories = result_dirs(args)
    members = [predict(directory, args) for directory in directories]
    results = [evaluate_member(d, m, args) for d, m in zip(directories, members)]
    if len(members) > 1:
        evaluate_mean(members, results, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
