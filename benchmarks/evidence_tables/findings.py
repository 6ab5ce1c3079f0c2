"""What evidence.json says, in sentences: every figure of docs/evidence.md outside its tables."""

import math
import textwrap
from collections.abc import Iterator
from typing import Any

from benchmarks.evidence_tables.results import CHECKS, Curve, Results, Row, Section
from common.evidence.maps import COMBINED, FINER

CONTRAST = "no network: local contrast of the picture"
BOXES = "no network: the boxes themselves, as coarse as the map"
# figure, its name, what was asked of it in words, and as a bound; of the disc less is better
_ASKED = (
    ("gain", "gain on lesions", "at least 3", 3.0),
    ("pointing", "peak in a lesion", "at least 0.4", 0.4),
    ("disc", "gain on the disc", "below 0.6", 0.6),
)
_WIDTH = 150  # letters of a line


def findings(results: Results) -> str:
    """Say in a list what was found; nothing of what was not measured."""
    photographs, drawn = results.get("photographs"), results.get("drawn")
    checks = results.get(f"photographs{CHECKS}")
    bullets: list[Iterator[str]] = []
    if photographs:
        bullets += [_goal(photographs), _coarse(photographs), _maps(photographs)]
        bullets += [_ways(photographs)]
    bullets += [_drawn(drawn)] if drawn else []
    bullets += [_deletion(checks), _shuffled(checks)] if checks else []
    texts = (" ".join(sentences) for sentences in bullets)
    return "\n".join(_bullet(text) for text in texts if text)


def _bullet(text: str) -> str:
    look: dict[str, Any] = {"initial_indent": "- ", "subsequent_indent": "  "}
    return textwrap.fill(text, _WIDTH, **look, break_long_words=False, break_on_hyphens=False)


def verdicts(row: Row) -> str:
    """Say of a row whether it is what was asked, beyond its interval or within."""
    said = []
    for name, title, asked, bound in _ASKED:
        found = row.figures[name]
        reached, low, high = (
            end < bound if name == "disc" else end >= bound
            for end in (found.value, found.low, found.high)
        )
        sure = "" if reached == low == high else ", not beyond doubt"
        said.append(f"{title} {asked}: {'reached' if reached else 'not reached'}{sure}")
    return "; ".join(said)


def _row(section: Section, setting: str, to: str) -> Row | None:
    """Find a row of the first method by what differs; of "", the method with that name."""
    for row in section.rows:
        if row.setting == setting and to == (row.to if setting else row.method):
            return row
    return None


def _value(row: Row, name: str) -> str:
    figure = row.figures[name]
    spread = f" ± {figure.spread:.2f}" if figure.spread is not None else ""
    return f"{figure.value:.2f}{spread}"


def _differs(row: Row, name: str) -> str:
    """Say by how much a row differs from the first, and whether that may be chance."""
    found = row.difference[name]
    sure = "beyond doubt" if found.low > 0 or found.high < 0 else "which may be chance"
    return f"{found.value:+z.2f}, {sure}"


def _goal(section: Section) -> Iterator[str]:
    first, contrast = section.rows[0], _row(section, "", CONTRAST)
    look = section.conditions.look.partition(",")[0]
    seeds = f"{first.seeds} seeds" if first.seeds > 1 else "one seed"
    times = first.figures["pointing"].value / first.figures["chance"].value
    yield (
        f"The {look} map of {first.method} ({first.images} photographs, {seeds}) has a gain of "
        f"{_value(first, 'gain')} on lesions, and its peak is in one {_value(first, 'pointing')} "
        f"of the time, {times:.1f} times as often as by chance."
    )
    yield f"Asked of it: {verdicts(first)}."
    disc = f"Its peak is in the disc {_value(first, 'disc_pointing')} of the time"
    if contrast:
        disc += (
            f", where the picture's contrast alone would point {_value(contrast, 'disc_pointing')} "
            "of the time"
        )
    yield f"{disc}."


