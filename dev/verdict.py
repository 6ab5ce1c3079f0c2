#!/usr/bin/env python3
"""Say in three lines what an ensemble has reached, whether to trust it, and what to do next.

    python -m dev.verdict ./quickstart_results/ensemble

The last step of quickstart.sh. All figures are read from what evaluate_ensemble.py has stored.
"""

from common.cli import Parser, guarded

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.folders import scan_split
from common.metrics.intervals import Interval
from common.reporting.table import Column, wrapped
from common.result_dir.paths import ResultDir
from common.system.files import read_json

_NUMBER, _SHARE = Column("", decimals=2), Column("", kind="percent", decimals=0)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("ensemble", type=Path, help="its --output_dir of evaluate_ensemble.py")
    return parser.parse_args(argv)


def _interval(stored: Mapping[str, float | None]) -> Interval:
    """Read an interval; what is undefined is NaN."""
    values = (stored[name] for name in ("value", "low", "high"))
    return Interval(*(math.nan if value is None else value for value in values))


def reached(content: Mapping[str, Any]) -> str:
    """Say what the ensemble and its members reach, and what guessing would."""
    metrics = {name: _interval(stored) for name, stored in content["metrics"].items()}
    counts = content["images_per_grade"]
    guessing = max(counts) / sum(counts)
    better = "better than" if metrics["accuracy"].low > guessing else "not surely better than"
    alone = [_interval(content["graders"][name]["kappa"]).value for name in content["members"]]
    kappa, auc = (_NUMBER.show(metrics[name]) for name in ("kappa", "referable_auc"))
    return (
        f"kappa {kappa} (its members {_words(alone)}), AUC for referable DR {auc}, accuracy "
        f"{_SHARE.show(metrics['accuracy'])}, {better} always naming the commonest grade "
        f"({_SHARE.show(guessing)}); on {content['images']} photographs that it had not seen"
    )


def _words(values: Sequence[float]) -> str:
    return " and ".join(str(_NUMBER.show(value)) for value in values)


def trusted(content: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], learned: int) -> str:
    """Say why not to trust it."""
    passed = sum(gate["status"] == "PASS" for gate in gates)
    matrix, titles = content["confusion_matrix"], content["class_names"]
    images = [sum(row) for row in matrix]
    grades = [k for k in range(len(matrix)) if images[k]]
    worst = min(grades, key=lambda k: matrix[k][k] / images[k])
    return (
        f"No: it has learned from {learned} photographs; {passed} of {len(gates)} thresholds of "
        f"the guide are met; of grade {titles[worst]} it recognises {matrix[worst][worst]} of "
        f"{images[worst]}"
    )


def verdict(
    content: Mapping[str, Any], gates: Sequence[Mapping[str, Any]], learned: int
) -> list[str]:
    """Write the three lines.

    content: of metrics_test.json; gates: of validation.json; learned: number of training images.
    """
    return [
        f"What it reaches: {reached(content)}.",
        f"Can it be trusted? {trusted(content, gates, learned)}.",
        "What to do next: the same with your own graded photographs, thousands rather than "
        f"{learned}: prepare_dataset.py audit, then ./train_coatnet.sh (README.md, step 1); "
        "docs/using.md says how a trained model grades and explains new ones.",
    ]


@guarded
def main(argv: list[str] | None = None) -> int:
    directory = ResultDir(parse_args(argv).ensemble)
    content, validation = map(read_json, (directory.metrics("test"), directory.validation("test")))
    split = scan_split(Path(content["dataset_path"]), "train", len(content["class_names"]))
    for line in verdict(content, validation["gates"], len(split.images)):
        print(wrapped(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
