#!/usr/bin/env python3
"""Measure what a linear One-vs-One classifier on frozen features reaches on the same images.

    python -m dev.linear_baseline --base_model tf_efficientnet_lite0 \\
        --weights tf_efficientnet_lite0_in1k.pth --dataset_path ./my_graded_photographs

scikit-learn's OneVsOneClassifier(LogisticRegression) on the pooled features of the pretrained
backbone. What fine-tuning adds is the difference to evaluate_ensemble.py. The regularisation is
chosen on val by balanced accuracy; test is only reported on.
"""

from common.cli import Parser, guarded

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.config import PixelOptions
from common.data.folders import scan_split
from common.flags import add_evaluation_flags
from common.metrics.classification import quadratic_weighted_kappa
from common.metrics.shares import accuracy, confusion_matrix
from common.models.backbones import build, preprocessing_for, resolve
from common.models.ovo import chunk_size, trunk_features
from common.pixels.pixel_cache import open_cache
from common.reporting.table import format_table
from common.system.device import select_device
from common.system.log import log

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--base_model", required=True)
    parser.add_argument("--weights", default="", help="(default: from the hub)")
    add_evaluation_flags(parser)
    return parser.parse_args(argv)


@torch.inference_mode()
def pooled_features(args: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each split's features (N, F) and labels (N,)."""
    spec = resolve(args.base_model)
    preprocessing = preprocessing_for(spec, PixelOptions())
    backbone = build(spec, preprocessing.img_size, True, args.weights, False, 0)
    device = select_device(args.device)
    stages = backbone.stages.to(device)
    result = {}
    for name in ("train", "val", "test"):
        split = scan_split(Path(args.dataset_path), name, 5, tuple(args.class_names))
        cache = open_cache(split, preprocessing, Path(args.cache_dir), args.num_workers)
        size = chunk_size(device)
        chunks = [np.arange(i, min(i + size, len(split))) for i in range(0, len(split), size)]
        rows = [
            trunk_features(stages, cache.read(c), preprocessing, device, "fp32") for c in chunks
        ]
        result[name] = (torch.cat(rows).cpu().numpy(), split.labels)
    return result


@guarded
def main(argv: list[str] | None = None) -> int:
    """Fit on train, choose on val, report on test."""
    args = parse_args(argv)
    features = pooled_features(args)
    candidates = []
    for strength in STRENGTHS:
        linear = LogisticRegression(C=strength, max_iter=5000, class_weight="balanced")
        model = make_pipeline(StandardScaler(), OneVsOneClassifier(linear))
        model.fit(*features["train"])
        score = balanced_accuracy_score(features["val"][1], model.predict(features["val"][0]))
        candidates.append((score, strength, model))
        log(f"C {strength:g}: balanced accuracy on val {score:.3f}")
    _, strength, model = max(candidates, key=lambda candidate: candidate[0])
    inputs, labels = features["test"]
    matrix = confusion_matrix(labels, model.predict(inputs), 5)
    values = [
        accuracy(matrix),
        balanced_accuracy_score(labels, model.predict(inputs)),
        quadratic_weighted_kappa(matrix),
    ]
    header = ["OvO logistic regression", "C", "accuracy", "balanced", "kappa"]
    row = [args.base_model, f"{strength:g}", *(f"{value:.3f}" for value in values)]
    print(format_table(header, [row]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
