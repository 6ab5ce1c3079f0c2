"""Write the readable report of an evaluation: one HTML file with everything in it.

N images, K classes. The words stand in `templates/report.html`.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from common.evaluation.gates import PASS, rating, rule_of
from common.pixels.decoding import ImageError, decode_image, shrunk
from common.prediction.voting import ClassPredictions
from common.reporting import summary
from common.reporting.summary import Report
from common.reporting.weakness_tables import weaknesses
from common.result_dir.paths import ResultDir
from common.system.environment import versions
from common.system.files import write_text
from common.system.log import utc_now

_MOST_MISTAKES = 12
_SIDE = 480  # pixels of a photograph's longer side
_QUALITY = 82  # of its JPEG; about 25 KB each


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    title: str
    caption: str
    source: str  # a data URI, "" for a picture that cannot be read
    width: int = 0  # pixels
    height: int = 0

    @property
    def wide(self) -> bool:
        """Tell whether it needs the room of several."""
        return self.width >= 1300 or self.width > 1.7 * self.height


@dataclass(frozen=True)
class MistakePictures:
    """Mistakes drawn with their evidence, in place of the photograph alone."""

    pictures: Mapping[int, Image.Image] = field(default_factory=dict)  # by row of the split
    captions: Mapping[int, str] = field(default_factory=dict)
    words: str = ""  # what they show
    why_none: str = ""


_NONE = MistakePictures()


@dataclass(frozen=True)
class FigureWords:
    """What is written beside a figure of the evaluation."""

    name: str  # of its file
    title: str
    caption: str  # what to read off


FIGURES = (
    FigureWords(
        "confusion",
        "Confusion matrix",
        "Each row holds the images of one label, each column those that got one prediction. What "
        "lies on the diagonal is right; the farther from it, the worse the mistake.",
    ),
    FigureWords(
        "roc",
        "ROC curves of referral",
        "How sensitivity grows as specificity is given up. The nearer to the upper left corner, "
        "the better; on the diagonal, referral is a coin toss. Marks are operating points with "
        "their intervals, and what trials of other systems asked or found on other people.",
    ),
    FigureWords(
        "roc_grades",
        "ROC curves by grade",
        "How well each grade is told from all others. A grade of few images has a ragged curve.",
    ),
    FigureWords(
        "reliability",
        "Calibration",
        "How often a prediction is right, against how sure the model says it is. On the diagonal "
        "it can be taken at its word; below it, it is too sure. The bars count the images: what "
        "rests on few is uncertain.",
    ),
    FigureWords(
        "referral",
        "Referral",
        "What is gained by showing the images that the model is least sure of to a person: how "
        "good its grades are on the images that it keeps, against the share that it hands over.",
    ),
    FigureWords(
        "subgroups",
        "Subgroups",
        "One figure in each group of images, with its 95 % interval and the number of images. "
        "Intervals that lie apart are worth a look; wide ones say little.",
    ),
    FigureWords(
        "sets",
        "Sets of grades",
        "Instead of one grade, the grades that cannot be ruled out: how often the set holds the "
        "label, against what was promised, and how many grades it has. Small sets say more.",
    ),
    FigureWords(
        "robustness",
        "Robustness",
        "What changes when the same photographs are altered as cameras, software and hands alter "
        "them: the fewer grades and referrals flip, and the less kappa drops, the sturdier.",
    ),
    FigureWords(
        "label_errors",
        "Likely label errors",
        "Images whose label the model contradicts with confidence: to be graded again by a person.",
    ),
)


def page_templates(*folders: Path) -> Environment:
    """Make pages of templates in these folders, and of this one's style and tables."""
    return Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(directory: ResultDir, report: Report, drawn: MistakePictures = _NONE) -> None:
    """Write report.html: what was tested on what, results, pictures, mistakes, gates, limits.

    The figures of the evaluation that have been drawn into the directory are shown. drawn: mistakes
    with their evidence.
    """
    split, predictions = report.split, report.grader.judged_on.classes
    template = page_templates().get_template("report.html")
    html = template.render(
        title=f"Diabetic-retinopathy grading: {report.results.title}",
        report=report,
        classes=report.grader.scored,
        headlines=summary.headlines(report),
        tested_on=summary.tested_on(report),
        population=summary.population(report),
        chosen_on=summary.chosen_on(report),
        not_for=summary.NOT_FOR,
        limits=summary.LIMITS,
        warnings=summary.warnings(report),
        weaknesses=weaknesses(report.answers),
        written=utc_now(),
        pytorch=versions()["torch"],
        rating=rating(report.gates),
        passed=sum(gate.status == PASS for gate in report.gates),
        figures=figure_pictures(directory, split.name),
        holdout=[gate for gate in report.gates if gate.key == "holdout"],
        undefined=[table for table in report.results.tables if table.name == "undefined"],
        mistakes=[
            mistake_picture(report, index, drawn)
            for index in worst_mistakes(split.labels, predictions)
        ],
        drawn=drawn,
        num_mistakes=int((split.labels != predictions.predicted).sum()),
        gate_rule=rule_of(report.gates),
        checklist=directory.checklist(split.name).name,
    )
    write_text(directory.report(split.name), html)


