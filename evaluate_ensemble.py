#!/usr/bin/env python3
"""Evaluate result directories on graded images, each alone and, if several, as an ensemble.

    python evaluate_ensemble.py --results_dirs ./*_5class_results \\
        --dataset_path ./my_graded_photographs --split test --output_dir ./super_ensemble_results

Writes metrics, predictions, figures and a model card into each directory, those of the ensemble,
the gates and the report into --output_dir. Everything that is fitted is fitted on cal or val.
"""

from common.cli import Parser, guarded

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.data.folders import Dataset, Split, scan_dataset
from common.data.metadata import read_metadata
from common.data.patients import recognise_eyes, recognise_patients
from common.data.synthetic import synthetic_note
from common.evaluation.gates import (
    Gate,
    all_pass,
    check_gates,
    gate_input,
    validation_content,
)
from common.evaluation.independence import HoldoutFindings
from common.evaluation.outcome import Outcome, evaluate_model, evaluate_together, with_overlaps
from common.evaluation.questions import Answers, Asked, ask
from common.evaluation.setting import Setting
from common.evaluation.verification import Recomputable, verify
from common.fitting.calibration import WEIGHTS
from common.fitting.collect import Collected, Member, collect, say_fitting
from common.fitting.ensemble import (
    ModelResult,
    apply_vote,
    check_weights,
    grade_again,
    require_fitting,
    rule_of,
)
from common.fitting.sources import Plan, Trained, find_training, likely_split, plan_fitting
from common.fitting.threshold import ARGMAX, parse_rule
from common.flags import add_ensemble_flags, add_evaluation_flags, find_runs
from common.grading.finding import DEFAULT_ENSEMBLE, is_of
from common.grading.stored_grader import earlier_grader, grader_to_store, keep_grader, rules_of
from common.in_force import TrainedWith, switch_off
from common.listing.split_folders import CHOSEN_ON
from common.listing.walking import count_of
from common.metrics.grade_mix import GradeMix, parse_prevalence
from common.metrics.intervals import BootstrapConfig
from common.model_card.card import QUESTIONS, card_of_evaluation
from common.model_card.card_file import write_card
from common.model_card.sections import what_is_known
from common.pixel_store.pixel_cache import keep_readable
from common.prediction.alterations import Alteration, chosen_alterations
from common.prediction.classes import SetMatcher, describe_classes, require_same_classes
from common.prediction.labels import label_runs, output_dir_for, views_text
from common.prediction.predictions import (
    Origin,
    PairPredictions,
    load_predictions,
    require_same_images,
    save_predictions,
)
from common.prediction.voting import ClassPredictions
from common.reporting import tables
from common.reporting.checklist import write_checklist
from common.reporting.contact_sheets import label_error_sheet
from common.reporting.report import worst_mistakes, write_report
from common.reporting.screening_tables import answers_tables
from common.reporting.summary import Part, Report, summary_text
from common.reporting.weakness_tables import label_errors_table
from common.result_dir import (
    ResultDir,
    Run,
    read_config,
    write_metrics,
    write_table,
)
from common.review_sheet import update_review_sheet
from common.screening.patients import People
from common.sharing.launcher import Place, find_place
from common.sharing.session import Session, clear_away, follow, lead
from common.system.errors import InputError
from common.system.files import read_json, write_json
from common.system.log import duration, log, said_once
from common.system.threads import require_threads, use_threads

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.model_card.mistakes import Mistakes
    from common.prediction.predict import PredictionConfig

_OF_ENSEMBLE = "they are of the ensemble's; evaluate this model alone for those of its own"


@dataclass
class Model:
    """A trained model on its way through the evaluation."""

    run: Run
    label: str
    output: ResultDir  # where its results go
    dataset: Dataset
    split: Split  # the images, graded as it was trained
    pairs: PairPredictions = field(init=False)  # what its classifiers say
    result: ModelResult = field(init=False)  # the classes that follow
    outcome: Outcome = field(init=False)  # how good they are


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
    require_own_place(models, args.output_dir or DEFAULT_ENSEMBLE)
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


