#!/usr/bin/env python3
"""Compare predictions under bf16 with those under fp32, on the same images and classifiers.

    python -m dev.bf16_vs_fp32 --results_dirs ./*_5class_results \\
        --dataset_path ./my_graded_photographs

Reports how often both choose the same grade, and the largest differences of AUC and probability.
"""

from common.cli import Parser, guarded

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.speed import report, results
from benchmarks.speed.results import PrecisionDifference, PrecisionSection
from common.data.folders import scan_split
from common.listing.split_folders import SPLITS
from common.metrics.classification import binary_metrics, classification_metrics
from common.pairs import class_pairs, pair_targets
from common.pixel_store.pixel_cache import open_cache
from common.prediction.classes import SetMatcher
from common.prediction.labels import label_runs
from common.prediction.voting import combine_pairs
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--results_dirs", nargs="+", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--data_name", default="", help="what the images are, for RESULTS.md")
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    parser.add_argument("--dataset_path", type=Path, required=True)
    parser.add_argument("--cache_dir", type=Path, default=Path("cache"))
    parser.add_argument("--num_workers", type=int, default=4, help="decoding threads (default 4)")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(argv)


def class_aucs(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return each class's AUC against the rest (K,)."""
    measured = classification_metrics(targets, probabilities, probabilities.argmax(1))
    return np.array([measured[f"auc_{k}"] for k in range(probabilities.shape[1])])


def pair_aucs(targets: np.ndarray, probabilities: np.ndarray, num_classes: int) -> np.ndarray:
    """Return each pair's AUC on the images of its classes (P,)."""
    found = []
    for column, pair in enumerate(class_pairs(num_classes)):
        own = np.isin(targets, pair)
        measured = binary_metrics(probabilities[own, column], pair_targets(targets[own], pair))
        found.append(measured.auc)
    return np.array(found)


def largest(differences: np.ndarray) -> float:
    """Return the largest absolute difference that is defined."""
    known = np.abs(differences)[np.isfinite(differences)]
    return float(known.max()) if len(known) else float("nan")


def compare(run: Run, args: argparse.Namespace) -> PrecisionDifference:
    """Predict with both precisions and measure the differences; NaN where no AUC is defined."""
    from common.system.device import select_device
    from common.trained_networks.loading import load_model
    from common.trained_networks.outputs import pair_probabilities
    from common.trained_networks.running import predict_logits

    split = scan_split(args.dataset_path, args.split, matcher=SetMatcher(run.names))
    member, device = load_model(run), select_device(args.device)
    cache = open_cache(split, member.preprocessing, args.cache_dir, args.num_workers)
    pairs, classes, chosen = [], [], []
    for precision in ("fp32", "bf16"):
        logits = predict_logits(member, cache, device, precision)
        pairs.append(pair_probabilities(logits, member.head))
        found = combine_pairs(pairs[-1], run.num_classes)
        classes.append(found.probabilities)
        chosen.append(found.predicted)
    by_class = [class_aucs(split.labels, found) for found in classes]
    by_pair = [pair_aucs(split.labels, found, run.num_classes) for found in pairs]
    return PrecisionDifference(
        images=len(split),
        agreement=float((chosen[0] == chosen[1]).mean()),
        auc_class=largest(by_class[0] - by_class[1]),
        auc_pair=largest(by_pair[0] - by_pair[1]),
        probability=float(np.abs(pairs[0] - pairs[1]).max()),
    )


@guarded
def main(argv: list[str] | None = None) -> int:
    """Compare every directory and write the results."""
    args = parse_args(argv)
    from common.system.device import select_device

    results.load(args.output_dir)
    runs = [find_run(ResultDir(path)) for path in args.results_dirs]
    section = PrecisionSection(
        command=f"python -m dev.bf16_vs_fp32 --device {select_device(args.device).type} "
        f"--split {args.split} --results_dirs ... --dataset_path ...",
        data=args.data_name or f"{args.split} of {args.dataset_path.name}",
        models={name: compare(run, args) for name, run in zip(label_runs(runs), runs)},
    )
    found = results.store(args.output_dir, results.PRECISION, section)
    print(report.write(args.output_dir, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
