"""Label tables as people have them: which column holds what, and which grade each picture has.

Columns are found by their names, in any case and spacing. Headers of public datasets, as their
pages and the code that reads them give them:

- APTOS 2019 `id_code,diagnosis`, EyePACS `image,level` (kaggle.com/c/aptos2019-blindness-detection,
  kaggle.com/c/diabetic-retinopathy-detection)
- IDRiD `Image name,Retinopathy grade,Risk of macular edema ` and empty columns
  (idrid.grand-challenge.org)
- DDR `007-0004-000.jpg 0`, no header, 5 = ungradable (github.com/nkicsl/DDR-dataset)
- Messidor-2 `image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable`
  (kaggle.com/datasets/google-brain/messidor2-dr-grades)
- BRSET `image_id,patient_id,camera,patient_age,...,patient_sex,exam_eye,...,DR_SDRG,DR_ICDR,...`
  (physionet.org/content/brazilian-ophthalmological)
- mBRSET `patient,age,sex,...,file,laterality,...,final_icdr,final_edema`
  (physionet.org/content/mbrset)
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common.data.class_names import (
    GRADES,
    contradiction,
    grade_of,
    grades_of,
    meaning_of,
    plain,
    spelled,
)
from common.listing.tables import NUMBER, Table
from common.system.errors import InputError
from common.system.log import printable

_EXAMPLES = 3

_IMAGE = re.compile(
    "(?:fundus|retinal)?(?:image|img|picture|photo|photograph)s?"
    "(?:id|name|code|file|filename|path|no|nr|number)?|fundus"
    "|file(?:name|path|id)?|idcode|filepath|path"
)
_WEAK_IMAGE = re.compile("id|name")  # taken if there is no better one
_GRADE = re.compile(
    "(?:final|adjudicated|consensus|expert|gold|reference|groundtruth|true|gt)?"
    "(?:dr|icdr|retinopathy|diabeticretinopathy)?"
    "(?:grade|grading|level|label|diagnosis|icdr|severity|severitylevel|stage|class|target|score)s?"
    "(?:ofdr|dr)?"
)
_GRADABLE = re.compile("(?:adjudicated|is)?grade?able")
_SPLIT = re.compile("(?:data|dataset)?(?:split|set|subset|partition)")
_BLANK = {"", "-", "?", "nan", "na", "n/a", "#n/a", "<na>", "null", "missing", "ungraded"}
_UNGRADABLE = {
    *("ungradable", "ungradeable", "notgradable", "notgradeable", "nongradable", "nongradeable"),
    *("ug", "u", "poorquality", "badquality", "insufficientquality"),
}
_YES, _NO = {"1", "yes", "true", "y", "t"}, {"0", "no", "false", "n", "f"}


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what, by index."""

    image: int | None
    grade: int
    gradable: int | None
    split: int | None


@dataclass(frozen=True)
class ColumnFlags:
    """What the user says of the columns: names, "" for what the table's own names say."""

    image: str = ""
    grade: str = ""
    split: str = ""  # NO_COLUMN: none
    ungradable: tuple[str, ...] = ()  # cells of the grade column that mean "not gradable"
    grade_flag: str = "--grade_column"  # as messages call it
    mark_flag: str = "--ungradable"  # "" where there is none


NO_COLUMN = "none"


@dataclass(frozen=True)
class Label:
    """What a table says of one picture's grade."""

    line: int
    grade: int | None
    left_out_because: str  # "" with a grade


# -- columns -----------------------------------------------------------------------------------


