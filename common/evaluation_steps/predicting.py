"""Ask models about the images of an evaluation, alone or as one of several processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.data.folders import Split
from common.evaluation.outcome import Outcome
from common.evaluation_steps.models import Model, require_different
from common.fitting.collect import Collected, Member, collect, say_fitting
from common.fitting.ensemble import apply_vote, grade_again, rule_of
from common.fitting.sources import Plan, Trained, likely_split
from common.prediction.alterations import Alteration
from common.prediction.predictions import (
    PairPredictions,
    load_predictions,
    require_same_images,
    save_predictions,
)
from common.prediction.voting import ClassPredictions
from common.result_dir.run import Run
from common.system.log import log

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    from common.prediction.predict import PredictionConfig


def session_folder(models: Sequence[Model]) -> Path:
    """Say where several processes leave parts of their predictions for the first."""
    return models[0].output.results / ".parts"


def predict_models(
    models: Sequence[Model], config: "PredictionConfig", referable_from: str
) -> None:
    """Predict with every model's classifiers, or take what is stored."""
    from common.prediction.predict import predict_run

    for place, model in enumerate(models):
        stored_in = model.output.predictions(model.split.name)
        model.pairs = predict_run(model.run, model.split, config, stored_in, referable_from)
        require_different(model, models[:place])
    require_same_images([model.pairs for model in models])


def predict_shares(models: Sequence[Model], config: "PredictionConfig") -> None:
    """Predict a part of the images for the process that does all the rest."""
    from common.prediction.predict import predict_share

    first = models[0]
    for split in filter(None, (first.split, likely_split(first.dataset, first.split))):
        for model in models:
            own = model.split if split is first.split else split
            predict_share(model.run, own, config, model.output.predictions(own.name))


def predict_for_fitting(
    models: Sequence[Model],
    trained: Sequence[Trained],
    plan: Plan,
    config: "PredictionConfig",
    vote: str,
    referable_from: str,
) -> Collected:
    """Predict the images that temperatures, weights and thresholds are fitted on."""
    members = [Member(own, m.pairs, m.output) for own, m in zip(trained, models)]

    def predict(member: Member, split: Split, path: Path) -> PairPredictions:
        own = member.trained
        return predict_and_keep(own.run, own.label, split, path, config, vote, referable_from)

    found = collect(plan, members, predict)
    notes = [f"note: {remark}" for remark in plan.remarks]
    for line in [*notes, *say_fitting([model.label for model in models], found)]:
        log(line)
    return found


def predict_and_keep(
    run: Run,
    label: str,
    split: Split,
    path: Path,
    config: "PredictionConfig",
    vote: str,
    referable_from: str,
) -> PairPredictions:
    """Predict a split and store that, unless what is stored holds still.

    vote: by which the classes follow that are stored beside the pairs' probabilities: the model's
    own, however coarsely the images are graded, as an evaluation stores them.
    """
    from common.prediction.predict import predict_run

    stored = load_predictions(path)
    pairs = predict_run(run, split, config, path, referable_from)
    if stored is None or stored.origin != pairs.origin:
        voted = apply_vote(label, pairs, vote)
        save_predictions(path, pairs, voted.tempered, voted.vote)
    return pairs


def grade_altered(
    models: Sequence[Model],
    final: Outcome,
    alterations: Sequence[Alteration],
    config: "PredictionConfig",
) -> dict[str, ClassPredictions]:
    """Grade the images once more under each alteration, with all that was chosen before."""
    from common.prediction.altered import Predicted, predict_altered

    predicted = [Predicted(model.run, model.pairs) for model in models]
    found = predict_altered(predicted, models[0].split, alterations, config)
    rule = rule_of([model.result for model in models], final.ensemble)
    return {
        name: grade_again(rule, [each.pair_probabilities for each in pairs]).classes
        for name, pairs in found.items()
    }
