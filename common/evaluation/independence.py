"""Whether the images that results are of, and those that things are fitted on, are new to models.

`audit/holdout.py` looks; gates, files and reports take it from here.
"""

from dataclasses import dataclass
from typing import Any

from common.evaluation.gates import NOT_MEASURED, Holdout
from common.fitting.sources import Seen

_NAMED = 3  # models of one split
_SUBSTANTIAL = 0.05  # of a split's images: what is fitted on these is that of images by heart


@dataclass(frozen=True)
class Overlap:
    """What a model has seen of a split that things are chosen on, or of what belongs with it."""

    split: str  # val or cal of the evaluated dataset
    model: str  # its label
    seen_as: str  # "train": the model learned from it; "val": its epochs were chosen on it
    ids: frozenset[str]  # images of the split: the same, edited, or of the same eye
    of: int  # images of the split
    found: str  # in words, with an example; patients are in it alone

    @property
    def images(self) -> int:
        """How many images of the split the model has seen."""
        return len(self.ids)

    @property
    def substantial(self) -> bool:
        """Tell whether these are too many for anything to be fitted on the split."""
        return self.images > 1 and self.images > _SUBSTANTIAL * self.of

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        kept = {name: value for name, value in vars(self).items() if name != "ids"}
        return kept | {"images": self.images}


@dataclass(frozen=True)
class HoldoutFindings:
    """Whether the evaluated images are independent, and those that things are fitted on."""

    evaluated: Holdout  # what the gate takes
    overlaps: tuple[Overlap, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "holdout": [self.evaluated.status, self.evaluated.reason],
            "holdout_overlaps": [overlap.to_json() for overlap in self.overlaps],
        }

    def learned(self) -> list[Seen]:
        """List which models have learned from too much of val or cal to be fitted on it."""
        return [
            Seen(overlap.split, overlap.model, overlap.ids, overlap.found)
            for overlap in self.overlaps
            if overlap.seen_as == "train" and overlap.substantial
        ]

    def remarks(self, evaluated: str, fitted_on: str) -> list[str]:
        """Say in a line for each split who has seen it, and what follows.

        evaluated: name of the split that results are of; fitted_on: of the images that
        temperatures, weights and thresholds are fitted on, "" for none.
        """
        lines = []
        for split in dict.fromkeys(overlap.split for overlap in self.overlaps):
            mine = [overlap for overlap in self.overlaps if overlap.split == split]
            said = [f"{overlap.model}: {overlap.found}" for overlap in mine[:_NAMED]]
            if len(mine) > _NAMED:
                said.append(f"and {len(mine) - _NAMED} more such findings")
            lines.append(
                f"{split} is not new to all models: {'; '.join(said)}. "
                f"{_follows(split, evaluated, fitted_on, any(o.substantial for o in mine))}"
            )
        return lines


NOT_LOOKED_FOR = HoldoutFindings(Holdout(NOT_MEASURED, "not looked for"))


def _follows(split: str, evaluated: str, fitted_on: str, substantial: bool) -> str:
    if split == evaluated:
        return "Results on these images are better than the models are"
    if fitted_on.split(" (")[0] == split:  # which may say what is not known of it
        is_so = "is not to be trusted" if substantial else "may look better than it is"
        return f"What is fitted on it (temperatures, weights, thresholds) {is_so}"
    return f"Nothing is fitted on it{f', but on {fitted_on}' if fitted_on else ''}"
