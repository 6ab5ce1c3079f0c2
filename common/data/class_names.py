"""The names of grades, and which folder holds which grade."""

from pathlib import Path

_USUAL_NAMES = (
    {"nodr", "normal", "no", "none", "healthy"},
    {"mild", "milddr", "mildnpdr"},
    {"moderate", "moderatedr", "moderatenpdr"},
    {"severe", "severedr", "severenpdr"},
    {"proliferate", "proliferatedr", "proliferative", "proliferativedr", "pdr"},
)


def matching_folders(
    found: dict[str, Path], num_classes: int, class_names: tuple[str, ...]
) -> list[Path]:
    """Choose the class folders from those found, by name; none if some are missing."""
    for names in (class_names, tuple(str(grade) for grade in range(num_classes))):
        if names and all(name in found for name in names):
            return [found[name] for name in names]
    if not class_names and num_classes == len(_USUAL_NAMES):
        usual = {_plain(name): path for name, path in found.items()}
        matches = [[usual[n] for n in names if n in usual] for names in _USUAL_NAMES]
        if all(len(match) == 1 for match in matches):
            return [match[0] for match in matches]
    return []


def _plain(name: str) -> str:
    """Keep the letters of a name, in small ones."""
    return "".join(c for c in name.lower() if c.isalpha())
