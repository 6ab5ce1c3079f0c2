#!/usr/bin/env python3
"""Evaluate result directories on graded images, each alone and, if several, as an ensemble.

    python evaluate_ensemble.py --results_dirs ./*_5class_results \\
        --dataset_path ./my_graded_photographs --split test --output_dir ./super_ensemble_results

Writes metrics, predictions and figures into each directory's results/, those of the ensemble, the
gates and the report into --output_dir. Everything that is fitted is fitted on val.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from common import artifacts, evaluation, gates, judging, reporting
from common.artifacts import ResultDir, Run
from common.cli import (
    Parser,
    add_ensemble_flags,
    add_evaluation_flags,
    evaluation_directories,
    guarded,
)
from common.dataset import Split, scan_split
from common.evaluation import Sampling
from common.inference import Predictions, load_predictions, predict_directory, save_predictions
from common.judging import Grader, Judged
from common.plots import plot_grader
from common.report import write_report
from common.runtime import log, resolve_precision, select_device, write_json
from common.synthetic import synthetic_note
from common.verification import verify


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_ensemble_flags(parser)
    add_evaluation_flags(parser)
    return parser.parse_args(argv)


def list_split(run: Run, name: str, args: argparse.Namespace) -> Split:
    """List a split's images, graded as the model was trained."""
    names = tuple(args.class_names) or run.class_names
    return scan_split(Path(args.dataset_path), name, run.num_classes, names)


def predict(
    directory: ResultDir, place: ResultDir, split: Split, args: argparse.Namespace, again: str = ""
) -> Predictions:
    """Predict a split with one directory's classifiers, or take what `place` has stored of it.

    again: a precision to predict with anew, whatever is stored.
    """
    device = select_device(args.device)
    precision = resolve_precision(again or args.precision, args.use_amp, device)
    return predict_directory(
        directory, split, Path(args.cache_dir), args.num_workers, device, precision,
        None if again else place,
    )  # fmt: skip


def predict_val(
    directory: ResultDir, place: ResultDir, run: Run, found: Predictions, args: argparse.Namespace
) -> Predictions | None:
    """Predict the dataset's val, or take what is stored of the same checkpoints, if anything."""
    if args.split == "val":
        return found
    if (Path(args.dataset_path) / "val").is_dir():
        val = predict(directory, place, list_split(run, "val", args), args)
        judged = judging.judge("", val, None, args.vote, False)
        save_predictions(place.predictions("val"), val, *judged.grader, judged.vote)
        return val
    stored = load_predictions(directory.predictions("val"))
    same = stored is not None and stored.origin["checkpoints"] == found.origin["checkpoints"]
    return stored if same else None


