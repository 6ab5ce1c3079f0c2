"""Tell which images are of one patient: by a table, by a pattern, or by the usual names of files.

N images. A name is read without its class's folder, its ending, and what marks it as a copy. The
usual schemes are tried in the order of SCHEMES, each on the names that those before it left, and
each must fit the names as a whole: it is evidence, not a single match, that makes a name a
patient's.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.data.copies import source_name
from common.listing.split_folders import split_of
from common.system.errors import InputError

AUTO = "auto"  # --patient_regex: try the usual schemes
PATIENT_HELP = (
    "its first group names the patient in a file's name (default auto: the usual schemes, such as "
    "10_left, P01_OD, 1_l1, 12.1)"
)
_MOST = 12  # images that a patient has on average, at most; more is a site, a day or a class
_MANY = 40  # images of a single patient, at most, where that is more than a tenth of all
_FEWEST = 8  # patients with several images from which on a mere pair of numbers may name them
_DAY = r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
# beside a patient's name, when the picture was taken: P001_20190101_OD, P001_v2_OD
_VISIT = re.compile(
    rf"^{_DAY}[ _.-]+|[ _.-]+{_DAY}$|[ _.-]+v(?:isit)?[ _.-]?\d{{1,2}}$", re.IGNORECASE
)
_DATE = re.compile(rf"{_DAY}$")
# the words for the left and the right eye that are used together, in the order they are looked for
_EYES = (("left", "right"), ("os", "od"), ("oi", "od"), ("og", "od"), ("le", "re"), ("l", "r"))


@dataclass(frozen=True)
class Patients:
    """Which images are of one patient, as far as that is known, and what tells it."""

    groups: np.ndarray  # (N,) a number for each patient; an image of nobody known has its own
    evidence: str  # such as "38 patients in 76 names by 'n_left/n_right'"
    known: np.ndarray  # (N,) whether the image's patient is known
    names: int  # of images that were judged: all, unless some cannot be read
    called: tuple[str, ...] = ()  # (N,) what each image's patient is called, "" where not known

    @property
    def unknown(self) -> int:
        """Count the images whose patient is not known."""
        return self.names - int(self.known.sum())

    @property
    def recognised(self) -> bool:
        """Tell whether any image's patient is known."""
        return bool(self.known.any())

    def beyond_doubt(self, regex: str) -> np.ndarray:
        """Tell (N,) whose patient is known, not by a pattern of one's own, which may be a guess.

        regex: by which they were recognised.
        """
        return self.known & (regex == AUTO)

    @property
    def clusters(self) -> np.ndarray | None:
        """The groups, or None where no two images belong together.

        An image of nobody known has a negative number, so that it is not counted as a patient.
        """
        if len(np.unique(self.groups)) == len(self.groups):
            return None
        return np.where(self.known, self.groups, -1 - self.groups)


class PatientTable(Protocol):
    """A table that may know the patients, such as a dataset's metadata.csv."""

    def column(self, name: str, ids: Sequence[str]) -> list[str]:
        """Return a column's values for these images, "" where they are not known."""


@dataclass(frozen=True)
class Reading:
    """What a scheme reads in one name."""

    patient: str
    image: str  # which of the patient's: an eye, or a number


@dataclass(frozen=True)
class Scheme:
    """A usual way to write the patient into a file's name."""

    name: str  # as it is printed
    pattern: re.Pattern[str]  # of the whole name; the groups patient, or rest, and image
    eyes: tuple[str, str] | None = None  # the words for the two eyes; None: images are numbered
    certain: bool = True  # a few names will do; otherwise half of the names left must fit

    @property
    def mark(self) -> str:
        """What sets its patients apart from those of equal names in other schemes."""
        return "" if self is SCHEMES[0] else f" ({self.name})"

    def read(self, name: str) -> Reading | None:
        """Read a name, given without ending and copy marks."""
        match = self.pattern.search(name)
        if not match:
            return None
        found = match.groupdict()
        patient = _VISIT.sub("", found["patient"].strip(" _.-/"))
        if "rest" in found:
            patient += f"|{found['rest']}"
        if not patient.strip("|") or _DATE.match(patient):
            return None
        return Reading(patient, found.get("image", "").lower())


