"""Tell from names which images are of one patient.

N images.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from common.system.errors import InputError

PATIENT_REGEX = r"(\d+)_(left|right)"  # EyePACS: 10_left.jpeg, 10_right.jpeg


def patients(ids: Sequence[str], pattern: str) -> np.ndarray:
    """Number the patients of ids (N,) as far as their names tell; others are their own."""
    groups = patient_groups(ids, pattern)
    return np.arange(len(ids)) if groups is None else groups


def patient_groups(ids: Iterable[str], pattern: str) -> np.ndarray | None:
    """Group image ids (N,) by what a regular expression's first group finds in the file name.

    An image without a match is its own group; None if no two images belong together. Raises
    InputError for a pattern that is none or has no group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--patient_regex {pattern!r}: {error}") from error
    if expression.groups < 1:
        raise InputError(f"--patient_regex {pattern!r}: expected a group (...) for the patient")
    groups = []
    for name in ids:
        match = expression.search(str(name).rsplit("/", 1)[-1])
        groups.append(f"patient {match[1]}" if match and match[1] else f"image {name}")
    _, numbers = np.unique(groups, return_inverse=True)
    if len(numbers) > 1 and numbers.max() == 0:
        raise InputError(
            f"--patient_regex {pattern!r}: takes all {len(numbers)} images for one patient's"
        )
    return numbers if len(numbers) and numbers.max() + 1 < len(numbers) else None
