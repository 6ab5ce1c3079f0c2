"""The page of a run: each picture with the evidence for what was decided on it.

One HTML file that opens without a network; its words stand in `templates/evidence.html`. A picture
is in it once, and each map as a small transparent one that lies over it.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.evidence.explanation import DecisionEvidence, Explained
from common.evidence.overlay import WORDS, in_logits, tinted_map
from common.prediction.classes import Classes
from common.reporting.report import data_uri, page_templates
from common.system.files import write_text
from common.system.log import printable, utc_now

MOST_CARDS = 300  # pictures on a page
_SIDE, _QUALITY = 448, 82  # pixels of a photograph's side, and of its JPEG
_MAP_SIDE = 112  # pixels of a map's side, which the browser enlarges


@dataclass(frozen=True)
class PageWords:
    """What is said of a run as a whole."""

    title: str
    classes: Classes
    members: tuple[str, ...]
    facts: Sequence[tuple[str, str]]  # what graded, how, and what the maps are
    warnings: Sequence[str]


@dataclass(frozen=True)
class ShownPicture:
    """A picture that was explained, with the square that the network saw."""

    explained: Explained
    square: Path  # its file


@dataclass(frozen=True)
class _Layer:
    """A map over a picture, and what is written below it."""

    title: str
    caption: str
    source: str  # a data URI


_PLAIN = _Layer("The picture", "without a map", "")


@dataclass(frozen=True)
class _Row:
    """Maps beside each other."""

    title: str
    layers: Sequence[_Layer]


@dataclass(frozen=True)
class _Card:
    """One picture on the page."""

    name: str
    grade: str
    lines: Sequence[str]
    bars: Sequence[tuple[str, str]]  # of the probabilities, in percent
    photograph: str  # a data URI
    main: Sequence[_Layer]
    more: Sequence[_Row]  # shown on request


def write_page(
    path: Path,
    pictures: Sequence[ShownPicture],
    scale: float,
    words: PageWords,
    notes: Sequence[str],
) -> None:
    """Write the page, the least certain picture first; of very many those that are least certain.

    scale: logits of full colour. notes: on pictures that could not be explained.
    """
    shown = sorted(pictures, key=lambda each: -each.explained.uncertainty)[:MOST_CARDS]
    template = page_templates(Path(__file__).parent / "templates").get_template("evidence.html")
    text = template.render(
        title=words.title,
        words=WORDS,
        facts=words.facts,
        warnings=words.warnings,
        scale=in_logits(scale),
        ramp=_source(np.linspace(-scale, scale, _MAP_SIDE)[None], scale),
        cards=[_card(each, scale, words) for each in shown],
        total=len(pictures),
        notes=notes,
        written=utc_now(),
    )
    write_text(path, text)


def _card(shown: ShownPicture, scale: float, words: PageWords) -> _Card:
    explained, titles = shown.explained, words.classes.titles
    main = [each for each in explained.evidence if each.decision.key in ("referable", "grade")]
    pairs = [each for each in explained.evidence if each not in main]
    rows = [_Row("The pairs that decided", [_layer(each, scale) for each in pairs])]
    for each in main:
        rows.append(_Row(f"Each model alone: {each.decision.title}", _alone(each, scale, words)))
    hidden = [_layer_of_falls(each, scale) for each in main if each.falls is not None]
    rows.append(_Row("What hiding parts of the picture does to the score", hidden))
    certain = f"entropy {explained.uncertainty:.2f} of at most {math.log(len(titles)):.2f}"
    lines = [certain]
    cut = words.classes.referable_from
    if cut is not None:
        lines.insert(0, f"P(referable) {explained.probabilities[cut:].sum():.3f}")
    return _Card(
        name=printable(explained.name),
        grade=titles[explained.predicted],
        lines=lines,
        bars=[(t, f"{100 * p:.0f}") for t, p in zip(titles, explained.probabilities)],
        photograph=_photograph(shown.square),
        main=[_PLAIN, *(_layer(each, scale) for each in main)],
        more=[row for row in rows if row.layers],
    )


def _layer(found: DecisionEvidence, scale: float) -> _Layer:
    decision = found.decision
    sides = f"orange speaks for {decision.speaks_for}, blue for {decision.speaks_against}"
    return _Layer(
        decision.title, f"{sides}; {found.whole.describe()}", _source(found.whole.values, scale)
    )


def _alone(found: DecisionEvidence, scale: float, words: PageWords) -> list[_Layer]:
    return [
        _Layer(label, member.describe(), _source(member.values, scale))
        for label, member in zip(words.members, found.members)
    ]


def _layer_of_falls(found: DecisionEvidence, scale: float) -> _Layer:
    assert found.falls is not None
    flat = math.isnan(found.agreement)
    agrees = "not defined, one of them is flat" if flat else f"{found.agreement:+z.2f}"
    most = np.abs(found.falls).max()
    caption = (
        f"orange: the score falls where this is hidden; the largest change is {most:.2f} logits, "
        f"full colour here; correlation with the map {agrees}"
    )
    return _Layer(found.decision.title, caption, _source(found.falls, float(most) or scale))


def _photograph(square: Path) -> str:
    """Embed a picture, not larger than a page needs."""
    with Image.open(square) as file:
        picture = file.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return data_uri(buffer.getvalue(), "jpeg")


def _source(values: np.ndarray, scale: float) -> str:
    buffer = io.BytesIO()
    tinted_map(values, scale, _MAP_SIDE).save(buffer, "PNG")
    return data_uri(buffer.getvalue(), "png")