def require_own_place(models: Sequence[Model], ensemble: Path) -> None:
    """Raise InputError where an ensemble's results would take the place of a model's own."""
    for model in models if len(models) > 1 else ():
        if model.output.root.resolve() == ensemble.resolve():
            raise InputError(
                f"--output_dir {ensemble}: the results of {model.label} alone lie there, and those "
                "of the ensemble would take their place; choose another directory"
            )


def list_images(names: tuple[str, ...], args: argparse.Namespace) -> Dataset:
    """List the images of the dataset, each with the class of a model that its folder means."""
    matcher = SetMatcher(names, tuple(args.class_names), tuple(args.class_map))
    return scan_dataset(Path(args.dataset_path), matcher=matcher)


def leave_out_unreadable(models: list[Model], args: argparse.Namespace) -> dict[str, list[str]]:
    """Go on, with all models alike, without images that one of them cannot read.

    Returns their ids, by split.
    """
    from common.prediction.predict import pixels_of

    first, skipped = models[0].dataset, {}
    fitted_on = [name for name in CHOSEN_ON if first.has(name)]
    for name in dict.fromkeys([args.split, *fitted_on]):
        unreadable: set[str] = set()
        for pixels in {pixels_of(model.run) for model in models}:
            images, folder = first.split(name), Path(args.cache_dir)
            unreadable |= keep_readable(images, pixels, folder, args.num_workers).skipped.keys()
        if unreadable:
            skipped[name] = sorted(unreadable)
    left_out = {id_ for ids in skipped.values() for id_ in ids}
    for model in models:
        model.dataset = model.dataset.without(left_out)
        model.split = model.dataset.split(args.split)
    return skipped


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
    )


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


def read_grade_mix(model: Model, args: argparse.Namespace) -> GradeMix:
    """Read the grade mix of a population, in the classes that the images are graded in."""
    names = model.split.folders.classes.names if model.split.folders else model.run.names
    numbered = names == tuple(map(str, range(len(names))))
    mix = parse_prevalence(
        args.prevalence, len(names), args.prevalence_column, () if numbered else names
    )
    log(f"--prevalence: grade mix of {mix.source}")
    return mix


def predict_models(models: list[Model], session: Session | None, args: argparse.Namespace) -> None:
    """Predict with every model's classifiers."""
    for place, model in enumerate(models):
        model.pairs = predict(model, model.split, session, args)
        require_different(model, models[:place])
    require_same_images([model.pairs for model in models])


def session_folder(models: Sequence[Model]) -> Path:
    """Say where several processes leave parts of their predictions for the first."""
    return models[0].output.results / ".parts"


def help_predicting(models: list[Model], place: Place, args: argparse.Namespace) -> None:
    """Predict a part of the images for the process that does all the rest."""
    from common.prediction.predict import predict_share

    fitted_on = likely_split(models[0].dataset, models[0].split)
    with follow(session_folder(models), place) as session:
        config = choose_arithmetic(args, args.precision, session)
        for split in filter(None, (models[0].split, fitted_on)):
            for model in models:
                own = model.split if split is models[0].split else split
                predict_share(model.run, own, config, model.output.predictions(own.name))


def derive_classes(
    models: list[Model],
    trained: list[Trained],
    setting: Setting,
    session: Session | None,
    args: argparse.Namespace,
) -> Setting:
    """Derive the classes from what the classifiers say, with all that is fitted for it.

    Returns the setting with what is not known of the images that things are fitted on.
    """
    first, learned, several = models[0], setting.holdout.learned(), len(models) > 1
    plan = plan_fitting(first.dataset, first.split, trained, learned, insists(args, several))
    if plan.split != likely_split(first.dataset, first.split):
        session = None  # the other processes do not know of these images
    fitted_on = predict_for_fitting(models, trained, plan, session, args)
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


def require_different(model: Model, others: Sequence[Model]) -> None:
    """Raise InputError for a model that is a copy of another one: its answers would count twice."""
    for other in others:
        if model.pairs.origin.checkpoints == other.pairs.origin.checkpoints:
            raise InputError(
                f"--results_dirs: {model.run.directory.root} holds the same classifiers as "
                f"{other.run.directory.root}, byte for byte; give each model once"
            )


