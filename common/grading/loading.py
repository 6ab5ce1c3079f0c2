"""Load models in PyTorch together with what an evaluation has chosen for them.

M models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from common.fitting.calibration import Temperature
from common.grading.finding import GivenGrader, find_grader, require_of
from common.grading.stored_grader import StoredGrader, StoredMember, unevaluated
from common.grading.torch_networks import TorchNetworks, build_torch_networks
from common.prediction.classes import require_same_classes, scored_classes
from common.prediction.labels import label_runs, same_classifiers
from common.prediction.voting import VOTES
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.log import log
from common.trained_networks.loading import have_equal_weights
from common.trained_networks.outputs import in_grade_order


@dataclass(frozen=True)
class LoadedGrader:
    """A grader and its networks, in the same order."""

    grader: StoredGrader
    networks: TorchNetworks


def load_grader_and_models(
    runs: Sequence[Run],
    given: GivenGrader | None,
    tta: str,
    device: torch.device,
    precision: str,
) -> LoadedGrader:
    """Load models, and what was chosen for them, found by their fingerprints.

    runs: (M,) in any order; the grader's order is taken. given: what was chosen; None: it is looked
    for in the usual places. tta: "" for what each was evaluated with, else trained with. Raises
    InputError for models that are given twice or have different classes, and for a grader of other
    models.
    """
    require_same_classes([(str(run.directory.root), run.names) for run in runs])
    networks = build_torch_networks(runs, [run.tta for run in runs], device, precision)
    prints = networks.fingerprints
    for place, model in enumerate(networks.models):
        for other in networks.models[:place]:
            if have_equal_weights(model.loaded, other.loaded):
                raise InputError(same_classifiers(model.run, other.run))
    if given is not None:
        grader, order = given.grader, require_of(given.grader, prints, given.path)
    else:
        found = find_grader(prints, [run.directory.root for run in runs])
        if found.grader is None:
            log(f"note: {found.why_none}: {found.looked_for}")
        grader = found.grader or _unevaluated(networks, found.why_none)
        order = found.order or tuple(range(len(runs)))
    chosen = [networks.models[place] for place in order]
    models = [
        replace(model, tta=tta or member.tta) for model, member in zip(chosen, grader.members)
    ]
    return LoadedGrader(grader, replace(networks, models=tuple(models)))


def _unevaluated(networks: TorchNetworks, why: str) -> StoredGrader:
    """Make a grader of models of whose evaluation nothing is known."""
    runs = [model.run for model in networks.models]
    scored = [scored_classes(run.names, run.referable_from, None) for run in runs]
    for run, own in zip(runs, scored):
        if own.referable_from != scored[0].referable_from:
            raise InputError(
                f"{runs[0].directory.root} was trained with {scored[0].referable} as referable, "
                f"{run.directory.root} with {own.referable}; evaluate them together with "
                "--referable_from CLASS"
            )
    members = [
        StoredMember(
            label=label,
            directory=model.run.directory.root,
            checkpoints=model.loaded.fingerprint,
            model=model.loaded.model,
            head=model.loaded.head,
            tta=model.tta,
            vote=VOTES[0],
            pair_accuracies=in_grade_order(
                model.loaded.pair_accuracies, model.run.order, are_shares=False
            ),
            temperature=Temperature(why_not=why),
        )
        for label, model in zip(label_runs(runs), networks.models)
    ]
    return unevaluated(members, scored[0], why)
