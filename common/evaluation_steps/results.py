"""Lay out what an evaluation found, and write it: figures, tables, report, cards, a screen."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.evaluation.gates import Gate, check_gates, gate_input
from common.evaluation.outcome import Outcome, with_overlaps
from common.evaluation.questions import Answers, Asked, ask
from common.evaluation.setting import Setting
from common.evaluation_steps.models import Model
from common.fitting.sources import Trained
from common.grading.earlier_evaluations import with_earlier_rules
from common.in_force import TrainedWith
from common.listing.walking import count_of
from common.model_card.card import QUESTIONS, card_of_evaluation
from common.model_card.card_file import write_card
from common.model_card.sections import what_is_known
from common.prediction.labels import views_text
from common.reporting import tables
from common.reporting.checklist import write_checklist
from common.reporting.report import worst_mistakes, write_report
from common.reporting.screening_tables import answers_tables
from common.reporting.summary import Part, Report, summary_text
from common.result_dir.csv_files import write_table
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, read_config
from common.system.log import duration, log

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.model_card.mistakes import Mistakes
    from common.prediction.predict import PredictionConfig

_OF_ENSEMBLE = "they are of the ensemble's; evaluate this model alone for those of its own"


def draw_all(
    models: Sequence[Model], final: Outcome, answers: Answers, split: str, figure_format: str
) -> None:
    """Draw every outcome and write what is compared in it; answers: of the final one."""
    for outcome in [*(model.outcome for model in models), final] if len(models) > 1 else [final]:
        draw(outcome, split, answers if outcome is final else None, figure_format)
        write_compared(outcome, split)


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


def write_compared(outcome: Outcome, split: str) -> None:
    """Write what is compared of a model, or in an ensemble, as CSV."""
    compared = "votes" if outcome.ensemble is None else "graders"
    rows = tables.flat_rows(outcome.findings.compared)
    write_table(outcome.output.table(f"{compared}_{split}"), rows)


def check_all(models: Sequence[Model], final: Outcome, setting: Setting) -> list[Gate]:
    """Compare the models and their ensemble, if there is one, with the guide's thresholds."""
    return check_gates(
        [gate_input(m.result, m.outcome.findings.evaluation.metrics) for m in models],
        final.findings.evaluation.metrics if len(models) > 1 else None,
        models[0].pairs.scored,
        setting.holdout.evaluated,
        models[0].pairs.set_classes is not None,
    )


def report_on(
    models: Sequence[Model], final: Outcome, answers: Answers, gates: list[Gate], setting: Setting
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


def part_of(outcome: Outcome, more_remarks: Sequence[str] = ()) -> Part:
    """Lay out what was found of a model, under every vote, or of an ensemble and its models."""
    compared = "vote" if outcome.ensemble is None else "model"
    found = tables.evaluation_tables(outcome.findings, compared)
    return Part(outcome.title, found, [*outcome.remarks, *more_remarks])


def trained_with(run: Run) -> TrainedWith:
    """Read how a model was trained; nothing is known of the earlier trainer's."""
    content = stored_config(run)
    return TrainedWith.from_content(content) if content else TrainedWith()


def stored_config(run: Run) -> dict[str, Any]:
    """Read a model's config.json; the earlier trainer wrote none."""
    return read_config(run.directory) if run.directory.config.is_file() else {}


def explain_worst(
    models: Sequence[Model], final: Outcome, most: int, config: "PredictionConfig"
) -> "Mistakes":
    """Find the evidence for the worst mistakes, and draw it; most: so many, 0 for none."""
    from common.evidence.explanation import ScoredClasses
    from common.model_card.mistakes import Mistakes, Voice, draw_mistakes, explain_mistakes

    first, classes, path = models[0], final.grader.judged_on.classes, final.output.mistakes
    if not most:
        found = Mistakes(why_none="--evidence_maps 0 was given")
    else:
        rows = worst_mistakes(first.split.labels, classes)[:most]
        weights = [1.0] if final.ensemble is None else final.ensemble.weights.tolist()
        started = time.monotonic()
        found = explain_mistakes(
            [Voice(m.run, m.pairs.origin.tta, weight) for m, weight in zip(models, weights)],
            first.split,
            rows,
            classes,
            ScoredClasses(final.grader.scored, tuple(first.pairs.of_model)),
            config,
        )
        spent = duration(time.monotonic() - started)
        said = f"no maps: {found.why_none}" if found.why_none else spent
        log(f"evidence for the {count_of(len(rows), 'worst mistake')}: {said}")
    draw_mistakes(found, f"{final.title}: the worst mistakes", path(first.split.name))
    return found


def write_all(
    models: Sequence[Model],
    trained: Sequence[Trained],
    final: Outcome,
    mistakes: "Mistakes",
    report: Report,
    asked: Asked,
    setting: Setting,
) -> None:
    """Write the report, the checklist, the model cards and the tables."""
    output, split = final.output, setting.split
    write_report(output, report, mistakes.to_pictures())
    write_checklist(output, report)
    write_cards(models, trained, final, mistakes, report, asked, setting)
    for model, part in zip(models, report.members):  # none where there is one model
        tables.write_tables(model.output, split, part.tables)
    tables.write_tables(output, split, report.tables)


def write_cards(
    models: Sequence[Model],
    trained: Sequence[Trained],
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
        more = with_earlier_rules(asked, outcome, [model.checkpoints], in_ensemble=True)
        answers, gates = ask(outcome.grader, more, QUESTIONS), check_all([model], outcome, setting)
        alone = report_on([model], outcome, answers, gates, setting)
        cards[model.output] = card_of_evaluation(model.output, alone, [own], _OF_ENSEMBLE)
    for directory, card in cards.items():
        for line in write_card(directory.model_card, card):
            log(line)


def older_reports(models: Sequence[Model], output: ResultDir, split: str) -> list[str]:
    """Name the models whose own report is of an earlier evaluation; only `output` has a new one."""
    older = [m for m in models if m.output != output and m.output.report(split).is_file()]
    return [
        f"note: {model.output.report(split)} and what belongs to it are of an earlier evaluation "
        f"of {model.label} alone and may be older than its figures; evaluate it alone for a new one"
        for model in older
    ]


def print_results(report: Report, output: ResultDir, verbose: bool) -> None:
    """Print a screen's worth of what matters, then, if asked to, all tables."""
    print(f"\n{summary_text(report)}\n", flush=True)
    for part in report.parts if verbose else []:
        print(f"{part.to_text()}\n", flush=True)
    if not verbose:
        print(
            f"all tables: --verbose, {output.report(report.split.name)} or, as CSV, {output.tables}"
        )