def predict_for_fitting(
    models: list[Model],
    trained: list[Trained],
    plan: Plan,
    session: Session | None,
    args: argparse.Namespace,
) -> Collected:
    """Predict the images that temperatures, weights and thresholds are fitted on."""
    from common.prediction.predict import predict_run

    members = [Member(own, m.pairs, m.output) for own, m in zip(trained, models)]
    config = choose_arithmetic(args, args.precision, session)

    def predict_and_keep(member: Member, split: Split, path: Path) -> PairPredictions:
        stored = load_predictions(path)
        pairs = predict_run(member.trained.run, split, config, path, args.referable_from)
        if stored is None or stored.origin != pairs.origin:
            voted = apply_vote(member.trained.label, pairs, args.vote)
            save_predictions(path, pairs, voted.classes, voted.vote)
        return pairs

    found = collect(plan, members, predict_and_keep)
    notes = [f"note: {remark}" for remark in plan.remarks]
    for line in [*notes, *say_fitting([model.label for model in models], found)]:
        log(line)
    return found


def predict(
    model: Model, split: Split, session: Session | None, args: argparse.Namespace
) -> PairPredictions:
    """Predict a split, or take what is stored of it."""
    from common.prediction.predict import predict_run

    config = choose_arithmetic(args, args.precision, session)
    stored_in = model.output.predictions(split.name)
    return predict_run(model.run, split, config, stored_in, args.referable_from)


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


def what_is_asked(args: argparse.Namespace) -> Asked:
    """Read what a screening programme asks; a mistake is found before anything takes time."""
    rules = tuple(dict.fromkeys(map(parse_rule, args.operating_point)))
    return Asked(rules, args.patient_rule)


def grade_altered(
    models: list[Model], final: Outcome, alterations: Sequence[Alteration], args: argparse.Namespace
) -> dict[str, ClassPredictions]:
    """Grade the images once more under each alteration, with all that was chosen before."""
    from common.prediction.altered import Predicted, predict_altered

    predicted = [Predicted(model.run, model.pairs) for model in models]
    config = choose_arithmetic(args, args.precision)
    found = predict_altered(predicted, models[0].split, alterations, config)
    rule = rule_of([model.result for model in models], final.ensemble)
    return {
        name: grade_again(rule, [each.pair_probabilities for each in pairs]).classes
        for name, pairs in found.items()
    }


def store_answers(answers: Answers, output: ResultDir, images: Split) -> None:
    """Store the answers of the final grader beside its figures."""
    path, sheet = output.metrics(images.name), output.figure(f"label_errors_{images.name}")
    sheet.unlink(missing_ok=True)  # of an earlier evaluation
    if answers.label_errors is not None:
        label_error_sheet(answers.label_errors, images, sheet)
        listed = label_errors_table(answers.label_errors).to_csv()
        for line in update_review_sheet(output, images.name, *listed):
            log(line)
    write_metrics(path, read_json(path) | {"screening": answers.to_json()})


def keep_references(
    models: list[Model], trained: list[Trained], args: argparse.Namespace
) -> list[str]:
    """Keep with each model what its training pictures look like; says of whom it is not known."""
    from common.doubts.training_pictures import keep_reference

    config, remarks = choose_arithmetic(args, args.precision), []
    for model, own in zip(models, trained):
        checkpoints = model.pairs.origin.checkpoints
        why_not = keep_reference(own, checkpoints, config, args.reference_pictures)
        if why_not:
            remarks.append(
                f"note: {model.label}: new pictures cannot be compared with its training pictures: "
                f"{why_not}"
            )
    return remarks


def with_earlier_rules(
    asked: Asked, outcome: Outcome, models: Sequence[Model], in_ensemble: bool
) -> Asked:
    """Ask for the operating points of an earlier evaluation of the same models, too.

    Their thresholds are chosen again, where all else is chosen: a rule that was asked for once
    holds until it is forgotten with the file that it stands in. in_ensemble: of a model for its own
    while an ensemble is evaluated, whose own rules come first.
    """
    earlier = earlier_grader(outcome.output.grader)
    if earlier is None or outcome.grader.chosen_on is None:
        return asked
    if not is_of(earlier, [model.pairs.origin.checkpoints for model in models]):
        return asked
    own, given = rules_of(earlier), list(asked.operating_points)
    rules = dict.fromkeys([*own, *given] if in_ensemble else [*given, *own])
    return replace(asked, operating_points=tuple(rules))


