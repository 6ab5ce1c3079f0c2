#!/usr/bin/env python3
"""Evaluate result directories on graded images, each alone and, if several, as an ensemble.

    python evaluate_ensemble.py --results_dirs ./*_5class_results \\
        --dataset_path ./my_graded_photographs --split test --output_dir ./super_ensemble_results

Writes metrics, predictions, figures and a model card into each directory, those of the ensemble,
the gates and the report into --output_dir. Everything that is fitted is fitted on cal or val.
"""

from common.cli import Parser, guarded, rare_collections

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.data.folders import Dataset, scan_dataset
from common.data.metadata import read_metadata
from common.data.patients import recognise_eyes, recognise_patients
from common.data.synthetic import synthetic_note
from common.evaluation.gates import all_pass, validation_content
from common.evaluation.independence import HoldoutFindings
from common.evaluation.outcome import Outcome, evaluate_model, evaluate_together, with_overlaps
from common.evaluation.questions import Asked, ask
from common.evaluation.setting import Setting
from common.evaluation.verification import Recomputable, verify
from common.evaluation_steps.keeping import keep_references, store_answers, store_graders
from common.evaluation_steps.models import (
    Model,
    leave_out_unreadable,
    require_one_dataset,
    require_own_place,
)
from common.evaluation_steps.predicting import (
    grade_altered,
    predict_for_fitting,
    predict_models,
    predict_shares,
    session_folder,
)
from common.evaluation_steps.results import (
    check_all,
    draw_all,
    explain_worst,
    older_reports,
    print_results,
    report_on,
    write_all,
)
from common.fitting.calibration import WEIGHTS
from common.fitting.ensemble import apply_vote, check_weights, require_fitting
from common.fitting.sources import Trained, find_training, likely_split, plan_fitting
from common.fitting.threshold import parse_rule
from common.flags.evaluation import add_ensemble_flags, add_evaluation_flags
from common.flags.finding import find_runs
from common.grading.earlier_evaluations import with_earlier_rules
from common.grading.finding import DEFAULT_ENSEMBLE
from common.in_force import switch_off
from common.metrics.grade_mix import GradeMix, parse_prevalence
from common.metrics.intervals import BootstrapConfig
from common.prediction.alterations import chosen_alterations
from common.prediction.classes import SetMatcher, describe_classes, require_same_classes
from common.prediction.labels import label_runs, output_dir_for
from common.prediction.predictions import Origin, PairPredictions
from common.reporting import tables
from common.result_dir.paths import ResultDir
from common.result_dir.run import unfinished_text
from common.screening.patients import People
from common.sharing.launcher import find_place
from common.sharing.session import Session, clear_away, follow, lead
from common.system.errors import InputError
from common.system.files import write_json
from common.system.log import log, said_once
from common.system.threads import allocate_in_one_heap, require_threads, use_threads

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    from common.prediction.predict import PredictionConfig


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_ensemble_flags(parser)
    add_evaluation_flags(parser)
    args = parser.parse_args(argv)
    if not args.use_amp and switch_off("use_amp", vars(args)):
        raise InputError(
            f"--use_amp false has no effect with --precision {args.precision}; leave out one of "
            "the two"
        )
    return args


def list_models(args: argparse.Namespace) -> list[Model]:
    """Find the trained models and list the images that each is evaluated on."""
    runs = find_runs(args.results_dirs, args.base_models, args.output_dir, args.num_classes)
    check_weights(args.weights, len(runs))
    require_same_classes([(str(run.directory.root), run.names) for run in runs])
    models: list[Model] = []
    datasets = {names: list_images(names, args) for names in {run.names for run in runs}}
    for run, label in zip(runs, label_runs(runs)):
        dataset = datasets[run.names]
        output = output_dir_for(run, dataset, args.output_dir)
        models.append(Model(run, label, output, dataset, dataset.split(args.split)))
    ensemble = args.output_dir or DEFAULT_ENSEMBLE
    require_own_place(models, ensemble)
    if not args.verify:
        require_one_dataset(models, ensemble, Path(args.dataset_path))
    first = models[0]
    for line in [*first.dataset.remarks(), *describe_classes(first.run, first.split)]:
        log(line)
    if (
        args.results_dirs
        and args.output_dir
        and len(models) == 1
        and first.output == runs[0].directory
    ):
        log(
            f"note: results on the model's own dataset go into {first.output.root}, not into "
            "--output_dir, which is for ensembles and other datasets"
        )
    return models


def list_images(names: tuple[str, ...], args: argparse.Namespace) -> Dataset:
    """List the images of the dataset, each with the class of a model that its folder means."""
    matcher = SetMatcher(names, tuple(args.class_names), tuple(args.class_map))
    return scan_dataset(Path(args.dataset_path), matcher=matcher)