def recognise_patients(
    ids: Sequence[str], regex: str = AUTO, metadata: PatientTable | None = None
) -> Patients:
    """Group image ids (N,) by patient: first by a table's column `patient`, then by their names.

    regex: AUTO for the usual schemes, or a regular expression whose first group names the patient
    in the file name. Raises InputError for an expression that is none, has no group, or takes all
    images for one patient's.
    """
    names = [_below_class_folder(str(name)) for name in ids]
    patient = [""] * len(names)
    found: list[str] = []
    if metadata is not None:
        patient = [value.strip() for value in metadata.column("patient", ids)]
        found += _said([value for value in patient if value], len(names), "by metadata.csv")
    by_name = _by_schemes if regex == AUTO else _by_pattern
    left = [place for place, value in enumerate(patient) if not value]
    read, evidence = by_name([names[place] for place in left], regex)
    for place, value in zip(left, read):
        patient[place] = value
    found += evidence
    keys = [f"patient {value}" if value else f"image {id_}" for value, id_ in zip(patient, ids)]
    numbers = np.unique(keys, return_inverse=True)[1] if keys else np.empty(0, dtype=np.int64)
    nothing = f"no patient recognised in {len(names)} names"
    if regex != AUTO:
        nothing += f" by --patient_regex '{regex}'"
    known = np.array([bool(value) for value in patient], dtype=bool)
    return Patients(numbers, "; ".join(found) or nothing, known, len(names), tuple(patient))


def recognise_eyes(ids: Sequence[str], metadata: PatientTable | None = None) -> np.ndarray:
    """Tell (N,) which eye images show: "left", "right", another word of a table, or "".

    Taken from a table's column `eye`, else from the words in the file names, apart or between
    digits, of which both must occur: one alone may mean anything.
    """
    eyes = [value.strip().lower() for value in metadata.column("eye", ids)] if metadata else []
    eyes = eyes or [""] * len(ids)
    side = {word: side for pair in _EYES for word, side in zip(pair, ("left", "right"))}
    names = [str(name).rpartition("/")[2].lower() for name in ids]
    for pair in _EYES:
        word = re.compile(rf"(?<![^\W_\d])({'|'.join(pair)})(?:[ _.-]?eye)?(?![^\W_\d])")
        read = [match[1] if (match := word.search(name)) else "" for name in names]
        if set(pair) <= set(read):
            eyes = [eye or mine for eye, mine in zip(eyes, read)]
    return np.array([side.get(eye, eye) for eye in eyes], dtype=str)


def are_eyes(words: Sequence[str]) -> bool:
    """Tell whether words are the names of the two eyes, in any case and order."""
    return any(sorted(pair) == sorted(word.lower() for word in words) for pair in _EYES)


def _below_class_folder(id_: str) -> str:
    """Return an image's name, with its folders below that of its class, if any."""
    first, *rest = id_.split("/")
    above = 2 if split_of(first) else 1
    return "/".join([first, *rest][above:]) or id_.rpartition("/")[2]


def _by_pattern(names: list[str], regex: str) -> tuple[list[str], list[str]]:
    """Read names by a user's expression; returns each one's patient, and what to say of it."""
    try:
        expression = re.compile(regex)
    except re.error as error:
        raise InputError(f"--patient_regex {regex!r}: {error}") from error
    if expression.groups < 1:
        raise InputError(f"--patient_regex {regex!r}: expected a group (...) for the patient")
    matches = [expression.search(name.rpartition("/")[2]) for name in names]
    read = [(match[1] or "") if match else "" for match in matches]
    if len(read) > 1 and read[0] and len(set(read)) == 1:
        raise InputError(
            f"--patient_regex {regex!r}: takes all {len(read)} images for one patient's"
        )
    return read, _said([value for value in read if value], len(names), f"by '{regex}'")


def _by_schemes(names: list[str], _: str) -> tuple[list[str], list[str]]:
    """Read names by the usual schemes; returns each one's patient, and what to say of it."""
    parts = [name.rpartition("/") for name in names]
    sources = [f"{folder}{slash}{source_name(name)}" for folder, slash, name in parts]
    read, found = [""] * len(names), []
    for scheme in SCHEMES:
        left = {source for source, patient in zip(sources, read) if not patient}
        readings = {s: reading for s in sorted(left) if (reading := scheme.read(s))}
        if not readings or not _convinces(scheme, readings, left):
            continue
        mine = []
        for place, source in enumerate(sources):
            if not read[place] and source in readings:
                read[place] = readings[source].patient + scheme.mark
                mine.append(read[place])
        found += _said(mine, len(names), f"by '{scheme.name}'")
    return read, found


def _said(patients: list[str], names: int, how: str) -> list[str]:
    """Say how many patients were read, and how; nothing for none."""
    if not patients:
        return []
    share = (
        f"{len(patients)} names" if len(patients) == names else f"{len(patients)} of {names} names"
    )
    count = len(set(patients))
    return [f"{count} patient{'s' if count > 1 else ''} in {share} {how}"]