def say_of_earlier_rules(asked: Asked, more: Asked, outcome: Outcome) -> list[str]:
    """Say which rules of operating points an earlier evaluation had asked for, and their fate.

    more: what is asked with those that are chosen again.
    """
    path, earlier = outcome.output.grader, earlier_grader(outcome.output.grader)
    if earlier is None or outcome.grader.chosen_on is None:
        return []
    rules = [rule for rule in rules_of(earlier) if rule not in asked.operating_points]
    again = ", ".join(str(rule) for rule in rules if rule in more.operating_points)
    gone = ", ".join(str(rule) for rule in rules if rule not in more.operating_points)
    listed = ", ".join(str(rule) for rule in more.operating_points if rule != ARGMAX)
    if again:
        return [
            f"note: {path}: thresholds of an earlier evaluation's --operating_point {again} were "
            f"chosen again, too; unless told otherwise, predict.py refers by the first of {listed} "
            "that has a threshold (remove the file to forget them)"
        ]
    if gone:
        return [f"note: {path} was of other classifiers; its --operating_point {gone} is gone"]
    return []


def store_graders(
    models: list[Model], final: Outcome, asked: Asked, dataset_path: str
) -> list[str]:
    """Store all that was chosen, of each model and of their ensemble, for new pictures.

    Returns what is to be said of it.
    """
    several = [(models, final)] if len(models) > 1 else []
    remarks = []
    for own, outcome in [*(([model], model.outcome) for model in models), *several]:
        path, member = outcome.output.grader, outcome is not final
        more = with_earlier_rules(asked, outcome, own, member)
        remarks += say_of_earlier_rules(asked, more, outcome)
        chosen = grader_to_store(
            outcome.grader,
            [model.result for model in own],
            [model.run.directory.root for model in own],
            outcome.ensemble,
            more.operating_points,
            dataset_path,
        )
        if not keep_grader(path, chosen):
            remarks.append(
                f"note: {path} stays as an earlier evaluation has written it: here nothing could "
                f"be chosen ({chosen.chosen_on.why_none})"
            )
    return remarks


def part_of(outcome: Outcome, more_remarks: Sequence[str] = ()) -> Part:
    """Lay out what was found of a model, under every vote, or of an ensemble and its models."""
    compared = "vote" if outcome.ensemble is None else "model"
    found = tables.evaluation_tables(outcome.findings, compared)
    return Part(outcome.title, found, [*outcome.remarks, *more_remarks])


def write_compared(outcome: Outcome, split: str) -> None:
    """Write what is compared of a model, or in an ensemble, as CSV."""
    compared = "votes" if outcome.ensemble is None else "graders"
    rows = tables.flat_rows(outcome.findings.compared)
    write_table(outcome.output.table(f"{compared}_{split}"), rows)


def draw(outcome: Outcome, split: str, answers: Answers | None, figure_format: str) -> None:
    """Draw an outcome, with the answers if it was asked, and remove what is not drawn any more."""
    from common.figures.evaluation import FIGURES, Before, draw_evaluation
    from common.figures.style import remove_figure, save_figure

    found = outcome.findings.calibration
    before = Before(outcome.raw, found.temperature, found.description) if found else None
    drawn = draw_evaluation(outcome.grader, outcome.title, answers, before)
    for name in FIGURES:
        path = outcome.output.figure(f"{name}_{split}")
        if name in drawn:
            save_figure(drawn[name], path, figure_format)
        else:
            remove_figure(path)


def check_all(models: list[Model], final: Outcome, setting: Setting) -> list[Gate]:
    """Compare the models and their ensemble, if there is one, with the guide's thresholds."""
    return check_gates(
        [gate_input(m.result, m.outcome.findings.evaluation.metrics) for m in models],
        final.findings.evaluation.metrics if len(models) > 1 else None,
        models[0].pairs.scored,
        setting.holdout.evaluated,
        models[0].pairs.set_classes is not None,
    )


