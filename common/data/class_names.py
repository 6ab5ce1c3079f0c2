"""What the names of classes mean: their grades, their order, and which folder holds which class.

K classes of a model, in grade order. Grades 0 to 4 are those of the International Clinical Diabetic
Retinopathy scale; a class may hold several, such as "NPDR" 1 to 3.
"""

import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

from common.system.errors import InputError
from common.system.log import printable

GRADES = 5
# letters of a name, without case and separators -> its grades, first and last
_RETINOPATHY = ("", "dr", "diabeticretinopathy", "retinopathy")
_NPDR = ("npdr", *(f"nonproliferative{ending}" for ending in _RETINOPATHY))
_KNOWN: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("normal", "healthy", "none", "nonedr", "nondr", "withoutdr"), (0, 0)),
    **{f"no{word}{ending}": (0, 0) for word in ("", "apparent") for ending in _RETINOPATHY},
    **{
        name: (grade, grade)
        for grade, severity in enumerate(("mild", "moderate", "severe"), 1)
        for kind in (*_RETINOPATHY, *_NPDR)
        for name in (severity + kind, kind + severity)
    },
    **dict.fromkeys(_NPDR, (1, 3)),
    **dict.fromkeys(("pdr", "proliferateddr", "proliferated"), (4, 4)),
    **{f"{word}{e}": (4, 4) for word in ("proliferate", "proliferative") for e in _RETINOPATHY},
    **dict.fromkeys(("anydr", "withdr", "dr", "diabeticretinopathy", "retinopathy"), (1, 4)),
    **{f"referable{ending}": (2, 4) for ending in _RETINOPATHY},
    **dict.fromkeys(("rdr", "referral", "refer"), (2, 4)),
    **{f"{no}referable{e}": (0, 1) for no in ("non", "not", "no", "un") for e in _RETINOPATHY},
    **dict.fromkeys(("nonrdr", "nrdr", "noreferral", "nonreferral", "norefer"), (0, 1)),
}
_COUNTING = ("", "grade", "class", "level", "stage", "label", "severity", "icdr", "dr")
# as "grade 2 DR" or "DR grade 2" are the number 2
_COUNTED = {a + b for a in _COUNTING[1:-1] for b in _RETINOPATHY} | {
    a + b for a in _RETINOPATHY for b in _COUNTING
}


@dataclass(frozen=True)
class Meaning:
    """What a class's name says."""

    letters: str  # of the name, without case, separators and digits
    grades: tuple[int, int] | None  # first and last that the class holds; None: not known
    number: int | None  # of "3", "grade 3", "0_No_DR" or "R2"

    @property
    def counts(self) -> bool:
        """Tell whether the name is a number, or a word for one: "3", "grade3", "Class 3"."""
        return self.grades is None and self.number is not None and self.letters in _COUNTED

    @property
    def number_as_grade(self) -> tuple[int, int] | None:
        """Return the grade that a name is if it is a number; None for other names and numbers."""
        known = self.counts and self.number is not None and self.number < GRADES
        return (self.number, self.number) if known and self.number is not None else None


def meaning_of(name: str) -> Meaning:
    """Read a class's name: any case, separators, a number before or after it.

    "DR 1" and "grade 1 DR" are the number 1, "1_DR" (beside "0_No_DR") is any DR.
    """
    parts = re.findall(r"[^\W\d_]+|\d+", spelled(name))
    digits = [part for part in parts if part.isdecimal()]
    number = int(digits[0]) if len(digits) == 1 else None
    words = [part for part in parts if not part.isdecimal()]
    letters = "".join(words)
    if number is not None and letters in _COUNTED and (parts[0].isalpha() or number != 1):
        return Meaning(letters, None, number)
    known = _KNOWN.get(letters)
    if known is None and number is not None and words and words[0] in _COUNTING:
        known = _KNOWN.get("".join(words[1:]))  # "Grade 2 - Moderate"
    return Meaning(letters, known, number)


def grade_of(name: str) -> int | None:
    """Return the one grade that a name such as "Mild NPDR" means; None for other names.

    A number alone means a grade only among others: see `grades_of`.
    """
    grades = meaning_of(name).grades
    return grades[0] if grades is not None and grades[0] == grades[1] else None


