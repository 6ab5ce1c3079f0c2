"""What a benchmark has found: kept in a JSON file, and laid out between marks of a page of docs/.

<!-- NAME: PART --> begins what is written, <!-- end --> ends it; all around it is left as it is.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.shared.over_seeds import Figure
from common.metrics.intervals import Interval
from common.system.errors import InputError
from common.system.files import read_json, write_json, write_text

EMPTY, NOTHING = "-", "Not measured."


def put_parts(page: Path, name: str, parts: Mapping[str, str], new_page: str) -> None:
    """Put each part into its place of a page, which is begun with `new_page` if there is none."""
    text = page.read_text() if page.is_file() else new_page
    for part, content in parts.items():
        start, end = f"<!-- {name}: {part} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if found:
            text = f"{before}{start}{content}\n{end}{rest.partition(end)[2]}"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(figure: Figure, digits: int = 3) -> str:
    """Write a figure with its spread over the seeds and its interval."""
    if math.isnan(figure.value):
        return EMPTY
    return f"{short(figure, digits)} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def short(figure: Figure, digits: int = 3) -> str:
    """Write a figure with its spread over the seeds alone."""
    if math.isnan(figure.value):
        return EMPTY
    spread = "" if figure.spread is None else f" ± {figure.spread:.{digits}f}"
    return f"{figure.value:.{digits}f}{spread}"


def difference(found: Interval | None, digits: int = 3) -> str:
    """Write a difference with its interval."""
    if found is None or math.isnan(found.value):
        return EMPTY
    ends = f"[{found.low:+z.{digits}f}, {found.high:+z.{digits}f}]"
    return f"{found.value:+z.{digits}f} {ends}"


def put_section(file: Path, name: str, section: dict[str, Any], what: str) -> None:
    """Put one section, with its date, into a JSON file beside what it holds; what: its figures."""
    content = read_json(file) if file.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected figures of {what}; move it away")
    section["conditions"]["date"] = datetime.now(UTC).date().isoformat()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, content | {name: section})


def number_of(stored: float | None) -> float:
    """Read a number of a JSON file, where an undefined one is none."""
    return math.nan if stored is None else stored


def figure_from(content: Mapping[str, Any]) -> Figure:
    """Read a figure that a JSON file holds."""
    value, low, high = (number_of(content[name]) for name in ("value", "low", "high"))
    by_seed = [number_of(each) for each in content["by_seed"]]
    return Figure(value, low, high, content["spread"], by_seed)


def intervals_from(content: Mapping[str, Mapping[str, float | None]]) -> dict[str, Interval]:
    """Read intervals, by name, that a JSON file holds."""
    return {
        name: Interval(**{key: number_of(end) for key, end in own.items()})
        for name, own in content.items()
    }