def build_setting(
    models: list[Model], skipped: dict[str, list[str]], args: argparse.Namespace
) -> Setting:
    """Decide how results are measured, before anything takes time."""
    images = models[0].split
    metadata = read_metadata(Path(args.dataset_path))
    for line in metadata.remarks if metadata else ():
        log(line)

    def patients_of(ids: Sequence[str]) -> np.ndarray | None:
        return recognise_patients(ids, args.patient_regex, metadata).clusters

    patients = recognise_patients(images.ids, args.patient_regex, metadata)
    return Setting(
        split=args.split,
        dataset_path=str(args.dataset_path),
        synthetic=synthetic_note(images.ids),
        vote=args.vote,
        weights=tuple(args.weights),
        calibrate=args.calibrate != "off",
        bootstrap=BootstrapConfig(args.resamples, args.seed, patients.clusters, patients.evidence),
        patients_of=patients_of,
        people=People(
            patients.groups,
            patients.known,
            recognise_eyes(images.ids, metadata),
            patients.evidence,
        ),
        grade_mix=read_grade_mix(models[0], args) if args.prevalence else None,
        columns=metadata.others(images.ids) if metadata else {},
        skipped=skipped,
        metadata=metadata,
        unfinished=tuple(
            unfinished_text(model.run, count) for model in models if (count := model.run.unfinished)
        ),
    )


def read_grade_mix(model: Model, args: argparse.Namespace) -> GradeMix:
    """Read the grade mix of a population, in the classes that the images are graded in."""
    names = model.split.folders.classes.names if model.split.folders else model.run.names
    numbered = names == tuple(map(str, range(len(names))))
    mix = parse_prevalence(
        args.prevalence, len(names), args.prevalence_column, () if numbered else names
    )
    log(f"--prevalence: grade mix of {mix.source}")
    return mix


def look_for_training_images(
    models: list[Model], trained: list[Trained], setting: Setting, args: argparse.Namespace
) -> HoldoutFindings:
    """See whether the images are independent of the training; opens those that are new to it.

    Looks at the images that things are fitted on, too.
    """
    from common.audit.holdout import HoldoutConfig, check_holdout

    how = HoldoutConfig(
        patient_regex=args.patient_regex,
        pictures=args.holdout_check == "pictures",
        cache_dir=Path(args.cache_dir),
        num_workers=args.num_workers,
    )
    first = models[0]
    return check_holdout(first.split, first.dataset, trained, setting.metadata, how)


def choose_arithmetic(
    args: argparse.Namespace, precision: str, session: Session | None = None
) -> "PredictionConfig":
    """Choose device, precision and views; session: with processes that predict a part each."""
    from common.prediction.predict import PredictionConfig
    from common.system.device import resolve_precision, select_device

    device = select_device(args.device, session.place.local_rank if session else 0)
    chosen = resolve_precision(precision, args.use_amp, device)
    cache_dir = Path(args.cache_dir)
    return PredictionConfig(cache_dir, args.num_workers, device, chosen, args.tta, session)


def derive_classes(
    models: list[Model],
    trained: list[Trained],
    setting: Setting,
    config: "PredictionConfig",
    args: argparse.Namespace,
) -> Setting:
    """Derive the classes from what the classifiers say, with all that is fitted for it.

    Returns the setting with what is not known of the images that things are fitted on.
    """
    first, learned, several = models[0], setting.holdout.learned(), len(models) > 1
    plan = plan_fitting(first.dataset, first.split, trained, learned, insists(args, several))
    if plan.split != likely_split(first.dataset, first.split):
        config = replace(config, session=None)  # others do not know of these images
    fitted_on = predict_for_fitting(models, trained, plan, config, args.vote, args.referable_from)
    for model, images, reason in zip(models, fitted_on.images, fitted_on.reasons):
        calibrate = args.calibrate != "off"
        model.result = apply_vote(model.label, model.pairs, args.vote, images, calibrate, reason)
    if args.calibrate == "on":
        require_fitting([model.result for model in models], "--calibrate")
    if weights_are_fitted(args, several):
        require_fitting([model.result for model in models], f"--weights {args.weights[0]}")
    return replace(setting, unknown=plan.remarks)


def insists(args: argparse.Namespace, several: bool) -> bool:
    """Tell whether something was asked for that cannot be had without images to fit it on."""
    return args.calibrate == "on" or weights_are_fitted(args, several)


def weights_are_fitted(args: argparse.Namespace, several: bool) -> bool:
    """Tell whether the weights of several models are to be fitted."""
    return several and args.weights[0] in WEIGHTS and args.weights != ["uniform"]