def may_be_class(name: str) -> bool:
    """Tell whether a folder of this name looks like one of a grade or of a numbered class."""
    meaning = meaning_of(name)
    return meaning.counts or meaning.grades is not None


def grades_of(names: Sequence[str]) -> list[tuple[int, int] | None]:
    """Return the grades, first and last, of each of a model's classes; None where not known.

    Numbers are grades where they are 0 to 4, all five, or stand beside names that are known.
    """
    found = [meaning_of(name) for name in names]
    numbers = [meaning.number for meaning in found if meaning.counts]
    if numbers == list(range(GRADES)) or any(meaning.grades is not None for meaning in found):
        return [meaning.grades or meaning.number_as_grade for meaning in found]
    return [meaning.grades for meaning in found]


def contradiction(names: Iterable[str]) -> str:
    """Say which two names have numbers in another order than their grades; "" for none.

    Such as "0_Mild 1_No_DR", which alphabetical numbering makes.
    """
    found = [(name, meaning_of(name)) for name in names]
    numbered = [(m.number, m.grades, name) for name, m in found if m.number is not None]
    graded = sorted((number, grades, name) for number, grades, name in numbered if grades)
    for (low, grades, name), (high, others, other) in pairwise(graded):
        if low < high and others[0] < grades[0]:
            return f"{quoted([name, other])}: the numbers contradict the names"
    return ""


def grade_order(names: Sequence[str]) -> tuple[int, ...]:
    """Return the places of names in the order of their grades, from healthy to worst.

    Names that are not known stay where they are.
    """
    keys = _order_keys(names)
    places = [place for place, key in enumerate(keys) if key is not None]
    order = list(range(len(names)))
    for place, source in zip(places, sorted(places, key=lambda place: keys[place] or (0, 0))):
        order[place] = source
    return tuple(order)


def require_grade_order(names: Sequence[str]) -> None:
    """Raise InputError where names contradict their order, with the order to pass instead."""
    keys, order = _order_keys(names), grade_order(names)
    for first, second in combinations(range(len(names)), 2):
        if keys[first] is not None and keys[first] == keys[second]:
            raise InputError(
                f"--class_names: {names[first]} and {names[second]} mean the same; expected "
                "different classes"
            )
    if order != tuple(range(len(names))):
        raise InputError(
            f"--class_names: {quoted(names)} is not the order of the grades, from healthy to "
            f"worst; pass --class_names {quoted([names[place] for place in order])}"
        )


def _order_keys(names: Sequence[str]) -> list[tuple[int, int] | None]:
    """Return what each name is ordered by: its grades, or its number where all are numbered."""
    found = [meaning_of(name) for name in names]
    numbers = [m.number for m in found if m.number is not None and m.grades is None]
    alike = len({m.letters for m in found}) == 1 or all(m.counts for m in found)
    if alike and len(numbers) == len(names):
        return [(number, number) for number in numbers]
    return grades_of(names)


def titles_of(names: Sequence[str]) -> tuple[str, ...]:
    """Call each class as tables do: by its name, "grade 3" or "class 3" if that is a number."""
    word = "grade" if list(names) == [str(grade) for grade in range(GRADES)] else "class"
    return tuple(f"{word} {name}" if name.isdecimal() else printable(name) for name in names)


def quoted(names: Sequence[str]) -> str:
    """Write names so that they can be pasted into a command line."""
    return printable(" ".join(map(shlex.quote, names)))


# -- folders -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetClasses:
    """The classes that a set is graded in, and which of the model's each of them holds."""

    names: tuple[str, ...]  # (M,) in grade order
    of_model: tuple[int, ...]  # (K,) the set's class for each of the model's, ascending

    @property
    def coarser(self) -> bool:
        """Tell whether the set knows fewer classes than the model."""
        return len(self.names) < len(self.of_model)


@dataclass(frozen=True)
class FolderLabels:
    """Which class each folder holds."""

    labels: dict[str, int]  # by the folder's name; folders that are no class are not in it
    classes: SetClasses
    missing: tuple[str, ...] = ()  # classes that no folder holds
    expected: str = ""  # the classes' names, for messages
    advice: str = "move them away or check --num_classes and --class_names"  # on other folders
    left_out: str = ""  # why pictures in other folders are not used; "": they are refused

    @property
    def num_classes(self) -> int:
        """Count the set's classes."""
        return len(self.classes.names)