def choose_columns(table: Table, flags: ColumnFlags, pictures: bool = True) -> Columns:
    """Find the columns by the names that the user gives, or by those that are usual.

    pictures: whether the pictures' names are needed. Raises InputError where a column is missing or
    two could be meant.
    """
    if not table.header and len(table.columns) == 2:
        first, second = table.columns
        flags = replace(flags, image=flags.image or first, grade=flags.grade or second)
    image = find_image_column(table, "--image_column NAME", flags.image) if pictures else None
    grade = find_column(table, _GRADE, flags.grade, f"{flags.grade_flag} NAME")
    if grade is None and not flags.grade and len(table.columns) == 1:
        grade = 0
    if grade is None:
        raise _missing(table, "the grades", f"{flags.grade_flag} NAME")
    if grade == image:
        raise InputError(
            f"{table.path}: column {table.columns[grade]!r} cannot be both the pictures' names and "
            "their grades"
        )
    split = None
    if flags.split.casefold() != NO_COLUMN:
        split = find_column(table, _SPLIT, flags.split, "--split_column NAME")
    return Columns(image, grade, find_column(table, _GRADABLE, "", "other names"), split)


def find_image_column(table: Table, advice: str, given: str = "") -> int:
    """Find the column of the pictures' names. Raises InputError where it is not clear."""
    found = find_column(table, _IMAGE, given, advice)
    if found is None:
        found = find_column(table, _WEAK_IMAGE, "", advice)
    if found is None:
        raise _missing(table, "the pictures' names", advice)
    return found


def is_label_column(name: str) -> bool:
    """Tell whether a column's name is a usual one for the grades, or for the split."""
    return any(pattern.fullmatch(plain(name)) for pattern in (_GRADE, _SPLIT, _GRADABLE))


def find_column(table: Table, pattern: re.Pattern[str], given: str, advice: str) -> int | None:
    """Find the one column of a name that the user gives, or else of a usual name; None if absent.

    advice: what to do where it is not clear. Raises InputError for a given name that no column has,
    and where two columns match.
    """
    wanted = plain(given)
    exact = [i for i, name in enumerate(table.columns) if given and name == given.strip()]
    found = exact or [
        i
        for i, name in enumerate(map(plain, table.columns))
        if (name == wanted if given else pattern.fullmatch(name))
    ]
    if given and not found:
        raise InputError(f"{table.path}: no column {given!r}; {_columns_text(table)}")
    if len(found) > 1:
        names = " and ".join(repr(printable(table.columns[i])) for i in found)
        raise InputError(
            f"{table.path}: {names} could each be meant; say which: {advice}"
            + (" (two columns of one name: rename one)" if given else "")
        )
    return found[0] if found else None


def _missing(table: Table, what: str, advice: str) -> InputError:
    return InputError(
        f"{table.path}: no column's name says that it holds {what}; name it: {advice} "
        f"({_columns_text(table)})"
    )


def _columns_text(table: Table) -> str:
    names = ", ".join(printable(name[:40]) for name in table.columns[:40])
    more = f" and {len(table.columns) - 40} more" if len(table.columns) > 40 else ""
    return f"the columns are {names}{more}"


# -- grades ------------------------------------------------------------------------------------


def read_labels(
    table: Table,
    columns: Columns,
    num_classes: int,
    class_of: Callable[[str], int | None],
    flags: ColumnFlags,
) -> list[Label]:
    """Read each row's grade, or why it has none: "ungradable" or "no grade".

    class_of: the class that a name such as "No_DR" means, if any. Ungradable are the usual words,
    those that the user gives, and 5 in a table in DDR's form. Raises InputError, naming the line,
    for anything else.
    """
    cells = table.column(columns.grade)
    numbers = [match and int(match[1]) for match in map(NUMBER.fullmatch, cells)]
    blank = _BLANK | ({"none"} if any(number is not None for number in numbers) else set())
    marks = {mark.casefold() for mark in flags.ungradable}
    if is_ddr(table) and num_classes == 5:
        marks.add("5")
    gradable = _gradable(table, columns.gradable)
    clash = contradiction(dict.fromkeys(cells))
    if clash:
        raise InputError(f"{table.path}: {clash}; write one of the two alone")
    labels, odd = [], []
    for line, cell, number, can in zip(table.lines, cells, numbers, gradable):
        word = cell.casefold()
        grade = class_of(cell)
        if not can or word in marks or str(number) in marks or plain(cell) in _UNGRADABLE:
            labels.append(Label(line, None, "ungradable"))
        elif word in blank:
            labels.append(Label(line, None, "no grade"))
        elif grade is not None and 0 <= grade < num_classes:
            labels.append(Label(line, grade, ""))
        else:
            odd.append((line, cell))
    if odd:
        shown = ", ".join(f"{printable(cell)!r} in line {line}" for line, cell in odd[:_EXAMPLES])
        mark = f", what marks ungradable pictures by {flags.mark_flag}" if flags.mark_flag else ""
        if min((n for n in numbers if n is not None), default=0) == 1 and all(
            cell == str(num_classes) for _, cell in odd
        ):
            names = " ".join(str(k + 1) for k in range(num_classes))
            mark = f" (do they count from 1? Then pass --class_names {names}){mark}"
        if any(meaning_of(cell).grades is not None for _, cell in odd):
            mark = f"; classes of other names are given by --num_classes and --class_names{mark}"
        more = f" and {len(odd) - _EXAMPLES} more" if len(odd) > _EXAMPLES else ""
        raise InputError(
            f"{table.path}: expected grades 0..{num_classes - 1} in column "
            f"{printable(table.columns[columns.grade])!r}, found {shown}{more}; another column is "
            f"named by {flags.grade_flag}{mark}"
        )
    return labels


