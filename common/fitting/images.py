"""What models say of the images that temperatures, weights and thresholds are fitted on.

N images, P pairs of K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.prediction.predictions import PairPredictions
from common.prediction.voting import ClassPredictions, combine_pairs, usable_weights
from common.system.errors import InputError

ADVICE = "prepare_dataset.py split --cal 0.1 keeps images for it that no model learns from"


@dataclass(frozen=True)
class FittingImages:
    """Images for fitting, and what one model says of them, or each fold's model of its own."""

    name: str  # "cal", "val", or "val of 5 folds, out of fold"
    ids: np.ndarray  # (N,) str; the same image has the same for every model
    targets: np.ndarray  # (N,) int, of the models' classes
    pair_probabilities: np.ndarray  # (N, P)
    pair_accuracies: np.ndarray  # (N, P) of the model that was asked, at its best epoch
    num_classes: int
    head: str
    group: str = ""  # of the models that share this: those of the folds; "" for one model's own

    def __len__(self) -> int:
        return len(self.ids)

    def vote(self, vote: str) -> ClassPredictions:
        """Turn pairs into the models' classes, weighted by the accuracies of whoever was asked."""
        if vote != "weighted":
            return combine_pairs(self.pair_probabilities, self.num_classes, vote)
        probabilities = np.empty((len(self), self.num_classes))
        predicted = np.empty(len(self), dtype=np.int64)
        different, own = np.unique(self.pair_accuracies, axis=0, return_inverse=True)
        for place, accuracies in enumerate(different):
            if not usable_weights(accuracies, len(accuracies)):
                raise InputError(
                    "--vote weighted weighs pairs by their accuracy on val, which is not known of "
                    f"each in the models of {self.name}; take --vote coupling"
                )
            rows = own.reshape(-1) == place
            found = combine_pairs(self.pair_probabilities[rows], self.num_classes, vote, accuracies)
            probabilities[rows], predicted[rows] = found.probabilities, found.predicted
        return ClassPredictions(probabilities, predicted)

    def take(self, rows: np.ndarray) -> "FittingImages":
        """Keep some of the images, in the order of their rows."""
        arrays = ("ids", "targets", "pair_probabilities", "pair_accuracies")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays})


def fitting_images(
    pairs: PairPredictions, name: str, ids: Sequence[str] | None = None
) -> FittingImages:
    """Take what one model says of a split; ids: what its images are called, if not as they are."""
    return FittingImages(
        name=name,
        ids=pairs.ids if ids is None else np.array(ids, dtype=np.str_),
        targets=pairs.targets,
        pair_probabilities=pairs.pair_probabilities,
        pair_accuracies=np.broadcast_to(pairs.pair_accuracies, pairs.pair_probabilities.shape),
        num_classes=pairs.num_classes,
        head=pairs.head,
    )


def pool(parts: Sequence[FittingImages], name: str, group: str) -> FittingImages:
    """Put what the models of several folds say of their own images together, by their ids.

    An image that several models have is taken from the first.
    """
    pooled = FittingImages(
        name=name,
        ids=np.concatenate([part.ids for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        pair_probabilities=np.concatenate([part.pair_probabilities for part in parts]),
        pair_accuracies=np.concatenate([part.pair_accuracies for part in parts]),
        num_classes=parts[0].num_classes,
        head=parts[0].head,
        group=group,
    )
    return pooled.take(np.unique(pooled.ids, return_index=True)[1])


def shared_rows(images: Sequence[FittingImages]) -> list[np.ndarray]:
    """Find the images that all models have with one grade; the rows (n,) of each model's, alike.

    In the order of the first model's images.
    """
    ids, targets = images[0].ids, images[0].targets
    places = [{id_: row for row, id_ in enumerate(each.ids.tolist())} for each in images]
    kept = [
        id_
        for id_, target in zip(ids.tolist(), targets)
        if all(
            id_ in place and each.targets[place[id_]] == target
            for place, each in zip(places, images)
        )
    ]
    return [np.array([place[id_] for id_ in kept], dtype=np.int64) for place in places]
