"""Whether the images that results are of, and those that things are fitted on, are new to models.

`audit/holdout.py` looks; gates, files and reports take it from here.
"""

from dataclasses import asdict, dataclass
from typing import Any

from common.evaluation.gates import NOT_MEASURED, Holdout

_NAMED = 3  # models of one split


@dataclass(frozen=True)
class Overlap:
    """What a model has seen of a split that things are chosen on, or of what belongs with it."""

    split: str  # val or cal of the evaluated dataset
    model: str  # its label
    seen_as: str  # "train": the model learned from it; "val": its epochs were chosen on it
    images: int  # of the split: the same, edited or of the same eye; patients are in `found` alone
    of: int  # images of the split
    found: str  # in words, with an example


@dataclass(frozen=True)
class HoldoutFindings:
    """Whether the evaluated images are independent, and those that things are fitted on."""

    evaluated: Holdout  # what the gate takes
    overlaps: tuple[Overlap, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what metrics_<split>.json holds of it."""
        return {
            "holdout": [self.evaluated.status, self.evaluated.reason],
            "holdout_overlaps": [asdict(overlap) for overlap in self.overlaps],
        }

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
                f"{_follows(split, evaluated, fitted_on)}"
            )
        return lines


NOT_LOOKED_FOR = HoldoutFindings(Holdout(NOT_MEASURED, "not looked for"))


def _follows(split: str, evaluated: str, fitted_on: str) -> str:
    if split == evaluated:
        return "Results on these images are better than the models are"
    if split == fitted_on:
        return "What is fitted on it (temperatures, weights, thresholds) is not to be trusted"
    return f"Nothing is fitted on it{f', but on {fitted_on}' if fitted_on else ''}"
