"""The page of a run: every picture with what was said of it, to be sorted and filtered.

One HTML file that opens without a network; its words stand in `templates/run.html`.
"""

import heapq
import io
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from common.new_pictures.journal import RunFiles
from common.new_pictures.rows import OUTCOMES, UNCERTAINTIES, UNREADABLE, Row
from common.pixels.decoding import ImageError, decode_small
from common.reporting.report import data_uri, page_templates
from common.system.environment import worker_count
from common.system.files import write_text
from common.system.log import printable, utc_now

TITLE = "Diabetic-retinopathy grading"
_KNOWN_BY = re.compile(rb"<title>" + TITLE.encode() + rb": [\d,]+ new pictures?</title>")
_MOST_CARDS = 5000  # pictures on a page
_MOST_SMALL = 2000  # of these are shown small, about 6 KB each
_SIDE, _QUALITY = 200, 75  # pixels of the longer side, and of its JPEG
_ALWAYS = ("need", "class", "place")  # what all pictures can be sorted by
_ORDERS = {
    "need up": "to be reviewed, least certain first",
    "entropy": "least certain (entropy)",
    "disagreement": "models disagree most",
    "cycles": "pairs contradict each other most",
    "referable": "most likely referable",
    "class": "worst class",
    "place up": "as listed",
}


@dataclass(frozen=True)
class RunWords:
    """What is said of a run as a whole."""

    title: str
    class_names: tuple[str, ...]  # in which pictures are graded, in grade order
    class_titles: tuple[str, ...]
    facts: Sequence[tuple[str, str]]  # what graded, how, and what that rests on
    warnings: Sequence[str]
    untold: Collection[str] = ()  # of the headlines: what nobody can tell of these pictures


@dataclass(frozen=True)
class Headline:
    """A number of pictures, and what they are."""

    name: str
    count: int | str
    meaning: str


@dataclass(frozen=True)
class _Small:
    """A picture inside the page; source: a data URI, "" where there is none."""

    source: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class _Card:
    """One picture on the page."""

    row: Row
    place: int  # among all rows
    need: int  # place among the pictures that most need a look
    class_place: int | str
    keys: Sequence[tuple[str, str]]  # by which it can be sorted; "" where not known
    title: str
    bars: Sequence[tuple[str, str]]  # of the probabilities, in percent
    remarks: str  # those that are not said of all pictures
    lines: Sequence[str]
    small: _Small
    no_picture: str
    link: str  # to the file, as seen from the page

    @property
    def name(self) -> str:
        """The picture's name for people."""
        return printable(self.row.image)


