"""What an earlier evaluation of the same models asked for, and what of it is kept.

A rule of an operating point that was asked for once holds until it is forgotten with the file that
it stands in; its threshold is chosen again, where all else is chosen.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.evaluation.outcome import Outcome
from common.evaluation.questions import Asked
from common.fitting.ensemble import ModelResult
from common.fitting.threshold import ARGMAX
from common.grading.finding import is_of
from common.grading.grader_file import earlier_grader, keep_grader
from common.grading.stored_grader import grader_to_store, rules_of


def with_earlier_rules(
    asked: Asked, outcome: Outcome, checkpoints: Sequence[str], in_ensemble: bool
) -> Asked:
    """Ask for the operating points of an earlier evaluation of the same models, too.

    checkpoints: the models' fingerprints. in_ensemble: of a model for its own while an ensemble is
    evaluated, whose own rules come first.
    """
    earlier = earlier_grader(outcome.output.grader)
    if earlier is None or outcome.grader.chosen_on is None:
        return asked
    if not is_of(earlier, checkpoints):
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


def store_grader(
    outcome: Outcome,
    models: Sequence[ModelResult],
    directories: Sequence[Path],
    asked: Asked,
    dataset_path: str,
    in_ensemble: bool,
) -> list[str]:
    """Store all that was chosen for a model, or an ensemble of several, for new pictures.

    directories: the models' result directories. in_ensemble: as in `with_earlier_rules`. Returns
    what is to be said of it.
    """
    path = outcome.output.grader
    checkpoints = [model.pairs.origin.checkpoints for model in models]
    more = with_earlier_rules(asked, outcome, checkpoints, in_ensemble)
    remarks = say_of_earlier_rules(asked, more, outcome)
    chosen = grader_to_store(
        outcome.grader, models, directories, outcome.ensemble, more.operating_points, dataset_path
    )
    if keep_grader(path, chosen):
        return remarks
    none = chosen.chosen_on.why_none
    why = f"here nothing could be chosen ({none})" if none else "that was of test"
    return [f"note: {path} stays as an earlier evaluation has written it: {why}"]