# Tells which class each of the folders of these names, found in this place, holds; raises
# InputError, naming the place, where that is not clear.
Matcher = Callable[[Sequence[str], Path], FolderLabels]


def match_folders(
    found: Sequence[str], place: Path, num_classes: int, class_names: Sequence[str] = ()
) -> FolderLabels:
    """Match the folders of a training set: every class has its folder.

    Those given by name, in any case; or 0 .. K - 1, "grade 0" .., which names may be given for; or
    K known names that hold different grades. Raises InputError for names in a wrong order, twice,
    or missing.
    """
    if len(set(class_names)) < len(class_names):
        raise InputError(f"--class_names: {quoted(class_names)} names a class twice")
    require_grade_order(class_names)
    expected = quoted(class_names) or _usual_names(num_classes)
    chosen = _given(found, class_names) if class_names else _usual(found, num_classes)
    clash = "" if class_names else contradiction(name for name in chosen if name is not None)
    if clash:
        raise InputError(f"{clash}, in {place}; rename them or pass --class_names in grade order")
    if class_names and not any(chosen):
        chosen = _numbered(found, num_classes)
    if len(set(chosen)) != num_classes or None in chosen:
        raise InputError(
            f"expected the class folders {expected} in {place}, found "
            f"{_shown(found)}; rename them or pass --class_names in grade order, "
            "--num_classes if there are not 5 (an empty folder stands for a grade without images)"
        )
    labels = {name: label for label, name in enumerate(chosen) if name is not None}
    names = tuple(class_names or labels)
    return FolderLabels(labels, SetClasses(names, tuple(range(num_classes))), (), expected)


def _shown(found: Sequence[str]) -> str:
    """Name the first of many folders."""
    more = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return f"{quoted(found[:12])}{more}" or "none"


def _usual_names(num_classes: int) -> str:
    names = {2: "No_DR DR", 3: "No_DR NPDR PDR", 4: "No_DR Mild Moderate Severe"}
    names |= {GRADES: "No_DR Mild Moderate Severe PDR"}
    usual = f" or {names[num_classes]}" if num_classes in names else ""
    return f"0..{num_classes - 1}{usual}"


def _given(found: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Find the folder of each name: the same, or the only one that differs in case alone."""
    chosen: list[str | None] = []
    for name in names:
        alike = [folder for folder in found if spelled(folder) == spelled(name)]
        only = alike[0] if len(alike) == 1 else None
        chosen.append(name if name in alike else only)
    return chosen


def spelled(name: str) -> str:
    """Reduce a name to what two spellings of it share: letters without case, Unicode composed."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def plain(name: str) -> str:
    """Reduce a name to its letters and digits, in small ones."""
    return "".join(c for c in spelled(name) if c.isalnum())


def _usual(found: Sequence[str], num_classes: int) -> list[str | None]:
    """Choose the folders that are numbered 0 .. K - 1, else K known names of different grades.

    Numbers beside such names are grades, where the names alone are too few.
    """
    numbered = _numbered(found, num_classes)
    if numbered:
        return numbered
    names_alone = [meaning_of(name).grades for name in found]
    for grades in (names_alone, grades_of(found)):
        known = {name: both for name, both in zip(found, grades) if both is not None}
        ordered = sorted(known, key=lambda name: known[name])
        apart = all(known[a][1] < known[b][0] for a, b in pairwise(ordered))
        if apart and len(ordered) == num_classes:
            return list(ordered)
    return []


def _numbered(found: Sequence[str], num_classes: int) -> list[str | None]:
    """Choose the folders "0" .. K - 1, or "grade 0" ..; none unless each is there once."""
    if all(str(k) in found for k in range(num_classes)):
        return [str(k) for k in range(num_classes)]
    meanings = {name: meaning_of(name) for name in found}
    chosen: list[str | None] = []
    for k in range(num_classes):
        names = [name for name, m in meanings.items() if m.counts and m.number == k]
        chosen += names if len(names) == 1 else []
    return chosen if len(chosen) == num_classes else []