def evaluate_member(
    directory: ResultDir,
    member: Judged,
    holdout: tuple[str, str],
    sampling: Sampling,
    args: argparse.Namespace,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate one model and write its results; returns its numbers and tables."""
    found = member.found
    content = {"model": found.model, "head": found.head, "split": args.split,
               "dataset_path": str(args.dataset_path), "vote": member.vote,
               "temperature": member.temperature,
               "synthetic": synthetic_note(found.ids)}  # fmt: skip
    if found.head == "ovo":
        content |= evaluation.evaluate_model(
            found.targets, found.pair_probabilities, found.pair_accuracies, found.num_classes,
            member.vote, sampling, member.pair_temperatures,
        )  # fmt: skip
    rows = dict(content.get("votes", {}))
    if found.head != "ovo" or args.calibrate:
        content |= evaluation.evaluate_classes(found.targets, *member.grader, sampling)
        name = f"{member.vote}, calibrated" if found.head == "ovo" else found.head
        rows[name] = content["metrics"]
    graders = {member.label: member.grader}
    content |= evaluation.restate_graders(found.targets, graders, sampling)
    content |= {"class_names": found.class_names, "cost": found.cost, "origin": found.origin}
    content["holdout"] = holdout
    save_predictions(directory.predictions(args.split), found, *member.grader, member.vote,
                     member.temperature)  # fmt: skip
    artifacts.write_metrics(directory.metrics(args.split), content)
    artifacts.write_table(directory.table(f"votes_{args.split}"), reporting.flat_rows(rows))
    title = f"{member.label} on {args.split}{content['synthetic']}"
    plot_grader(directory, args.split, found.targets, member.grader, found.class_names, title)
    return content, reporting.evaluation_tables(title, content, rows, "vote")


def evaluate_together(
    directory: ResultDir, members: list[Judged], results: list[dict[str, Any]],
    sampling: Sampling, args: argparse.Namespace,
) -> tuple[dict[str, Any], list[str], Grader]:  # fmt: skip
    """Evaluate plain mean and weighted ensemble beside the members, and write them."""
    first = members[0].found
    weights = judging.ensemble_weights(args.weights, members)
    plain, _ = judging.mix(members, np.full(len(members), 1 / len(members)), args.calibrate)
    final, temperature = judging.mix(members, weights, args.calibrate)
    ensembles = {"mean": plain}
    if np.ptp(weights) > 1e-12:
        ensembles[f"weighted ({' '.join(args.weights)})"] = final
    graders = {member.label: member.grader for member in members} | ensembles
    best, how = judging.best_single(members)
    content = {
        "model": "ensemble", "members": [member.label for member in members],
        "weights": weights.tolist(), "weighting": " ".join(args.weights), "split": args.split,
        "dataset_path": str(args.dataset_path), "vote": args.vote, "temperature": temperature,
        "synthetic": synthetic_note(first.ids),
        "best_single": f"{members[best].label} ({how})",
        "differences": evaluation.compare_to_best(
            first.targets, graders, members[best].label, sampling
        ),
        **evaluation.evaluate_classes(first.targets, *final, sampling),
        **evaluation.restate_graders(first.targets, graders, sampling),
        "class_names": first.class_names,
    }  # fmt: skip
    rows = {member.label: result["metrics"] for member, result in zip(members, results)}
    for name, grader in ensembles.items():
        rows[name] = evaluation.evaluate_classes(first.targets, *grader, sampling)["metrics"]
    content["graders"] = rows
    details = {key: content[key] for key in ("model", "members", "weights", "class_names", "vote",
                                           "temperature")}  # fmt: skip
    arrays = {"ids": first.ids, "targets": first.targets, "class_probabilities": final[0],
              "predictions": final[1]}  # fmt: skip
    artifacts.write_predictions(directory.predictions(args.split), arrays, details)
    artifacts.write_metrics(directory.metrics(args.split), content)
    artifacts.write_table(directory.table(f"graders_{args.split}"), reporting.flat_rows(rows))
    title = f"ensemble of {len(members)} models on {args.split}{content['synthetic']}"
    plot_grader(directory, args.split, first.targets, final, first.class_names, title)
    named = ", ".join(f"{m.label} {w:.3f}" for m, w in zip(members, weights))
    tables = reporting.evaluation_tables(title, content, rows, "model")
    return content, [*tables, f"weights ({' '.join(args.weights)}): {named}"], final


@guarded
def main(argv: list[str] | None = None) -> int:
    """Evaluate every directory, then their ensemble, then hold both against the gates."""
    args = parse_args(argv)
    directories = evaluation_directories(args)
    runs = [artifacts.find_run(directory) for directory in directories]
    judging.check_weights(args.weights, len(runs))
    num_classes = runs[0].num_classes
    mix = evaluation.parse_prevalence(args.prevalence, num_classes) if args.prevalence else None
    splits = [list_split(run, args.split, args) for run in runs]
    places = [judging.place_of(*item, args.dataset_path, args.output_dir)
              for item in zip(directories, runs)]  # fmt: skip
    ensemble = ResultDir(args.output_dir or Path("super_ensemble_results"))
    if args.verify:
        again = [functools.partial(predict, *item, args)
                 for item in zip(directories, places, splits)]  # fmt: skip
        return 1 - verify(
            [place.predictions(args.split) for place in places],
            again,
            judging.labels(runs, directories),
            ensemble.predictions(args.split),
        )
    groups = evaluation.patient_groups(splits[0].ids, args.patient_regex)
    sampling = Sampling(args.resamples, args.seed, groups, mix)
    found = [predict(*item, args) for item in zip(directories, places, splits)]
    judging.require_same_images(found)
    vals = [predict_val(*item, args) for item in zip(directories, places, runs, found)]
    members = [
        judging.judge(*item, args.vote, args.calibrate)
        for item in zip(judging.labels(runs, directories), found, vals)
    ]
    if args.calibrate:
        judging.require_val(members, "--calibrate")
    holdout = judging.check_holdout(splits[0], Path(args.dataset_path), runs)
    evaluated = [evaluate_member(*item, holdout, sampling, args) for item in zip(places, members)]
    results = [content for content, _ in evaluated]
    details, tables = [], [table for _, own in evaluated for table in own]
    output, final, together = places[0], members[0].grader, None
    if len(members) > 1:
        output, details = ensemble, tables
        together, tables, final = evaluate_together(output, members, results, sampling, args)
    print("\n" + "\n\n".join([*details, *tables]) + "\n", flush=True)
    checked = gates.check_gates(
        [judging.evidence(m, content["metrics"]) for m, content in zip(members, results)],
        together and together["metrics"], num_classes, holdout,
    )  # fmt: skip
    gate_table = reporting.gates_table(checked)
    tested = {key: (together or results[0])[key] for key in ("split", "dataset_path", "synthetic")}
    write_json(output.validation, tested | gates.validation_content(checked))
    write_report(output, splits[0], together or results[0], tables, details, checked,
                 members[0].found, final, gate_table)  # fmt: skip
    print(f"{gate_table}\n\ngrade: {gates.grade(checked)} (by the rule in validation.json; "
          "thresholds on these images, no claim of regulatory clearance)")  # fmt: skip
    log(f"wrote {output.metrics(args.split)}, {output.validation.name} and {output.report}")
    return 1 if args.require and any(gate.status != gates.PASS for gate in checked) else 0


if __name__ == "__main__":
    sys.exit(main())
