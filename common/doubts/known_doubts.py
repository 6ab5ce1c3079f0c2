"""Which pictures are not to be graded: nobody could, or the models know nothing like them.

N pictures of a chunk, M models, S pixels of a model's square side, Q statistics.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.doubts.gradability import Limits, measure_square, why_ungradable
from common.doubts.references import Neighbourhood, Reference, distances, load_reference
from common.grading.networks import Said


@dataclass(frozen=True)
class KnownDoubts:
    """Tells which pictures are not to be graded, by what is kept of the models' training pictures.

    Whether a picture is ungradable is told by the pixels of the first model that has limits, and
    whether it is unlike the training pictures by more than half of all models: one that does not
    know it does not say so.
    """

    references: tuple[Reference | None, ...]  # (M,)
    why_not_known: str = ""  # what cannot be told, and why

    @property
    def fingerprint(self) -> str:
        """Name what the doubts rest on: other thresholds have another one."""
        digest = hashlib.sha256()
        for reference in self.references:
            digest.update(b"none" if reference is None else _bytes_of(reference))
        return digest.hexdigest()[:16]

    @property
    def tells_ungradable(self) -> bool:
        """Whether a model has limits by which to tell what cannot be graded."""
        return self._limits()[1] is not None

    @property
    def tells_unlike(self) -> bool:
        """Whether so many models have pictures to compare others with that they can be most."""
        return is_most(sum(_knows(own) for own in self.references), len(self.references))

    def look(self, squares: Sequence[np.ndarray]) -> np.ndarray | None:
        """Measure a picture (S, S, 3) uint8, as each model sees it, for `ungradable`."""
        place, limits = self._limits()
        return None if limits is None else measure_square(squares[place])

    def ungradable(self, measured: np.ndarray | None) -> str:
        """Say why a picture cannot be graded; "" where it can, or where that is not known."""
        _, limits = self._limits()
        return "" if limits is None or measured is None else why_ungradable(measured, limits)

    def unlike(self, said: Said) -> list[str]:
        """Say (N,) in how far pictures are unlike those of the training; "" where they are not."""
        known = [
            (reference.neighbourhood, features)
            for reference, features in zip(self.references, said.features)
            if reference is not None and _knows(reference)
        ]
        far = [distances(own.features, features) for own, features in known]
        neighbourhoods, models = [own for own, _ in known], len(self.references)
        return [
            _in_words(neighbourhoods, [float(each[n]) for each in far], models)
            for n in range(len(said.pair_probabilities[0]))
        ]

    def _limits(self) -> tuple[int, Limits | None]:
        for place, reference in enumerate(self.references):
            if reference is not None and reference.limits is not None:
                return place, reference.limits
        return 0, None


def _bytes_of(reference: Reference) -> bytes:
    own, limits = reference.neighbourhood, reference.limits
    arrays = [own.features] if limits is None else [own.features, limits.low, limits.high]
    text = f"{reference.checkpoints} {reference.pixels} {own.threshold!r}"
    return text.encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def is_most(count: int, models: int) -> bool:
    """Tell whether so many of the models are most of them."""
    return 2 * count > models


def _knows(reference: Reference | None) -> bool:
    return reference is not None and not reference.neighbourhood.why_none


def _in_words(known: Sequence[Neighbourhood], far: Sequence[float], models: int) -> str:
    """Say that a picture is unlike the training pictures by most models; "" where it is not."""
    beyond = [(value, own.threshold) for value, own in zip(far, known) if value > own.threshold]
    if not is_most(len(beyond), models):
        return ""
    value, threshold = max(beyond, key=lambda both: both[0] / both[1] if both[1] else both[0])
    return (
        f"its distance from them is {value:.3g}, that of nearly all of val at most {threshold:.3g}"
    )


EVALUATE = "evaluate_ensemble.py writes it where the training images are"
COPY = "copy it along with the network: export_model.py writes it beside that of an evaluated model"


def load_doubts(
    paths: Sequence[Path], fingerprints: Sequence[str], way_out: str = EVALUATE
) -> KnownDoubts:
    """Read what is kept of models' training pictures; fingerprints: (M,) of their classifiers.

    way_out: what helps where it is not there. Raises InputError for a file that is not what
    evaluations keep.
    """
    references: list[Reference | None] = []
    reasons = []
    for path, fingerprint in zip(paths, fingerprints, strict=True):
        found, why = None, ""
        if not path.is_file():
            why = f"{path} is not there; {way_out}"
        else:
            found = load_reference(path)
            if found.checkpoints != fingerprint:
                found, why = None, f"{path} is of earlier classifiers; evaluate again"
        references.append(found)
        reasons.append(why)
    return KnownDoubts(tuple(references), _why_not_known(paths, references, reasons))


def _why_not_known(
    paths: Sequence[Path], references: Sequence[Reference | None], missing: Sequence[str]
) -> str:
    """Say what cannot be told, by any model or by some, and why by the first of these."""
    no_limits, no_distance = [], []
    for path, own, reason in zip(paths, references, missing):
        why_no_limits = reason if own is None else own.why_no_limits
        why_no_distance = reason if own is None else own.neighbourhood.why_none
        no_limits += [reason or f"{path}: {why_no_limits}"] if why_no_limits else []
        no_distance += [reason or f"{path}: {why_no_distance}"] if why_no_distance else []
    count, said = len(references), []
    if no_limits:
        known = count - len(no_limits)
        what = f"told by {known} of {count} models alone" if known else "not known"
        said.append((f"{what} whether pictures can be graded", no_limits[0]))
    if no_distance:
        tells = is_most(count - len(no_distance), count)
        what = f"{'' if tells else 'not known '}whether pictures are unlike the training's"
        most = f" (more than half of {count} models must say so, and {len(no_distance)} cannot)"
        said.append((what + (most if count > 1 else ""), no_distance[0]))
    reasons = dict.fromkeys(why for _, why in said)  # one is often the reason of both
    found = [f"{'; '.join(text for text, why in said if why == each)}: {each}" for each in reasons]
    return "; ".join(found)