def figure_pictures(directory: ResultDir, split: str) -> list[Picture]:
    """Embed the figures of a split that are there."""
    found = [(words, directory.figure(f"{words.name}_{split}")) for words in FIGURES]
    return [
        embed_figure(path, words.title, words.caption) for words, path in found if path.is_file()
    ]


def worst_mistakes(targets: np.ndarray, predictions: ClassPredictions) -> list[int]:
    """List the wrong predictions: farthest from the true grade first, then the most confident.

    targets (N,). Returns at most 12 indices.
    """
    distance = np.abs(targets - predictions.predicted)
    confidence = predictions.probabilities[np.arange(len(targets)), predictions.predicted]
    order = np.lexsort((-confidence, -distance))
    return order[: min(_MOST_MISTAKES, int((distance > 0).sum()))].tolist()


def mistake_picture(report: Report, index: int, drawn: MistakePictures = _NONE) -> Picture:
    """Show an image with its true grade, the predicted one and the confidence in that."""
    predictions, names = report.grader.judged_on.classes, report.grader.scored.names
    image, predicted = report.split.images[index], predictions.predicted[index]
    confidence = 100 * predictions.probabilities[index, predicted]
    graded = f"{names[predicted]} ({confidence:.0f}\N{NO-BREAK SPACE}%)"
    title = f"label {names[image.label]}, graded as {graded}"
    if index in drawn.pictures:
        return embed_photograph(
            drawn.pictures[index], title, f"{image.id}: {drawn.captions[index]}"
        )
    return thumbnail(image.path, title, image.id)


def embed_figure(path: Path, title: str, caption: str) -> Picture:
    """Embed a PNG as it is."""
    data = path.read_bytes()
    width, height = Image.open(io.BytesIO(data)).size
    return Picture(title, caption, data_uri(data, "png"), width, height)


def thumbnail(path: Path, title: str, caption: str) -> Picture:
    """Embed a small copy of a photograph; without it if it cannot be read."""
    try:
        photograph = Image.fromarray(decode_image(path.read_bytes(), str(path)))
    except (OSError, ImageError):
        return Picture(title, caption, "")
    return embed_photograph(shrunk(photograph, _SIDE), title, caption)


def embed_photograph(photograph: Image.Image, title: str, caption: str) -> Picture:
    """Embed a picture in its size."""
    buffer = io.BytesIO()
    photograph.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return Picture(title, caption, data_uri(buffer.getvalue(), "jpeg"), *photograph.size)


def data_uri(data: bytes, kind: str) -> str:
    """Write a picture of a kind such as "jpeg" so that a page can hold it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