def class_reader(num_classes: int, class_names: Sequence[str] = ()) -> Callable[[str], int | None]:
    """Return what reads the class that a cell such as "2", "No_DR" or "grade 2" means.

    It gives None for other words. class_names: of a model or dataset, in grade order; a class that
    holds several grades, such as NPDR, is meant by the name of each. Numbers are places in that
    order, unless names are numbers themselves: then they are names.
    """
    given = {spelled(name): number for number, name in enumerate(class_names)}
    meanings = [meaning_of(name) for name in class_names]
    by_number = {m.number: number for number, m in enumerate(meanings) if m.counts}
    ranges = grades_of(class_names) if class_names else [(k, k) for k in range(num_classes)]
    usual = bool(class_names) or num_classes == GRADES

    @functools.cache
    def class_of(word: str) -> int | None:
        if spelled(word) in given:
            return given[spelled(word)]
        number = NUMBER.fullmatch(word)
        if number:
            return by_number.get(int(number[1])) if by_number else int(number[1])
        meaning = meaning_of(word)
        if meaning.counts and not class_names:
            return meaning.number
        grade = grade_of(word) if usual else None
        if grade is None:
            return None
        return next((k for k, r in enumerate(ranges) if r and r[0] <= grade <= r[1]), None)

    return class_of


def numbers_as_places(cells: Sequence[str], class_names: Sequence[str]) -> str:
    """Say how numbers are read where the classes have names that are none; "" where it is clear."""
    numbers = sorted({int(match[1]) for match in map(NUMBER.fullmatch, cells) if match})
    named = [name for name in class_names if not meaning_of(name).counts]
    if not numbers or not named:
        return ""
    read = ", ".join(f"{n} as {class_names[n]}" for n in numbers if 0 <= n < len(class_names))
    return f"numbers are read as places among the classes: {printable(read)}"


def is_ddr(table: Table) -> bool:
    """Tell DDR's form: rows `007-0004-000.jpg 0`, with the header `name label` or none."""
    names = tuple(map(plain, table.columns))
    return len(names) == 2 and (names == ("name", "label") or not table.header)


def _gradable(table: Table, column: int | None) -> list[bool]:
    """Say of each row whether a column of its own calls the picture gradable, or is blank."""
    if column is None:
        return [True] * len(table.rows)
    found = []
    for line, cell in zip(table.lines, table.column(column)):
        match = NUMBER.fullmatch(cell)
        word = match[1] if match else cell.casefold()
        if word not in _YES | _NO | _BLANK:
            raise InputError(
                f"{table.path}: line {line}: expected 1 or 0 in column "
                f"{printable(table.columns[column])!r}, found {printable(cell)!r}"
            )
        found.append(word not in _NO)
    return found
