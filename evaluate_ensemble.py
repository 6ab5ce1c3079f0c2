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

from common.audit.leakage import check_holdout
from common.cli import (
    Parser,
    add_ensemble_flags,
    add_evaluation_flags,
    evaluation_directories,
    guarded,
)
from common.data.copies import patient_groups
from common.data.folders import Split, scan_split
from common.data.synthetic import synthetic_note
from common.evaluation import gates
from common.evaluation.agreement import measure_consistency
from common.evaluation.comparison import compare_to_best
from common.evaluation.evaluate import evaluate
from common.evaluation.gates import gate_input
from common.evaluation.intervals import BootstrapConfig
from common.evaluation.prevalence import parse_prevalence, restate_models
from common.prediction.ensemble import (
    ModelResult,
    apply_vote,
    average_models,
    best_single,
    check_weights,
    combine_by_every_vote,
    ensemble_weights,
    labels,
    output_dir_for,
    require_val,
)
from common.prediction.predict import predict_directory
from common.prediction.predictions import (
    PairPredictions,
    load_predictions,
    require_same_images,
    save_predictions,
)
from common.prediction.verification import verify
from common.prediction.voting import ClassPredictions
from common.reporting import tables
from common.reporting.figures import plot_predictions
from common.reporting.report import Report, write_report
from common.result_dir import (
    ResultDir,
    Run,
    find_run,
    write_metrics,
    write_predictions,
    write_table,
)
from common.system.device import resolve_precision, select_device
from common.system.files import write_json
from common.system.log import log


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
) -> PairPredictions:
    """Predict a split with one directory's classifiers, or take what `place` has stored of it.

    again: a precision to predict with anew, whatever is stored.
    """
    device = select_device(args.device)
    precision = resolve_precision(again or args.precision, args.use_amp, device)
    return predict_directory(
        directory,
        split,
        Path(args.cache_dir),
        args.num_workers,
        device,
        precision,
        None if again else place,
    )


def predict_val(
    directory: ResultDir,
    place: ResultDir,
    run: Run,
    found: PairPredictions,
    args: argparse.Namespace,
) -> PairPredictions | None:
    """Predict the dataset's val, or take what is stored of the same checkpoints, if anything."""
    if args.split == "val":
        return found
    if (Path(args.dataset_path) / "val").is_dir():
        val = predict(directory, place, list_split(run, "val", args), args)
        judged = apply_vote("", val, None, args.vote, False)
        save_predictions(place.predictions("val"), val, judged.classes, judged.vote)
        return val
    stored = load_predictions(directory.predictions("val"))
    same = stored is not None and stored.origin["checkpoints"] == found.origin["checkpoints"]
    return stored if same else None


