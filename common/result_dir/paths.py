"""The names of everything in a result directory; other modules ask for them here.

Tables and figures are asked for by their name without the ending.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.pairs import Head
from common.system.files import remove_leftovers

FIGURE_FORMATS = ("svg", "pdf", "none")  # of the vector file beside each PNG; the first by default
REVIEWED = "label_errors"  # the one table that people write in


def of_split(name: str, split: str) -> str:
    """Name a file after its split, but for those of `test`, which go without."""
    return name if split == "test" else f"{name}_{split}"


@dataclass(frozen=True)
class ResultDir:
    """The paths inside one result directory."""

    root: Path

    @property
    def models(self) -> Path:
        """Folder of the best classifiers."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Folder of what resuming needs."""
        return self.root / "checkpoints"

    @property
    def results(self) -> Path:
        """Folder of numbers and figures."""
        return self.root / "results"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "logs" / "tensorboard"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.json"

    @property
    def history(self) -> Path:
        """One row per pair and epoch."""
        return self.root / "logs" / "history.csv"

    @property
    def lock(self) -> Path:
        """Locked for moments, by who writes what all trainings here share."""
        return self.root / ".lock"

    def head_lock(self, model: str, head: Head) -> Path:
        """Locked by the training of a head, so that no second one trains it."""
        return self.root / f".lock_{model}_{head.file_suffix}"

    def best(self, model: str, head: Head) -> Path:
        """The best classifier of a head."""
        return self.models / f"best_{model}_{head.file_suffix}.pth"

    def last(self, model: str, head: Head) -> Path:
        """The state after a head's last epoch, for resuming."""
        return self.checkpoints / f"last_{model}_{head.file_suffix}.pth"

    def previous(self, model: str, head: Head) -> Path:
        """The state before the last one, should that turn out to be damaged."""
        return self.checkpoints / f"previous_{model}_{head.file_suffix}.pth"

    def is_unfinished(self) -> bool:
        """Tell whether a classifier is left to resume."""
        return any(self.checkpoints.glob("last_*")) or any(self.checkpoints.glob("previous_*"))

    def goes_on(self, model: str, head: Head) -> bool:
        """Tell whether there is a state that a classifier's training goes on from."""
        return any(path(model, head).is_file() for path in (self.last, self.previous))

    def remove_leftovers(self, model: str, heads: Iterable[Head]) -> None:
        """Remove the half-written files of a training that was killed.

        To be called by who has locked these heads, and what all share.
        """
        for path in (self.config, self.history):
            remove_leftovers(path.parent, path.name)
        for head in heads:
            for named in (self.best, self.last, self.previous):
                path = named(model, head)
                remove_leftovers(path.parent, path.name)

    def metrics(self, split: str) -> Path:
        """Numbers of an evaluation."""
        return self.results / f"metrics_{split}.json"

    def predictions(self, split: str) -> Path:
        """Probabilities of an evaluation, image by image."""
        return self.results / f"predictions_{split}.npz"

    def fitting(self, split: str) -> Path:
        """What an evaluation has fitted temperatures and weights on, image by image."""
        return self.results / f"fitting_{split}.npz"

    @property
    def grader(self) -> Path:
        """What an evaluation chose for grading new pictures."""
        return self.results / "grader.json"

    @property
    def reference(self) -> Path:
        """What training pictures look like to the network, and in plain statistics."""
        return self.results / "reference.npz"

    def validation(self, split: str) -> Path:
        """The guide's gates and the rating that follows."""
        return self.results / f"{of_split('validation', split)}.json"

    def comparison(self, split: str) -> Path:
        """Models compared with each other."""
        return self.results / f"{of_split('comparison', split)}.json"

    def diversity(self, split: str) -> Path:
        """How differently models err."""
        return self.results / f"{of_split('diversity', split)}.json"

    def per_class(self, split: str) -> Path:
        """Models compared grade by grade."""
        return self.results / f"{of_split('per_class', split)}.json"

    def report(self, split: str) -> Path:
        """The readable report, one file."""
        return self.results / f"{of_split('report', split)}.html"

    def checklist(self, split: str) -> Path:
        """What a paper on the evaluation must say, filled in as far as a run can tell."""
        return self.results / f"{of_split('checklist', split)}.md"

    def mistakes(self, split: str) -> Path:
        """The worst mistakes with their evidence maps."""
        return self.results / f"mistakes_{split}.jpg"

    @property
    def model_card(self) -> Path:
        """What the model is, was trained on, reaches and is not for, in the hub's format."""
        return self.root / "MODEL_CARD.md"

    def review_sheet(self, split: str) -> Path:
        """The images to be graded again, where a grader writes down what is found."""
        return self.results / f"{REVIEWED}_{split}.csv"

    def table(self, name: str) -> Path:
        """A table."""
        return self.results / f"{name}.csv"

    @property
    def tables(self) -> Path:
        """Folder of the tables that a report shows."""
        return self.results / "tables"

    def split_table(self, name: str, split: str) -> Path:
        """A table as the report of a split shows it."""
        return self.tables / f"{name}_{split}.csv"

    def figure(self, name: str) -> Path:
        """A figure as PNG; beside it lies one in a vector format, if that was asked for."""
        return self.results / f"{name}.png"


@dataclass(frozen=True)
class AnalysisFiles:
    """The paths of what is said of single classifiers; the folder can be one of the user's."""

    folder: Path

    @property
    def numbers(self) -> Path:
        """The table, as JSON."""
        return self.folder / "model_analysis.json"

    @property
    def table(self) -> Path:
        """The table, as CSV."""
        return self.folder / "model_analysis.csv"

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.folder / "training_curves.png"


@dataclass(frozen=True)
class EvidenceDir:
    """The paths of what is written of pictures that were explained, in a folder of the user's."""

    folder: Path

    @property
    def page(self) -> Path:
        """All of it, to be looked at."""
        return self.folder / "evidence.html"

    @property
    def settings(self) -> Path:
        """What the maps were made with."""
        return self.folder / "evidence.run.json"

    @property
    def lock(self) -> Path:
        """Locked by the run that writes."""
        return self.folder / ".evidence.lock"

    @property
    def parts(self) -> tuple[Path, ...]:
        """The folders of what there is of each picture."""
        return tuple(self.folder / name for name in ("pictures", "overlays", "maps"))

    def picture(self, stem: str) -> Path:
        """The square that the networks saw."""
        return self.parts[0] / f"{stem}.jpg"

    def overlay(self, stem: str, decision: str) -> Path:
        """The evidence for a decision, drawn over it."""
        return self.parts[1] / f"{stem}_{decision}.png"

    def maps(self, stem: str) -> Path:
        """The evidence in numbers."""
        return self.parts[2] / f"{stem}.npz"