def count_rows(rows: Iterable[Row]) -> Counter[str]:
    """Count rows by outcome, those that are "referable" and those for "review"; "all" of them."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(["all", row.outcome])
        counts.update(["referable"] if row.referable else [])
        counts.update(["review"] if row.review else [])
    return counts


def headlines(counts: Counter[str], untold: Collection[str] = ()) -> list[Headline]:
    """Say in numbers what came out; untold: what nobody can tell of these pictures."""
    meanings = {
        "graded": "by the networks",
        "referable": "at the operating point, of those that are graded",
        "review": "by a person, for the reason that stands beside each",
        "ungradable": "black, blurred, overexposed, no retina: not graded",
        "unlike the training pictures": "far from all that the networks have learned from: not "
        "graded",
        UNREADABLE: "files that hold no usable picture",
    }
    return [
        Headline(
            {"review": "to be reviewed"}.get(name, name),
            "not known" if name in untold else counts[name],
            meaning,
        )
        for name, meaning in meanings.items()
    ]


def is_page(path: Path) -> bool:
    """Tell whether a file is the page of a run."""
    with path.open("rb") as file:
        return _KNOWN_BY.search(file.read(2000)) is not None


def write_page(
    path: Path, files: RunFiles, rows: Iterable[Row], words: RunWords, num_workers: int
) -> None:
    """Write the page of a run; of very many pictures it shows those that most need a look."""
    counts: Counter[str] = Counter()

    def counted() -> Iterable[tuple[int, Row]]:
        for place, row in enumerate(rows):
            counts.update(count_rows([row]))
            yield place, row

    most_needed = heapq.nlargest(_MOST_CARDS, counted(), key=lambda found: _need(found[1]))
    needs = {place: number for number, (place, _) in enumerate(most_needed)}
    chosen = sorted(most_needed, key=lambda found: found[0])
    with ThreadPoolExecutor(worker_count(num_workers)) as pool:
        small = list(
            pool.map(
                lambda found: _small(found[1]) if needs[found[0]] < _MOST_SMALL else _Small(),
                chosen,
            )
        )
    cards = [
        _card((place, needs[place]), row, picture, words, path.parent)
        for (place, row), picture in zip(chosen, small)
    ]
    known = {key for card in cards for key, value in card.keys if value}
    html = page_templates(Path(__file__).parent / "templates").get_template("run.html")
    text = html.render(
        title=words.title,
        headlines=headlines(counts, words.untold),
        facts=words.facts,
        warnings=words.warnings,
        cards=cards,
        total=counts["all"],
        left_out=counts["all"] - len(cards),
        orders=[(k, text) for k, text in _ORDERS.items() if k.split()[0] in {*known, *_ALWAYS}],
        outcomes=OUTCOMES,
        class_names=words.class_titles,
        csv_name=files.csv.name,
        jsonl_name=files.jsonl.name,
        patients_name=files.patients.name if files.patients.is_file() else "",
        written=utc_now(),
    )
    write_text(path, text)


def _need(row: Row) -> tuple[bool, float]:
    """Rank rows by how much they need a look."""
    entropy = row.uncertainty[UNCERTAINTIES.index("entropy")]
    return row.review, math.inf if entropy is None else entropy


def _card(places: tuple[int, int], row: Row, small: _Small, words: RunWords, folder: Path) -> _Card:
    """Make the card of a row; places: among all, and among those that most need a look."""
    class_place: int | str = ""
    if row.class_name is not None:
        class_place = words.class_names.index(row.class_name)
    values = {**dict(zip(UNCERTAINTIES, row.uncertainty)), "referable": row.p_referable}
    lines = []
    if row.p_referable is not None:
        by = f", {row.operating_point}" if row.operating_point else ""
        lines.append(f"P(referable) {row.p_referable:.3f}{by}")
    uncertain = [f"{k} {v:.3g}" for k, v in values.items() if v is not None and k != "referable"]
    if uncertain:
        lines.append(", ".join(uncertain))
    if row.classes_in_set:
        lines.append(f"cannot be ruled out: {', '.join(map(printable, row.classes_in_set))}")
    title = row.outcome
    if isinstance(class_place, int):
        title = words.class_titles[class_place]
    link = os.path.relpath(os.path.abspath(row.image), os.path.abspath(folder))
    return _Card(
        row=row,
        place=places[0],
        need=places[1],
        class_place=class_place,
        keys=[(key, "" if value is None else f"{value:.9g}") for key, value in values.items()],
        title=title,
        bars=[
            (title, f"{100 * value:.0f}")
            for title, value in zip(words.class_titles, row.probabilities)
        ],
        remarks=_without(row.remarks, words.warnings),
        lines=lines,
        small=small,
        no_picture="cannot be read" if row.outcome == UNREADABLE else "no small picture",
        link=quote(os.fsencode(link)),
    )


def _without(remarks: str, warnings: Sequence[str]) -> str:
    """Leave out what is said above of all pictures."""
    for line in warnings:
        remarks = remarks.replace(line, "")
    return remarks.strip("; ")


def _small(row: Row) -> _Small:
    """Make a small copy of a picture; nothing where it cannot be read."""
    if row.outcome == UNREADABLE:
        return _Small()
    try:
        picture = decode_small(Path(row.image).read_bytes(), row.image, _SIDE)
    except (OSError, ImageError, MemoryError):
        return _Small()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return _Small(data_uri(buffer.getvalue(), "jpeg"), *picture.size)