def what_is_asked(args: argparse.Namespace) -> Asked:
    """Read what a screening programme asks; a mistake is found before anything takes time."""
    rules = tuple(dict.fromkeys(map(parse_rule, args.operating_point)))
    return Asked(rules, args.patient_rule)


def measure(models: list[Model], setting: Setting, ensemble_dir: ResultDir) -> Outcome:
    """Measure every model, then their ensemble if there are several; returns the final one."""
    for model in models:
        model.outcome = evaluate_model(model.result, model.output, setting)
        log(f"{model.label}: {'; '.join(tables.calibration_notes(model.outcome.findings))}")
    final = models[0].outcome
    if len(models) > 1:
        results, alone = [m.result for m in models], [m.outcome for m in models]
        final = evaluate_together(results, alone, setting, ensemble_dir)
        log(f"ensemble: {'; '.join([*tables.calibration_notes(final.findings), *final.remarks])}")
    return with_overlaps(final, setting)


def verify_models(models: list[Model], ensemble: ResultDir, args: argparse.Namespace) -> bool:
    """Compute what is stored of all models again; returns whether it is the same."""
    from common.prediction.predict import predict_run

    def predict_again(model: Model, origin: Origin) -> PairPredictions:
        if args.tta not in ("", origin.tta):
            raise InputError(
                f"--tta {args.tta}: what is stored of {model.label} was predicted with --tta "
                f"{origin.tta}; leave the flag out to verify that, or evaluate again"
            )
        config = replace(choose_arithmetic(args, origin.precision), tta=origin.tta)
        return predict_run(model.run, model.split, config)

    stored = []
    for model in models:
        path = model.output.predictions(args.split)
        stored.append(Recomputable(model.label, path, partial(predict_again, model)))
    return verify(stored, ensemble.predictions(args.split))


@partial(guarded, shares=True)
@rare_collections()
def main(argv: list[str] | None = None) -> int:
    """Evaluate every model, then their ensemble, then compare both with the gates."""
    args, place = parse_args(argv), find_place()
    require_threads(args.threads)
    allocate_in_one_heap()
    if args.verify and not place.leads:
        return 0
    asked = what_is_asked(args)
    alterations = () if args.robustness is None else chosen_alterations(args.robustness)
    with said_once(place.leads):
        models = list_models(args)
    use_threads(args.threads, place.leads)
    ensemble_dir, skipped = ResultDir(args.output_dir or DEFAULT_ENSEMBLE), {}
    if args.skip_unreadable:
        skipped = leave_out_unreadable(models, Path(args.cache_dir), args.num_workers)
    if args.verify:
        return 0 if verify_models(models, ensemble_dir, args) else 1
    if not place.leads:
        with follow(session_folder(models), place) as session:
            predict_shares(models, choose_arithmetic(args, args.precision, session))
        return 0

    setting = build_setting(models, skipped, args)
    trained = find_training([(model.label, model.run) for model in models], models[0].dataset)
    if place.alone:
        clear_away(session_folder(models))
    with nullcontext() if place.alone else lead(session_folder(models), place) as session:
        config = choose_arithmetic(args, args.precision, session)
        # first, so that a bad checkpoint is named at once
        predict_models(models, config, args.referable_from)
        holdout = look_for_training_images(models, trained, setting, args)
        setting = replace(setting, holdout=holdout)
        setting = derive_classes(models, trained, setting, config, args)
    config = replace(config, session=None)  # from here on this process works alone
    final = measure(models, setting, ensemble_dir)

    altered = grade_altered(models, final, alterations, config) if alterations else {}
    asked = replace(
        asked, people=setting.people, grade_mix=setting.grade_mix, columns=setting.columns
    )
    of_before = with_earlier_rules(asked, final, [m.checkpoints for m in models], False)
    answers = ask(final.grader, replace(of_before, altered=altered))
    store_answers(answers, final.output, models[0].split)
    remarks = store_graders(models, final, asked, setting.dataset_path)
    remarks += keep_references(models, trained, config, args.reference_pictures)
    draw_all(models, final, answers, args.split, args.figure_format)

    gates, output = check_all(models, final, setting), final.output
    validation, checklist = output.validation(args.split), output.checklist(args.split)
    write_json(validation, setting.describe() | validation_content(gates))
    report = report_on(models, final, answers, gates, setting)
    mistakes = explain_worst(models, final, args.evidence_maps, config)
    write_all(models, trained, final, mistakes, report, asked, setting)
    print_results(report, output, args.verbose)
    names = f"{validation.name}, {checklist.name}, {output.model_card.name}"
    log(f"wrote {output.metrics(args.split)}, {names} and {output.report(args.split)}")
    for line in [*remarks, *older_reports(models, output, args.split)]:
        log(line)
    return 1 if args.require and not all_pass(gates) else 0


if __name__ == "__main__":
    sys.exit(main())
