"""Find what an evaluation chose for models, by the fingerprints of their classifiers.

M models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.grading.grader_file import load_grader
from common.grading.stored_grader import StoredGrader
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run
from common.system.errors import InputError

DEFAULT_ENSEMBLE = Path("super_ensemble_results")  # where evaluate_ensemble.py writes


@dataclass(frozen=True)
class FoundGrader:
    """What was chosen for models, or why nothing is known."""

    grader: StoredGrader | None
    order: tuple[int, ...] = ()  # (M,) the place of each of its models among those that were given
    why_none: str = ""  # without the name of a place: it goes with the rows, and to other machines
    looked_for: str = ""  # where, and what is there


@dataclass(frozen=True)
class GivenGrader:
    """What was chosen, as the user named it."""

    path: Path
    grader: StoredGrader


def given_grader(file: Path | None, directories: Sequence[Path]) -> GivenGrader | None:
    """Read the grader in a file, or of an ensemble's directory; None where neither is given.

    An ensemble's directory is one without classifiers of its own.
    """
    path = file
    if path is None and len(directories) == 1:
        directory = ResultDir(directories[0])
        if directory.grader.is_file() and not any(directory.models.glob("*.pth")):
            path = directory.grader
    return None if path is None else GivenGrader(path, load_grader(path))


def find_grader(fingerprints: Sequence[str], directories: Sequence[Path]) -> FoundGrader:
    """Look for the grader of models in the usual place: their own, or their ensemble's.

    fingerprints, directories: (M,) of the models. Raises InputError for a file that is no grader.
    """
    home = directories[0] if len(directories) == 1 else DEFAULT_ENSEMBLE
    path = ResultDir(home).grader
    if not path.is_file():
        what = "evaluated" if len(directories) == 1 else "evaluated together"
        return FoundGrader(None, (), f"not known to have been {what}", f"{path} is not there")
    grader = load_grader(path)
    if not is_of(grader, fingerprints):
        why = "as they are now" if len(directories) == 1 else "together"
        found = f"{path} is of {'earlier' if len(directories) == 1 else 'other'} classifiers"
        return FoundGrader(None, (), f"not known to have been evaluated {why}", found)
    return FoundGrader(grader, order_of(grader, fingerprints))


def is_of(grader: StoredGrader, fingerprints: Sequence[str]) -> bool:
    """Tell whether a grader is that of these models, in any order."""
    return sorted(member.checkpoints for member in grader.members) == sorted(fingerprints)


def order_of(grader: StoredGrader, fingerprints: Sequence[str]) -> tuple[int, ...]:
    """Return (M,) the place of each of a grader's models among the fingerprints."""
    return tuple(list(fingerprints).index(member.checkpoints) for member in grader.members)


def require_of(grader: StoredGrader, fingerprints: Sequence[str], path: Path) -> tuple[int, ...]:
    """Return `order_of`; raises InputError for a grader that was chosen for other models."""
    if not is_of(grader, fingerprints):
        names = ", ".join(member.label for member in grader.members)
        raise InputError(
            f"{path}: was chosen for other classifiers than those that are there (it names "
            f"{names}); evaluate them again, or leave it out"
        )
    return order_of(grader, fingerprints)


def runs_of(grader: StoredGrader) -> list[Run]:
    """Find the models of a grader where it says that they are."""
    for member in grader.members:
        if not member.directory.is_dir():
            raise InputError(
                f"{member.directory}: the result directory of {member.label} is not there any "
                "more; pass those of all models with --results_dirs, and --grader"
            )
    return [find_run(ResultDir(member.directory)) for member in grader.members]
