"""What is shown of a picture: the decisions that were taken on it, and the evidence for each.

N pictures, P pairs, K classes that are scored, M models, h x w positions, g parts to a side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import expit

from common.evidence.exact import EXACT, Evidence, evidence_of
from common.evidence.finer import finer_evidence_of
from common.evidence.maps import (
    COMBINED,
    FINER,
    Summed,
    combine,
    pair_shares,
    sum_pairs,
    weigh_models,
)
from common.evidence.occlusion import agreement, occlusion_of
from common.grading.stored_grader import StoredGrader, grade
from common.grading.torch_networks import TorchModel
from common.pixels.device_pixels import PixelSource
from common.prediction.classes import Classes
from common.system.errors import InputError
from common.trained_networks.loading import LoadedModel

_MOST_PAIRS = 3  # of a picture that are shown
Finder = Callable[[LoadedModel, PixelSource, torch.device, str, str], Evidence]


@dataclass(frozen=True)
class Decision:
    """Some of the models' classes against others."""

    key: str  # part of file names: "referable", "grade", or a pair such as "1-2"
    title: str
    speaks_for: str  # what positive evidence speaks for
    speaks_against: str
    decided: tuple[int, ...]  # of the models' classes
    against: tuple[int, ...]

    def shares(self, probabilities: np.ndarray) -> np.ndarray:
        """Say with which sign and weight each pair speaks for it, (P,); see `pair_shares`."""
        return pair_shares(self.decided, self.against, len(probabilities), probabilities)


@dataclass(frozen=True)
class ScoredClasses:
    """The classes that pictures are graded in, and which of the models' belongs to which."""

    classes: Classes
    of_model: tuple[int, ...]

    def of_models(self, probabilities: np.ndarray) -> np.ndarray:
        """Divide the probabilities of the scored classes evenly among the models' classes."""
        of_model = np.array(self.of_model)
        return probabilities[of_model] / np.bincount(of_model)[of_model]

    def models(self, scored: Sequence[int]) -> tuple[int, ...]:
        """List the models' classes that belong to some of the scored ones."""
        return tuple(k for k, own in enumerate(self.of_model) if own in scored)


@dataclass(frozen=True)
class DecisionMap:
    """Evidence for a decision on one picture."""

    values: np.ndarray  # (h, w) logits; their mean plus the constant is the score
    constant: float  # NaN: the map does not add up to the score
    score: float

    def describe(self) -> str:
        """Say how the score is made up."""
        if np.isnan(self.constant):
            return f"score {self.score:+z.2f}, to which the map does not add up"
        mean = self.score - self.constant
        return f"score {self.score:+z.2f} = map {mean:+z.2f}, constant {self.constant:+z.2f}"


@dataclass(frozen=True)
class DecisionEvidence:
    """The evidence for one decision on one picture."""

    decision: Decision
    whole: DecisionMap  # of the model, or of all models with the ensemble's weights
    members: tuple[DecisionMap, ...] = ()  # of each model alone, if there are several
    falls: np.ndarray | None = None  # (g, g) of the score where a part is hidden, if asked for
    agreement: float = np.nan  # of that with the map


@dataclass(frozen=True)
class Explained:
    """A picture, what was decided on it, and why."""

    name: str
    predicted: int  # among the scored classes
    probabilities: np.ndarray  # (K,)
    uncertainty: float  # entropy of these, in nats
    evidence: tuple[DecisionEvidence, ...] = field(repr=False)


def decisions_on(
    scored: ScoredClasses, probabilities: np.ndarray, predicted: int
) -> list[Decision]:
    """List what is decided on a picture: referable or not, its grade, and the closest pairs.

    The last set the predicted class against the likeliest others. Two classes make one decision.
    """
    classes, every = scored.classes, range(len(scored.classes))
    found = []
    cut = classes.referable_from
    if cut is not None:
        found.append(_referable(scored, cut))
    if len(classes) > 2 or cut is None:
        title = classes.titles[predicted]
        rest = [k for k in every if k != predicted]
        sides = scored.models([predicted]), scored.models(rest)
        found.append(Decision("grade", title, title, f"any other {classes.word}", *sides))
    if len(classes) > 2:
        rivals = sorted((k for k in every if k != predicted), key=lambda k: -probabilities[k])
        found += [_pair(scored, predicted, rival) for rival in rivals[:_MOST_PAIRS]]
    return found


def _referable(scored: ScoredClasses, cut: int) -> Decision:
    every = range(len(scored.classes))
    return Decision(
        "referable",
        f"referable, {scored.classes.from_on(cut)}",
        "referable",
        "not referable",
        scored.models(every[cut:]),
        scored.models(every[:cut]),
    )


