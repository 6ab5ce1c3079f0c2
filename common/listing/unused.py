"""What lies in a dataset and is not used, and how that is said."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.listing.walking import by_ending, count_of
from common.system.log import printable

# in the folder of a dataset itself: what we write there, and what others say about it
EXPECTED_FILES = {
    "manifest.csv",
    "metadata.csv",
    "lesions.csv",
    "SYNTHETIC.md",
    "README.md",
    "LICENSE",
}
_EXAMPLES = 2
_LINES = 8


@dataclass(frozen=True)
class Unused:
    """A file that lies in a dataset and is not used."""

    id: str  # relative to the dataset's root
    place: str  # where it lies, in words
    reason: str
    picture: bool  # by its ending or its first bytes


def unused_lines(unused: Sequence[Unused]) -> list[str]:
    """Say in a few lines what lies in a dataset and is not used, and why; none for nothing."""
    groups: dict[tuple[str, str], list[Unused]] = {}
    for file in unused:
        groups.setdefault((file.place, file.reason), []).append(file)
    ranked = sorted(groups.items(), key=lambda item: -sum(file.picture for file in item[1]))
    lines = [
        f"not used: {_kinds(files)} in {printable(place)}: {printable(reason)}, such as "
        f"{examples([file.id for file in files])}"
        for (place, reason), files in ranked[:_LINES]
    ]
    rest = [file for _, files in ranked[_LINES:] for file in files]
    if rest:
        lines.append(f"not used: {_kinds(rest)} in {len(ranked) - _LINES} more places")
    if any(len(files) > _EXAMPLES for files in groups.values()) or rest:
        lines.append("prepare_dataset.py audit names every file that is not used, in audit.json")
    return lines


def examples(names: Sequence[str]) -> str:
    """Show the first of many names."""
    return ", ".join(printable(name) for name in names[:_EXAMPLES])


def _kinds(files: Sequence[Unused]) -> str:
    """Count pictures and other files, by their endings."""
    pictures = sum(file.picture for file in files)
    others = len(files) - pictures
    parts = [count_of(pictures, "picture")] if pictures else []
    parts += [count_of(others, "other file" if pictures else "file")] if others else []
    return f"{' and '.join(parts)} ({by_ending([file.id for file in files])})"