def report_on(
    models: list[Model], final: Outcome, answers: Answers, gates: list[Gate], setting: Setting
) -> Report:
    """Gather what the report shows."""
    first = models[0]
    recipes = {model.label: trained_with(model.run) for model in models}
    changed = [
        f"settings of {label} were not the same throughout its training: {recipe.changed}"
        for label, recipe in recipes.items()
        if recipe.changed
    ]
    return Report(
        models=final.models,
        dataset_path=setting.dataset_path,
        split=first.split,
        vote=final.vote,
        grader=final.grader,
        findings=final.findings,
        answers=answers,
        gates=gates,
        columns=setting.columns,
        recipes=recipes,
        results=part_of(final, changed),
        questions=Part("What a screening programme asks", answers_tables(answers)),
        members=[part_of(model.outcome) for model in models] if len(models) > 1 else [],
        views=views_text({model.label: model.pairs.origin.tta for model in models}),
    )


def explain_worst(models: list[Model], final: Outcome, args: argparse.Namespace) -> "Mistakes":
    """Find the evidence for the worst mistakes, and draw it."""
    from common.evidence.explanation import ScoredClasses
    from common.model_card.mistakes import Mistakes, Voice, draw_mistakes, explain_mistakes

    first, classes, path = models[0], final.grader.judged_on.classes, final.output.mistakes
    if not args.evidence_maps:
        found = Mistakes(why_none="--evidence_maps 0 was given")
    else:
        rows = worst_mistakes(first.split.labels, classes)[: args.evidence_maps]
        weights = [1.0] if final.ensemble is None else final.ensemble.weights.tolist()
        started = time.monotonic()
        found = explain_mistakes(
            [Voice(m.run, m.pairs.origin.tta, weight) for m, weight in zip(models, weights)],
            first.split,
            rows,
            classes,
            ScoredClasses(final.grader.scored, tuple(first.pairs.of_model)),
            choose_arithmetic(args, args.precision),
        )
        spent = duration(time.monotonic() - started)
        said = f"no maps: {found.why_none}" if found.why_none else spent
        log(f"evidence for the {count_of(len(rows), 'worst mistake')}: {said}")
    draw_mistakes(found, f"{final.title}: the worst mistakes", path(args.split))
    return found


def write_cards(
    models: list[Model],
    trained: list[Trained],
    final: Outcome,
    mistakes: "Mistakes",
    report: Report,
    asked: Asked,
    setting: Setting,
) -> None:
    """Write the final grader's model card and, where that is an ensemble, each model's.

    Each model of several is asked the questions that its own card answers, but for those of altered
    images.
    """
    known = [
        what_is_known(model.label, model.run, stored_config(model.run), own, model.pairs)
        for model, own in zip(models, trained)
    ]
    cards = {final.output: card_of_evaluation(final.output, report, known, mistakes.why_none)}
    for model, own in zip(models, known) if len(models) > 1 else ():
        outcome = with_overlaps(model.outcome, setting)
        more = with_earlier_rules(asked, outcome, [model], in_ensemble=True)
        answers, gates = ask(outcome.grader, more, QUESTIONS), check_all([model], outcome, setting)
        alone = report_on([model], outcome, answers, gates, setting)
        cards[model.output] = card_of_evaluation(model.output, alone, [own], _OF_ENSEMBLE)
    for directory, card in cards.items():
        for line in write_card(directory.model_card, card):
            log(line)


def older_reports(models: list[Model], output: ResultDir, split: str) -> list[str]:
    """Name the models whose own report is of an earlier evaluation; only `output` has a new one."""
    older = [m for m in models if m.output != output and m.output.report(split).is_file()]
    return [
        f"note: {model.output.report(split)} and what belongs to it are of an earlier evaluation "
        f"of {model.label} alone and may be older than its figures; evaluate it alone for a new one"
        for model in older
    ]


def trained_with(run: Run) -> TrainedWith:
    """Read how a model was trained; nothing is known of the earlier trainer's."""
    content = stored_config(run)
    return TrainedWith.from_content(content) if content else TrainedWith()


