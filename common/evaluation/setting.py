"""What all models of an evaluation, and their ensemble, are evaluated with.

N images.
"""

from dataclasses import dataclass

from common.data.metadata import Metadata
from common.evaluation.independence import NOT_LOOKED_FOR, HoldoutFindings
from common.fitting.grader import PatientsOf
from common.listing.column_values import Columns
from common.metrics.grade_mix import GradeMix
from common.metrics.intervals import BootstrapConfig
from common.screening.patients import People
from common.system.log import printable


@dataclass(frozen=True)
class Setting:
    """What is evaluated, how it is measured, and what is known of the images."""

    split: str
    dataset_path: str
    synthetic: str  # a note where the images were drawn by this software
    vote: str
    weights: tuple[str, ...]  # of the models in their ensemble: a method, or numbers
    calibrate: bool
    bootstrap: BootstrapConfig
    patients_of: PatientsOf  # of images by their ids
    people: People  # who the images are of
    grade_mix: GradeMix | None  # of a population at which results are restated
    columns: Columns  # what metadata.csv says of the images
    skipped: dict[str, list[str]]  # by split, images that cannot be read
    metadata: Metadata | None  # what metadata.csv says of the whole dataset
    unfinished: tuple[str, ...] = ()  # which models are not trained to their end
    holdout: HoldoutFindings = NOT_LOOKED_FOR
    unknown: tuple[str, ...] = ()  # what is not known of the images that things are fitted on

    def describe(self) -> dict[str, object]:
        """Say in a file what was evaluated."""
        return {
            "split": self.split,
            "dataset_path": self.dataset_path,
            "synthetic": self.synthetic,
            **({"skipped": self.skipped} if self.skipped else {}),
            **({"unfinished": self.unfinished} if self.unfinished else {}),
        }

    def remarks(self) -> list[str]:
        """Say in a report what its figures leave out, and what is not known."""
        skipped = self.skipped.get(self.split, [])
        more = f" and {len(skipped) - 10} more" if len(skipped) > 10 else ""
        names = ", ".join(map(printable, skipped[:10]))
        text = f"left out by --skip_unreadable: {len(skipped)} images, {names}{more}"
        return [*self.unfinished, *([text] if skipped else []), *self.unknown]
