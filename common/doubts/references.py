"""What training pictures look like to a model's networks, and how far new ones are from that.

The pooled features of some training pictures, each of length 1, are kept beside the model. How far
a new picture is from them is the distance to its k-th nearest one (Sun, Ming, Zhu & Li 2022,
"Out-of-distribution detection with deep nearest neighbors", eq. 1 to 3). From which distance on it
is unlike them is chosen on the model's own val, of which nearly all must lie below.

N new pictures, R training pictures, F features.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from common.doubts.gradability import STATISTICS, Limits
from common.result_dir.stored import read_predictions, write_predictions
from common.system.errors import InputError

NEIGHBOUR = 3  # k
QUANTILE = 0.99  # of val that lies within the threshold, at least
FEWEST_OF_VAL = 20  # pictures from which a threshold is chosen
_ENOUGH_OF_VAL = 99  # from which on the quantile is one of their distances
_MARGIN = 0.5  # of the distance from their median to the greatest, if there were hardly any
MOST_PICTURES = 1000  # of the training, and of val, that are looked at by default
_BLOCK = 256  # new pictures that are compared at a time


@dataclass(frozen=True)
class Neighbourhood:
    """Training pictures as a model's networks see them, and what is too far from them."""

    features: np.ndarray  # (R, F) float32, each of length 1
    threshold: float  # a picture that is farther away is unlike these; NaN: none was chosen
    chosen_on: int  # pictures of val
    why_none: str = ""  # why there is no threshold


@dataclass(frozen=True)
class Reference:
    """What is kept of a model's training pictures to tell which new ones it knows nothing of."""

    checkpoints: str  # fingerprint of the classifiers' files
    pixels: str  # `cache_key` of the preprocessing
    drawn: int  # how many pictures were asked for, at most
    neighbourhood: Neighbourhood
    limits: Limits | None  # of plain statistics
    why_no_limits: str = ""


def normalised(features: np.ndarray) -> np.ndarray:
    """Bring pooled features (N, F) to length 1; what has none stays 0."""
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(np.float32).tiny)


def distances(known: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return (N,) how far pooled features (N, F) are from the k-th nearest of (R, F), 0 to 2."""
    k, found = min(NEIGHBOUR, len(known)) - 1, []
    for start in range(0, len(features), _BLOCK):
        cosines = normalised(features[start : start + _BLOCK]) @ known.T
        nearest = -np.partition(-cosines, k, axis=1)[:, k]
        found.append(np.sqrt(np.maximum(2 - 2 * nearest, 0)))
    return np.concatenate(found) if found else np.empty(0, np.float32)


def choose_neighbourhood(train: np.ndarray, val: np.ndarray) -> Neighbourhood:
    """Choose the threshold for pooled features of training pictures (R, F) on those of val (N, F).

    It is the distance that ceil(0.99 (N + 1)) of val's pictures do not exceed, so that of new
    pictures like these about 1 % do. Where val is too small for that, it lies beyond the greatest
    one, the farther the smaller val is.
    """
    known = normalised(train)
    if len(val) < FEWEST_OF_VAL or len(train) <= NEIGHBOUR:
        why = (
            f"{len(train)} training pictures and {len(val)} of val, more than {NEIGHBOUR} and at "
            f"least {FEWEST_OF_VAL} are needed"
        )
        return Neighbourhood(known, math.nan, len(val), why)
    found = np.sort(distances(known, val))
    if len(found) < _ENOUGH_OF_VAL:
        margin = _MARGIN * (1 - len(found) / _ENOUGH_OF_VAL)
        threshold = found[-1] + margin * (found[-1] - np.median(found))
    else:
        threshold = found[math.ceil(QUANTILE * (len(found) + 1) - 1e-9) - 1]
    return Neighbourhood(known, float(threshold), len(found))


def save_reference(path: Path, reference: Reference) -> None:
    """Write what is kept of training pictures."""
    own, limits = reference.neighbourhood, reference.limits
    arrays = {"features": own.features}
    if limits is not None:
        arrays |= {"low": limits.low, "high": limits.high}
    details: dict[str, Any] = {
        "checkpoints": reference.checkpoints,
        "pixels": reference.pixels,
        "drawn": reference.drawn,
        "neighbour": NEIGHBOUR,
        "quantile": QUANTILE,
        "threshold": None if own.why_none else own.threshold,
        "chosen_on": own.chosen_on,
        "why_none": own.why_none,
        "statistics": [each.name for each in STATISTICS],
        "pictures": 0 if limits is None else limits.pictures,
        "why_no_limits": reference.why_no_limits,
    }
    write_predictions(path, arrays, details)


def load_reference(path: Path) -> Reference:
    """Read what `save_reference` wrote; raises InputError for anything else."""
    try:
        reference = _parse(*read_predictions(path))
    except (InputError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = error.__cause__ if isinstance(error, InputError) else error
        raise InputError(
            f"{path}: expected what evaluate_ensemble.py keeps of training pictures ({reason}); "
            "remove it and evaluate again (beside an exported network: copy it there again)"
        ) from error
    return reference


def _parse(arrays: dict[str, np.ndarray], details: dict[str, Any]) -> Reference:
    made_as = details["neighbour"], details["quantile"], details["statistics"]
    if made_as != (NEIGHBOUR, QUANTILE, [each.name for each in STATISTICS]):
        raise ValueError(f"made by another version, with {made_as}")
    threshold, features = details["threshold"], arrays["features"]
    why_none, why_no_limits = str(details["why_none"]), str(details["why_no_limits"])
    value = math.nan if threshold is None else float(threshold)
    if features.ndim != 2 or features.dtype != np.float32 or not np.isfinite(features).all():
        raise ValueError(f"features of shape {features.shape}, {features.dtype}")
    if math.isnan(value) != bool(why_none) or (not why_none and len(features) <= NEIGHBOUR):
        raise ValueError(f"threshold {threshold}")
    limits = None
    if not why_no_limits:
        limits = Limits(arrays["low"], arrays["high"], int(details["pictures"]))
        shapes = {(field.name, getattr(limits, field.name).shape) for field in fields(limits)[:2]}
        if {shape for _, shape in shapes} != {(len(STATISTICS),)}:
            raise ValueError(f"limits of shapes {shapes}")
    return Reference(
        str(details["checkpoints"]),
        str(details["pixels"]),
        int(details["drawn"]),
        Neighbourhood(features, value, int(details["chosen_on"]), why_none),
        limits,
        why_no_limits,
    )