def _coarse(section: Section) -> Iterator[str]:
    boxes, size = _row(section, "", BOXES), " x ".join(map(str, section.conditions.map_size))
    if boxes:
        yield (
            f"Its coarseness is a limit: the boxes themselves, on the same {size} places, have a "
            f"gain of {_value(boxes, 'gain')}. So is what lies behind it: at the last layer every "
            "place has seen most of the picture, and speaks for lesions beside it."
        )


def _maps(section: Section) -> Iterator[str]:
    """Say what the other maps are worth."""
    titles = {
        FINER: "The map of an earlier stage has",
        COMBINED: f"Weighed by the exact map (`explain.py --maps {COMBINED}`) it has",
    }
    for to, title in titles.items():
        row = _row(section, "layer", to)
        if row:
            yield (
                f"{title} a gain of {_value(row, 'gain')} ({_differs(row, 'gain')}), its peak is "
                f"in a lesion {_value(row, 'pointing')} of the time ({_differs(row, 'pointing')}), "
                f"and its gain on the disc is {_value(row, 'disc')} ({_differs(row, 'disc')})."
            )
            if to == COMBINED:
                yield f"Asked of it: {verdicts(row)}."


def _ways(section: Section) -> Iterator[str]:
    nearest, grade = _row(section, "upsampling", "nearest"), _row(section, "target", "grade")
    if nearest:
        yield (
            "Nearest in place of bilinear between the places changes the gain by "
            f"{nearest.difference['gain'].value:+z.2f}; bilinear is what is used."
        )
    if grade:
        yield (
            "Evidence for the predicted grade, in place of referral, changes the gain on lesions "
            f"({_differs(grade, 'gain')}) and that on the disc ({_differs(grade, 'disc')})."
        )


def _drawn(section: Section) -> Iterator[str]:
    first = section.rows[0]
    peaks = [f"that of the exact map is in one {_value(first, 'pointing')} of the time"]
    for to, title in ((FINER, "the earlier stage's"), (COMBINED, "that of both together")):
        row = _row(section, "layer", to)
        peaks += [f"{title} {_value(row, 'pointing')}"] if row else []
    one = "; one network was trained there" if first.seeds == 1 else ""
    yield (
        f"Peaks on {first.images} drawn pictures, where every lesion is known: {', '.join(peaks)} "
        f"(by chance {_value(first, 'chance')}{one})."
    )


def _deletion(section: Section) -> Iterator[str]:
    for curve in section.curves[:1]:
        shares = " and ".join(f"{share:.0%}" for share in curve.shares)
        yield (
            f"The maps say what the network used: blurring the {shares} of the retina with most "
            f"evidence changes the score of {curve.method}, {curve.whole:.1f} logits, by "
            f"{_changes(curve, 'evidence')}; as much by chance by {_changes(curve, 'random')}, by "
            f"another photograph's map by {_changes(curve, 'others')}."
        )


def _changes(curve: Curve, name: str) -> str:
    return " and ".join(f"{value - curve.whole:+z.1f}" for value in curve.curves[name])


def _shuffled(section: Section) -> Iterator[str]:
    first = section.rows[0]
    rows = [
        row
        for row in section.rows
        if row.setting == "weights shuffled" and not math.isnan(row.figures["gain"].value)
    ]
    if not rows:
        return
    left = ", ".join(f"{_value(row, 'gain')} ({row.to})" for row in rows)
    yield (
        f"Of the gain, {_value(first, 'gain')} on {first.images} photographs, shuffled weights "
        f"leave {left}; 1 is chance (± over {rows[0].seeds} random orders)."
    )
    kept = [row.to for row in rows if not _is_lost(row)]
    if kept:
        yield (
            f"Shuffling the {' and the '.join(kept)} takes no gain away beyond doubt: lesions "
            "stand out in what the layers before see, whatever is read from it, so that a map on "
            "a lesion does not show that it was judged rightly."
        )


def _is_lost(row: Row) -> bool:
    """Tell whether shuffling takes gain away, beyond doubt."""
    return row.difference["gain"].high < 0