def _convinces(scheme: Scheme, readings: Mapping[str, Reading], left: set[str]) -> bool:
    """Tell whether what a scheme reads is likely to be patients, judged on all names together.

    readings: by name, of the names that fit. left: all names that could have fitted.
    """
    images: dict[str, list[str]] = defaultdict(list)  # of each patient
    for reading in readings.values():
        images[reading.patient].append(reading.image)
    sizes = [len(each) for each in images.values()]
    several = [each for each in images.values() if len(each) > 1]
    if len(images) == 1 and len(readings) == len(left):  # all are one patient's
        return False
    if not several or len(readings) > _MOST * len(images):
        return False
    if max(sizes) > max(_MANY, len(left) / 10):
        return False
    if not scheme.certain and 2 * len(readings) < len(left):
        return False
    return (
        _eyes_fit(several, scheme) if scheme.eyes else _numbers_fit(several, scheme, left, images)
    )


def _eyes_fit(several: list[list[str]], scheme: Scheme) -> bool:
    """Tell whether the patients of several images have both eyes, as far as one may ask for it."""
    both = sum(len({_eye(image, scheme) for image in each}) > 1 for each in several)
    return both > 0 and (scheme.certain or 2 * both >= len(several))


def _eye(image: str, scheme: Scheme) -> bool:
    assert scheme.eyes is not None
    return image == scheme.eyes[0].lower()


def _numbers_fit(
    several: list[list[str]], scheme: Scheme, left: set[str], images: Mapping[str, list[str]]
) -> bool:
    """Tell whether the images are numbered anew for each patient, and not in one row over all.

    Numbers from 0 or 1 on, hardly any left out, and all the fewer where most patients have one
    image; and no file has the patient's name alone, whose copies the others may be.
    """
    if scheme.certain:
        return True
    mostly_several = 2 * len(several) >= len(images)
    if len(several) < _FEWEST:
        return False
    if scheme.pattern.groups == 1:  # no number is read
        return mostly_several
    plain = sum(patient in left for patient in images)
    counted = several if mostly_several else list(images.values())
    anew = sum(_from_the_start([int(image) for image in each]) for each in counted)
    needed = 0.7 if mostly_several else 0.95
    return 10 * plain < len(images) and anew >= needed * len(counted)


def _from_the_start(numbers: list[int]) -> bool:
    """Tell whether numbers are 0, 1, 2, ... or 1, 2, 3, ... without a gap, in any order."""
    counts = Counter(numbers)
    first = min(numbers)
    return first in (0, 1) and len(counts) == len(numbers) == max(numbers) - first + 1


def _eye_schemes(first: str, second: str, certain: bool = True) -> tuple[Scheme, ...]:
    """Make the schemes in which these words stand for the eyes: after, or before, the patient.

    The word stands apart or between digits (`12_OD`, `12OD`, `1_l2`); what follows it (a date, a
    number) is no part of the patient, unless all of a patient's name stands there.
    """
    # a digit may touch the word, or "eye", but no other letter
    word = rf"(?<![^\W_\d])(?P<image>{first}|{second})(?:[ _.-]?eye)?(?![^\W_\d])"
    eyes = (first, second)
    patterns = {
        f"n_{first}/n_{second}": rf"^(?P<patient>.+?){word}",
        f"{first}_n/{second}_n": rf"^(?P<patient>.*?){word}[ _.-]*(?P<rest>.+)$",
    }
    return tuple(
        Scheme(name, re.compile(pattern, re.IGNORECASE), eyes, certain)
        for name, pattern in patterns.items()
    )


# in the order in which they are tried; docs/data.md lists them
SCHEMES = (
    *_eye_schemes("left", "right"),  # EyePACS, ODIR: 10_left
    *_eye_schemes("OD", "OS"),  # P0001_OD_20190101
    *_eye_schemes("OD", "OI"),  # Spanish, Portuguese
    *_eye_schemes("OD", "OG"),  # French
    *_eye_schemes("LE", "RE", certain=False),
    *_eye_schemes("L", "R", certain=False),  # DeepDRiD: 1_l1
    Scheme(
        "patient n",  # patient12_3, sub-012_1
        re.compile(
            r"(?<![^\W_\d])(?:patient|pat|subject|subj|sub|pid)[ _.-]*(?P<patient>\d+)",
            re.IGNORECASE,
        ),
    ),
    Scheme(
        "patient.number",  # mBRSET: 12.1
        re.compile(r"^(?P<patient>\d+)\.(?P<image>\d{1,2})$"),
        certain=False,
    ),
    Scheme(
        "patient_number",  # 0001_1
        re.compile(r"^(?P<patient>.*\d)[_-](?P<image>\d{1,2})$"),
        certain=False,
    ),
    Scheme(
        "patient/",  # a folder for each patient, in those of the classes
        re.compile(r"^(?P<patient>.+)/"),
        certain=False,
    ),
)
