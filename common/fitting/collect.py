"""Ask models about the images that `sources.plan_fitting` has chosen for fitting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.folders import Split
from common.fitting.images import FittingImages, fitting_images, pool
from common.fitting.sources import OwnVal, Plan, Trained
from common.listing.walking import count_of
from common.prediction.evaluated_models import load_val
from common.prediction.predictions import PairPredictions
from common.result_dir.paths import ResultDir
from common.system.errors import InputError


@dataclass(frozen=True)
class Member:
    """A model that has predicted what is judged."""

    trained: Trained
    pairs: PairPredictions  # of what is judged
    output: ResultDir  # where its results on the dataset go


@dataclass(frozen=True)
class Collected:
    """What each model says of the images for fitting."""

    images: list[FittingImages | None]  # by model; None: there are none for it
    reasons: list[str]  # by model, why neither cal nor val of the dataset is taken


Predict = Callable[[Member, Split, Path], PairPredictions]  # a split, kept in a file


def collect(plan: Plan, members: Sequence[Member], predict: Predict) -> Collected:
    """Predict the images for fitting with every model, or take what is stored of them."""
    if plan.split is not None:
        found = [
            fitting_images(predict(m, plan.split, m.output.predictions(plan.split.name)), plan.name)
            for m in members
        ]
        return Collected(list(found), [""] * len(found))
    parts: list[FittingImages | None] = []
    reasons = []
    mixed = _with_different_views(members, plan)
    for member, own in zip(members, plan.own, strict=True):
        part, reason = None, mixed.get(own.group, "")
        if not reason:
            part, reason = _of_own_val(member, own, plan, predict)
        parts.append(part)
        reasons.append("; ".join(filter(None, [plan.why_not, reason])))
    return Collected(_pool_folds(parts, plan), reasons)


def say_fitting(labels: Sequence[str], found: Collected) -> list[str]:
    """Say in a few lines what temperatures, weights and thresholds are fitted on, or why not."""
    lines: dict[str, list[str]] = {}
    for label, images, reason in zip(labels, found.images, found.reasons, strict=True):
        line = f"nothing is fitted: {reason}"
        if images is not None:
            line = f"temperatures, weights and thresholds are fitted on {images.name}, "
            line += count_of(len(images), "image") + (f" ({reason})" if reason else "")
        lines.setdefault(line, []).append(label)
    alone = len(lines) == 1
    return [line if alone else f"{', '.join(own)}: {line}" for line, own in lines.items()]


def _of_own_val(
    member: Member, own: OwnVal, plan: Plan, predict: Predict
) -> tuple[FittingImages | None, str]:
    """Ask a model about its own val; returns the reason instead where that cannot be."""
    trained = member.trained
    if own.split is None:
        stored = load_val(trained.run.directory, member.pairs)
        if stored is None or stored.origin.images == member.pairs.origin.images:
            tta = member.pairs.origin.tta
            made = "" if tta == "none" else f" that were made with --tta {tta}"
            return None, (
                f"{trained.label}'s own val is not at hand, and no predictions on it{made} are "
                "stored"
            )
        ids = [f"{stored.origin.images}/{id_}" for id_ in stored.ids.tolist()]
        name = "val as it is stored, not compared with the training images"
        return fitting_images(stored, name, ids), ""
    if not own.names:
        return None, f"{trained.label}'s own val has no other images"
    try:
        pairs = predict(member, own.split, trained.run.directory.predictions("val"))
    except InputError as error:
        return None, f"{trained.label}'s own val cannot be used ({error})"
    ids = [own.names.get(id_, "") for id_ in pairs.ids.tolist()]
    return fitting_images(pairs, plan.name, ids).take(np.flatnonzero(ids)), ""


def _with_different_views(members: Sequence[Member], plan: Plan) -> dict[int, str]:
    """Say, by group, why the answers of models of folds cannot be put together.

    What is fitted on answers of one view is not for those that average several, or the reverse.
    """
    views: dict[int, set[str]] = {}
    for member, own in zip(members, plan.own, strict=True):
        views.setdefault(own.group, set()).add(member.pairs.origin.tta)
    return {
        group: "the models of the folds differ in test-time augmentation "
        f"({', '.join(sorted(found))}); give --tta for all"
        for group, found in views.items()
        if len(found) > 1
    }


def _pool_folds(parts: list[FittingImages | None], plan: Plan) -> list[FittingImages | None]:
    """Give the models of folds what all of them say, each of its own images."""
    groups = [own.group for own in plan.own]
    pooled: list[FittingImages | None] = []
    for part, group in zip(parts, groups):
        several = [p for p, g in zip(parts, groups) if g == group and p is not None]
        if part is not None and len(several) > 1:
            part = pool(several, plan.name, f"folds {group}")
        pooled.append(part)
    return pooled
