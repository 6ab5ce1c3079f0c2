"""What is said of one picture: a row of the CSV file for people and of the JSONL file for programs.

K classes. Both files hold the same columns in the same order; the JSONL file alone holds the
place and the state of the picture's file, by which a run that goes on knows it and sees that it was
changed.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.result_dir.csv_files import plain_cell

GRADED = "graded"
UNGRADABLE = "ungradable"
UNLIKE = "unlike the training pictures"
UNREADABLE = "unreadable"
OUTCOMES = (GRADED, UNGRADABLE, UNLIKE, UNREADABLE)
UNCERTAINTIES = ("entropy", "disagreement", "cycles")  # those of `abstention.MEASURES` with columns
FIRST_COLUMNS = ("image", "outcome", "grade", "class_name")  # whatever the classes are
PATIENT_COLUMNS = (
    "patient",
    "images",
    "graded",
    "grade",
    "class_name",
    "worst_image",
    "worst_eye",
    "left_grade",
    "right_grade",
    "p_referable",
    "referable",
    "review",
    "reason",
)
_BETWEEN = "|"  # between the classes of a set in a cell


@dataclass(frozen=True)
class FileState:
    """Which state of a file was read."""

    size: int  # bytes; -1 for a link that leads nowhere
    modified: int  # ns since 1970


@dataclass(frozen=True)
class Row:
    """All that is said of one picture; None and () where there is nothing to say."""

    image: str  # its path as it was listed; need not be UTF-8
    outcome: str  # of OUTCOMES
    grade: int | str | None  # 3, or "2-4" for a class of several grades; of graded ones alone
    class_name: str | None
    probabilities: tuple[float, ...]  # (K,)
    p_referable: float | None
    referable: bool | None  # whether it is referred, at the operating point
    operating_point: str | None
    uncertainty: tuple[float | None, ...]  # those of UNCERTAINTIES
    classes_in_set: tuple[str, ...]  # those that cannot be ruled out, in grade order
    review: bool  # whether a person is to look at it
    reason: str  # for the review
    remarks: str  # what is odd about the file, and why something is left open
    model: str  # fingerprint of the networks
    time: str  # in UTC, when it was graded
    file: FileState
    # where its file lies, seen from the folder of the JSONL file: the same from any working folder
    path: str = field(default="", compare=False)  # "" in rows of earlier releases


class RowFormat:
    """The columns of the rows of one run."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """class_names (K,): those that pictures are graded in."""
        named = [f"p_{name}" for name in class_names]
        if "p_referable" in named:  # a class of that name
            named = [f"p_{place}" for place in range(len(class_names))]
        self.probabilities = named
        self.columns = [
            *FIRST_COLUMNS,
            *named,
            "p_referable",
            "referable",
            "operating_point",
            *UNCERTAINTIES,
            "set",
            "review",
            "reason",
            "remarks",
            "model",
            "time",
        ]

    def to_json(self, row: Row) -> str:
        """Write a row as a line of JSONL, all in ASCII; a name that is no UTF-8 is kept, too."""
        content = dict(zip(self.columns, self._values(row, list(row.classes_in_set) or None)))
        content |= {"file_bytes": row.file.size, "file_modified_ns": row.file.modified}
        content |= {"file_path": row.path}
        return json.dumps(content, allow_nan=False)

    def from_json(self, line: str | bytes) -> Row:
        """Read what `to_json` wrote; raises ValueError, TypeError or KeyError for anything else."""
        content: dict[str, Any] = json.loads(line)
        if list(content)[: len(self.columns)] != self.columns or content["outcome"] not in OUTCOMES:
            raise ValueError("no row with these columns")
        found = [content[name] for name in self.probabilities]
        return Row(
            image=_text(content["image"]),
            outcome=content["outcome"],
            grade=content["grade"],
            class_name=content["class_name"],
            probabilities=() if None in found else tuple(map(float, found)),
            p_referable=content["p_referable"],
            referable=content["referable"],
            operating_point=content["operating_point"],
            uncertainty=tuple(content[name] for name in UNCERTAINTIES),
            classes_in_set=tuple(content["set"] or ()),
            review=bool(content["review"]),
            reason=_text(content["reason"]),
            remarks=_text(content["remarks"]),
            model=_text(content["model"]),
            time=_text(content["time"]),
            file=FileState(int(content["file_bytes"]), int(content["file_modified_ns"])),
            path=_text(content.get("file_path", "")),
        )

    def header(self) -> str:
        """Write the header of the CSV file."""
        return _csv_line(self.columns)

    def to_csv(self, row: Row) -> str:
        """Write a row as a line of CSV; what is not known stays empty, truth is yes or no."""
        words = {None: "", True: "yes", False: "no"}
        values = self._values(row, _BETWEEN.join(row.classes_in_set))
        return _csv_line([words[v] if v is None or isinstance(v, bool) else v for v in values])

    def _values(self, row: Row, classes_in_set: Any) -> list[Any]:
        return [
            row.image,
            row.outcome,
            row.grade,
            row.class_name,
            *(row.probabilities or [None] * len(self.probabilities)),
            row.p_referable,
            row.referable,
            row.operating_point,
            *row.uncertainty,
            classes_in_set,
            row.review,
            row.reason,
            row.remarks,
            row.model,
            row.time,
        ]


def _csv_line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(plain_cell, values))
    return text.getvalue()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return value