def evaluate_member(
    directory: ResultDir,
    member: ModelResult,
    holdout: tuple[str, str],
    sampling: BootstrapConfig,
    mix: np.ndarray | None,
    args: argparse.Namespace,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate one model and write its results; returns its numbers and tables."""
    found = member.found
    content = {
        "model": found.model,
        "head": found.head,
        "split": args.split,
        "dataset_path": str(args.dataset_path),
        "vote": member.vote,
        "temperature": member.temperature,
        "synthetic": synthetic_note(found.ids),
    }
    rows = {}
    if found.head == "ovo":
        voted = combine_by_every_vote(member)
        votes = {n: evaluate(found.targets, classes, sampling) for n, classes in voted.items()}
        rows = {name: evaluation.metrics for name, evaluation in votes.items()}
        content |= votes[member.vote].to_json()
        content["votes"] = dict(rows)
        content["consistency"] = measure_consistency(
            found.targets,
            found.pair_probabilities,
            voted[member.vote].predicted,
            found.num_classes,
        )
    if found.head != "ovo" or args.calibrate:
        content |= evaluate(found.targets, member.classes, sampling).to_json()
        name = f"{member.vote}, calibrated" if found.head == "ovo" else found.head
        rows[name] = content["metrics"]
    if mix is not None:
        content |= vars(
            restate_models(found.targets, {member.label: member.classes}, mix, sampling)
        )
    content |= {"class_names": found.class_names, "cost": found.cost, "origin": found.origin}
    content["holdout"] = holdout
    save_predictions(
        directory.predictions(args.split), found, member.classes, member.vote, member.temperature
    )
    write_metrics(directory.metrics(args.split), content)
    write_table(directory.table(f"votes_{args.split}"), tables.flat_rows(rows))
    title = f"{member.label} on {args.split}{content['synthetic']}"
    plot_predictions(directory, args.split, found.targets, member.classes, found.class_names, title)
    return content, tables.evaluation_tables(title, content, rows, "vote")


def evaluate_together(
    directory: ResultDir,
    members: list[ModelResult],
    results: list[dict[str, Any]],
    sampling: BootstrapConfig,
    mix: np.ndarray | None,
    args: argparse.Namespace,
) -> tuple[dict[str, Any], list[str], ClassPredictions]:
    """Evaluate plain mean and weighted ensemble beside the members, and write them."""
    first = members[0].found
    weights = ensemble_weights(args.weights, members)
    plain, _ = average_models(members, np.full(len(members), 1 / len(members)), args.calibrate)
    final, temperature = average_models(members, weights, args.calibrate)
    ensembles = {"mean": plain}
    if np.ptp(weights) > 1e-12:
        ensembles[f"weighted ({' '.join(args.weights)})"] = final
    graders = {member.label: member.classes for member in members} | ensembles
    best, how = best_single(members)
    content = {
        "model": "ensemble",
        "members": [member.label for member in members],
        "weights": weights.tolist(),
        "weighting": " ".join(args.weights),
        "split": args.split,
        "dataset_path": str(args.dataset_path),
        "vote": args.vote,
        "temperature": temperature,
        "synthetic": synthetic_note(first.ids),
        "best_single": f"{members[best].label} ({how})",
        "differences": compare_to_best(first.targets, graders, members[best].label, sampling),
        **evaluate(first.targets, final, sampling).to_json(),
        **(vars(restate_models(first.targets, graders, mix, sampling)) if mix is not None else {}),
        "class_names": first.class_names,
    }
    rows = {member.label: result["metrics"] for member, result in zip(members, results)}
    for name, grader in ensembles.items():
        rows[name] = evaluate(first.targets, grader, sampling).metrics
    content["graders"] = rows
    details = {
        key: content[key]
        for key in ("model", "members", "weights", "class_names", "vote", "temperature")
    }
    arrays = {
        "ids": first.ids,
        "targets": first.targets,
        "class_probabilities": final.probabilities,
        "predictions": final.predicted,
    }
    write_predictions(directory.predictions(args.split), arrays, details)
    different = {name: each.to_json() for name, each in content["differences"].items()}
    write_metrics(directory.metrics(args.split), {**content, "differences": different})
    write_table(directory.table(f"graders_{args.split}"), tables.flat_rows(rows))
    title = f"ensemble of {len(members)} models on {args.split}{content['synthetic']}"
    plot_predictions(directory, args.split, first.targets, final, first.class_names, title)
    named = ", ".join(f"{m.label} {w:.3f}" for m, w in zip(members, weights))
    texts = tables.evaluation_tables(title, content, rows, "model")
    return content, [*texts, f"weights ({' '.join(args.weights)}): {named}"], final


@guarded
def main(argv: list[str] | None = None) -> int:
    """Evaluate every directory, then their ensemble, then hold both against the gates."""
    args = parse_args(argv)
    directories = evaluation_directories(args)
    runs = [find_run(directory) for directory in directories]
    check_weights(args.weights, len(runs))
    num_classes = runs[0].num_classes
    mix = parse_prevalence(args.prevalence, num_classes) if args.prevalence else None
    splits = [list_split(run, args.split, args) for run in runs]
    places = [
        output_dir_for(*item, args.dataset_path, args.output_dir) for item in zip(directories, runs)
    ]
    ensemble = ResultDir(args.output_dir or Path("super_ensemble_results"))
    if args.verify:
        again = [
            functools.partial(predict, *item, args) for item in zip(directories, places, splits)
        ]
        return 1 - verify(
            [place.predictions(args.split) for place in places],
            again,
            labels(runs, directories),
            ensemble.predictions(args.split),
        )
    groups = patient_groups(splits[0].ids, args.patient_regex)
    sampling = BootstrapConfig(args.resamples, args.seed, groups)
    found = [predict(*item, args) for item in zip(directories, places, splits)]
    require_same_images(found)
    vals = [predict_val(*item, args) for item in zip(directories, places, runs, found)]
    members = [
        apply_vote(*item, args.vote, args.calibrate)
        for item in zip(labels(runs, directories), found, vals)
    ]
    if args.calibrate:
        require_val(members, "--calibrate")
    holdout = check_holdout(splits[0], Path(args.dataset_path), runs)
    evaluated = [
        evaluate_member(*item, holdout, sampling, mix, args) for item in zip(places, members)
    ]
    results = [content for content, _ in evaluated]
    details, texts = [], [table for _, own in evaluated for table in own]
    output, final, together = places[0], members[0].classes, None
    if len(members) > 1:
        output, details = ensemble, texts
        together, texts, final = evaluate_together(output, members, results, sampling, mix, args)
    print("\n" + "\n\n".join([*details, *texts]) + "\n", flush=True)
    checked = gates.check_gates(
        [gate_input(m, content["metrics"]) for m, content in zip(members, results)],
        together and together["metrics"],
        num_classes,
        holdout,
    )
    gate_table = tables.gates_table(checked)
    tested = {key: (together or results[0])[key] for key in ("split", "dataset_path", "synthetic")}
    write_json(output.validation, tested | gates.validation_content(checked))
    content = together or results[0]
    report = Report(
        models=content.get("members", [content["model"]]),
        dataset_path=str(args.dataset_path),
        split=splits[0],
        class_names=content["class_names"],
        vote=content["vote"],
        bootstrap_units=content["bootstrap"]["units"],
        predictions=final,
        gates=checked,
        tables=texts,
        member_tables=details,
    )
    write_report(output, report)
    print(
        f"{gate_table}\n\ngrade: {gates.rating(checked)} (by the rule in validation.json; "
        "thresholds on these images, no claim of regulatory clearance)"
    )
    log(f"wrote {output.metrics(args.split)}, {output.validation.name} and {output.report}")
    return 1 if args.require and any(gate.status != gates.PASS for gate in checked) else 0


if __name__ == "__main__":
    sys.exit(main())