def stored_config(run: Run) -> dict[str, Any]:
    """Read a model's config.json; the earlier trainer wrote none."""
    return read_config(run.directory) if run.directory.config.is_file() else {}


def print_results(report: Report, output: ResultDir, verbose: bool) -> None:
    """Print a screen's worth of what matters, then, if asked to, all tables."""
    print(f"\n{summary_text(report)}\n", flush=True)
    for part in report.parts if verbose else []:
        print(f"{part.to_text()}\n", flush=True)
    if not verbose:
        print(
            f"all tables: --verbose, {output.report(report.split.name)} or, as CSV, {output.tables}"
        )


@partial(guarded, shares=True)
def main(argv: list[str] | None = None) -> int:
    """Evaluate every model, then their ensemble, then compare both with the gates."""
    args, place = parse_args(argv), find_place()
    require_threads(args.threads)
    if args.verify and not place.leads:
        return 0
    asked = what_is_asked(args)
    alterations = () if args.robustness is None else chosen_alterations(args.robustness)
    with said_once(place.leads):
        models = list_models(args)
    use_threads(args.threads, place.leads)
    ensemble_dir = ResultDir(args.output_dir or DEFAULT_ENSEMBLE)
    skipped = leave_out_unreadable(models, args) if args.skip_unreadable else {}
    if args.verify:
        return 0 if verify_models(models, ensemble_dir, args) else 1
    if not place.leads:
        help_predicting(models, place, args)
        return 0

    setting = build_setting(models, skipped, args)
    trained = find_training([(model.label, model.run) for model in models], models[0].dataset)
    if place.alone:
        clear_away(session_folder(models))
    with nullcontext() if place.alone else lead(session_folder(models), place) as session:
        predict_models(models, session, args)  # first, so that a bad checkpoint is named at once
        holdout = look_for_training_images(models, trained, setting, args)
        setting = replace(setting, holdout=holdout)
        setting = derive_classes(models, trained, setting, session, args)
    for model in models:
        model.outcome = evaluate_model(model.result, model.output, setting)
        log(f"{model.label}: {'; '.join(tables.calibration_notes(model.outcome.findings))}")
    final = models[0].outcome
    if len(models) > 1:
        results, alone = [m.result for m in models], [m.outcome for m in models]
        final = evaluate_together(results, alone, setting, ensemble_dir)
        log(f"ensemble: {'; '.join([*tables.calibration_notes(final.findings), *final.remarks])}")
    final = with_overlaps(final, setting)
    altered = grade_altered(models, final, alterations, args) if alterations else {}
    asked = replace(
        asked, people=setting.people, grade_mix=setting.grade_mix, columns=setting.columns
    )
    more = with_earlier_rules(asked, final, models, in_ensemble=False)
    answers = ask(final.grader, replace(more, altered=altered))
    store_answers(answers, final.output, models[0].split)
    stored = store_graders(models, final, asked, setting.dataset_path)
    stored += keep_references(models, trained, args)
    for outcome in [*(model.outcome for model in models), final] if len(models) > 1 else [final]:
        asked_of = answers if outcome is final else None
        draw(outcome, args.split, asked_of, args.figure_format)
        write_compared(outcome, args.split)

    gates, output = check_all(models, final, setting), final.output
    validation, checklist = output.validation(args.split), output.checklist(args.split)
    write_json(validation, setting.describe() | validation_content(gates))
    report = report_on(models, final, answers, gates, setting)
    mistakes = explain_worst(models, final, args)
    write_report(output, report, mistakes.to_pictures())
    write_checklist(output, report)
    write_cards(models, trained, final, mistakes, report, asked, setting)
    for model, part in zip(models, report.members):  # none where there is one model
        tables.write_tables(model.output, args.split, part.tables)
    tables.write_tables(output, args.split, report.tables)
    print_results(report, output, args.verbose)
    names = f"{validation.name}, {checklist.name}, {output.model_card.name}"
    log(f"wrote {output.metrics(args.split)}, {names} and {output.report(args.split)}")
    for line in [*stored, *older_reports(models, output, args.split)]:
        log(line)
    return 1 if args.require and not all_pass(gates) else 0


if __name__ == "__main__":
    sys.exit(main())