def _pair(scored: ScoredClasses, one: int, other: int) -> Decision:
    low, high = sorted((one, other))
    titles = scored.classes.titles
    return Decision(
        f"{low}-{high}",
        f"{titles[low]} or {titles[high]}",
        titles[high],
        titles[low],
        scored.models([high]),
        scored.models([low]),
    )


@dataclass(frozen=True)
class How:
    """How evidence is found."""

    device: torch.device
    precision: str
    maps: str = EXACT  # of `maps.KINDS`
    occlusion: bool = False  # hide parts of the pictures, too


@dataclass(frozen=True)
class Sources:
    """All that the maps of N pictures are made from."""

    evidence: tuple[Evidence, ...]  # of each model: exact maps, or finer ones alone
    finer: tuple[Evidence, ...] = ()  # of each model, which the exact ones weigh; empty: none do
    falls: tuple[np.ndarray, ...] = ()  # (N, P, g, g) of each model; empty if not asked for

    @property
    def methods(self) -> tuple[str, ...]:
        """Name the method of each model's maps."""
        if not self.finer:
            return tuple(own.method for own in self.evidence)
        both = zip(self.finer, self.evidence, strict=True)
        return tuple(f"{fine.method}, weighed by the {own.method} map" for fine, own in both)

    def take(self, row: int) -> "Sources":
        """Return the same of one of the pictures."""
        return Sources(
            tuple(own.take([row]) for own in self.evidence),
            tuple(own.take([row]) for own in self.finer),
            tuple(np.ascontiguousarray(own[row : row + 1]) for own in self.falls),
        )

    def summed(self, shares: np.ndarray) -> list[Summed]:
        """Return the evidence of each model for a decision, of pairs with shares (P,)."""
        found = [sum_pairs(own, shares) for own in self.evidence]
        if not self.finer:
            return found
        return [combine(own, sum_pairs(fine, shares)) for own, fine in zip(found, self.finer)]


def find_sources(pixels: Sequence[PixelSource], models: Sequence[TorchModel], how: How) -> Sources:
    """Find what the maps of a chunk of pictures are made from.

    pixels: the N pictures as each model sees them, in the order of the models.
    """

    def ask(find: Finder) -> tuple[Evidence, ...]:
        return tuple(
            find(model.loaded, own, how.device, how.precision, model.tta)
            for model, own in zip(models, pixels, strict=True)
        )

    falls = tuple(
        occlusion_of(model.loaded, own, how.device, how.precision, model.tta)
        for model, own in zip(models, pixels)
        if how.occlusion
    )
    evidence = ask(finer_evidence_of if how.maps == FINER else evidence_of)
    return Sources(evidence, ask(finer_evidence_of) if how.maps == COMBINED else (), falls)


def explain_picture(name: str, sources: Sources, grader: StoredGrader) -> Explained:
    """Grade one picture, and put together the evidence for what is decided on it."""
    graded = grade(grader, [expit(own.logits.astype(np.float64)) for own in sources.evidence])
    scored = ScoredClasses(grader.scored, grader.of_model)
    probabilities = graded.classes.probabilities[0]
    predicted = int(graded.classes.predicted[0])
    found = []
    for decision in decisions_on(scored, probabilities, predicted):
        shares = decision.shares(scored.of_models(probabilities))
        hidden = [np.tensordot(shares, own[0], 1) for own in sources.falls]
        found.append(_put_together(decision, sources.summed(shares), hidden, grader.weights))
    uncertainty = float(graded.uncertainty["entropy"][0])
    return Explained(name, predicted, probabilities, uncertainty, tuple(found))


def _put_together(
    decision: Decision, members: Sequence[Summed], falls: Sequence[np.ndarray], weights: np.ndarray
) -> DecisionEvidence:
    """Put together what M models say of one picture for a decision.

    falls: (g, g) of each model's score where a part is hidden; empty if that was not asked for.
    """
    several = len(members) > 1
    whole = _only(weigh_models(members, weights) if several else members[0])
    alone = tuple(map(_only, members)) if several else ()
    if not falls:
        return DecisionEvidence(decision, whole, alone)
    hidden = np.tensordot(weights / weights.sum(), falls, 1)
    return DecisionEvidence(decision, whole, alone, hidden, agreement(whole.values, hidden))


def _only(summed: Summed) -> DecisionMap:
    return DecisionMap(summed.maps[0], float(summed.constants[0]), float(summed.scores[0]))


def require_one_square(models: Sequence[TorchModel]) -> None:
    """Raise InputError unless all models cut the same square out of a photograph."""
    cuts: dict[tuple[bool, int], str] = {}
    for model in models:
        own = model.loaded.preprocessing
        cuts.setdefault((own.crop_retina, own.version), str(model.run.directory.root))
    if len(cuts) > 1:
        one, other = list(cuts.values())[:2]
        raise InputError(
            f"{one} and {other} cut different squares out of a photograph, so that their maps do "
            "not lie on one picture; explain each alone"
        )
