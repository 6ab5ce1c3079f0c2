"""Write the readable report of an evaluation: one HTML file with everything in it.

N images, K classes. The words stand in `templates/report.html`.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from common.data.folders import Split
from common.data.synthetic import synthetic_note
from common.evaluation.gates import PASS, Gate, rating, rule_of
from common.pixels.decoding import ImageError, decode_image
from common.prediction.classes import Classes
from common.prediction.voting import ClassPredictions
from common.reporting.tables import gates_table
from common.result_dir import ResultDir
from common.system.environment import versions
from common.system.files import write_text
from common.system.log import utc_now

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_FIGURES = ("confusion", "roc", "reliability")
_MOST_MISTAKES = 12
_THUMBNAIL = 180  # pixels of a side


@dataclass(frozen=True)
class Report:
    """What a report shows of the evaluation of one model or of an ensemble."""

    models: list[str]  # as they are called in the tables
    dataset_path: str
    split: Split
    classes: Classes
    vote: str
    bootstrap_units: str  # what the bootstrap drew, such as "images"
    predictions: ClassPredictions  # of the split's images, in its order
    gates: list[Gate]
    tables: list[str]  # results as text
    member_tables: list[str]  # those of each member of an ensemble


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    caption: str
    source: str  # a data URI, "" for a picture that cannot be read


def write_report(directory: ResultDir, report: Report) -> None:
    """Write report.html: what was tested on what, results, pictures, mistakes, gates, limits.

    The figures of the evaluation must have been drawn into the directory.
    """
    split, titles = report.split, report.classes.titles
    html = _TEMPLATES.get_template("report.html").render(
        title=f"Diabetic-retinopathy grading: {', '.join(report.models)}"
        f"{synthetic_note(split.ids)}",
        report=report,
        images_per_grade=list(zip(titles, split.counts(len(titles)))),
        written=utc_now(),
        pytorch=versions()["torch"],
        rating=rating(report.gates),
        missed=sum(gate.status != PASS for gate in report.gates),
        figures=[figure_picture(directory, kind, split.name) for kind in _FIGURES],
        mistakes=[
            mistake_picture(report, index)
            for index in worst_mistakes(split.labels, report.predictions)
        ],
        gate_table=gates_table(report.gates),
        gate_rule=rule_of(report.gates),
    )
    write_text(directory.report, html)


def worst_mistakes(targets: np.ndarray, predictions: ClassPredictions) -> list[int]:
    """List the wrong predictions: farthest from the true grade first, then the most confident.

    targets (N,). Returns at most 12 indices.
    """
    distance = np.abs(targets - predictions.predicted)
    confidence = predictions.probabilities[np.arange(len(targets)), predictions.predicted]
    order = np.lexsort((-confidence, -distance))
    return order[: min(_MOST_MISTAKES, int((distance > 0).sum()))].tolist()


def figure_picture(directory: ResultDir, kind: str, split: str) -> Picture:
    """Embed a figure of a result directory as it is."""
    data = directory.figure(f"{kind}_{split}").read_bytes()
    return Picture(f"{kind} on {split}", _data_uri(data, "png"))


def mistake_picture(report: Report, index: int) -> Picture:
    """Show an image with its true grade, the predicted one and the confidence in that."""
    image, predicted = report.split.images[index], report.predictions.predicted[index]
    confidence = 100 * report.predictions.probabilities[index, predicted]
    caption = (
        f"{report.classes.names[image.label]} graded as {report.classes.names[predicted]} "
        f"({confidence:.0f} %): {image.id}"
    )
    return thumbnail(image.path, caption)


def thumbnail(path: Path, caption: str) -> Picture:
    """Embed a small copy of a photograph; without it if it cannot be read."""
    try:
        photograph = Image.fromarray(decode_image(path.read_bytes(), str(path)))
    except (OSError, ImageError):
        return Picture(caption, "")
    buffer = io.BytesIO()
    ImageOps.pad(photograph, (_THUMBNAIL, _THUMBNAIL)).save(buffer, "JPEG", quality=85)
    return Picture(caption, _data_uri(buffer.getvalue(), "jpeg"))


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
