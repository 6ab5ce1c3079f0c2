"""The classes that predictions are of, and those that a set of images is graded in.

K classes of a model, M of a set, both in grade order. A set may know less than the model: whoever
grades "referable" or not puts grades 2 to 4 into one class, and the model's probabilities of these
are summed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.class_names import (
    GRADES,
    FolderLabels,
    SetClasses,
    contradiction,
    grades_of,
    meaning_of,
    plain,
    quoted,
    require_grade_order,
    spelled,
    titles_of,
)
from common.data.folders import Split
from common.prediction.voting import ClassPredictions
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.log import printable

_METRICS = {"recall": "recall", "precision": "precision", "f1": "F1", "auc": "AUC"}  # of a class
MODERATE = 2  # the least grade that is referred (International Clinical DR scale)
_UNSURE = (
    "--referable_from CLASS of train_ovo.py and evaluate_ensemble.py says from which class on an "
    "eye is referred"
)


@dataclass(frozen=True)
class Classes:
    """Classes by name, and from which one on an eye is referred."""

    names: tuple[str, ...]  # (K,)
    referable_from: int | None = None  # the first class that is referred; None: not known
    unknown: str = ""  # why it is not known
    note: str = ""  # what was assumed to know it

    def __len__(self) -> int:
        return len(self.names)

    @property
    def word(self) -> str:
        """Say what a class is called in general: a grade where they are named 0 to 4."""
        return "grade" if self.names == tuple(map(str, range(GRADES))) else "class"

    @property
    def titles(self) -> tuple[str, ...]:
        """Call each class as tables do: by its name, "grade 3" or "class 3" if that is a number."""
        return titles_of(self.names)

    def pair_title(self, pair: str) -> str:
        """Name a pair such as "0-1" together with its classes, where they are not called that."""
        first, second = (self.names[int(place)] for place in pair.split("-"))
        return pair if pair == f"{first}-{second}" else f"{pair} ({first} vs {second})"

    def metric_title(self, key: str) -> str:
        """Call a metric as tables do: "precision_1" by the class's name, if it is not called 1."""
        metric, _, place = key.rpartition("_")
        if metric not in _METRICS or not place.isdecimal() or self.names[int(place)] == place:
            return key
        return f"{_METRICS[metric]} of {self.titles[int(place)]}"

    @property
    def recall_1_title(self) -> str:
        """Call the recall of the second class, mild among five, that the guide asks for."""
        return "class-1 recall" if self.names[1] == "1" else self.metric_title("recall_1")

    @property
    def referable(self) -> str:
        """Say which classes are referable."""
        if self.referable_from is None:
            return f"not known ({self.unknown})"
        note = f" ({self.note})" if self.note else ""
        return f"{self.from_on(self.referable_from)}{note}"

    def from_on(self, first: int) -> str:
        """Say which classes are this one or a higher one, such as "grade 2 or worse"."""
        title = self.titles[first]
        if first < len(self) - 1:
            return f"{title} or worse"
        return f"the class {title!r}" if title == self.names[first] else title


def classes_of(names: Sequence[str], referable_from: str = "") -> Classes:
    """Find out from which class on an eye is referred, by what the names mean.

    referable_from: that class, by name or index, if it was given. Else the first class that holds
    only moderate or worse, unless another holds both sides of that cut, as "NPDR" does; of two
    classes the higher one, unless the names say that both or none are referred. "1" to "5" are the
    five grades, counted from 1. Raises InputError where the class given is none of these, or the
    first.
    """
    names = tuple(names)
    if referable_from:
        return Classes(names, _class_named(referable_from, names))
    found = [meaning_of(name) for name in names]
    if all(m.counts for m in found) and [m.number for m in found] == list(range(1, GRADES + 1)):
        return Classes(names, MODERATE, note="the classes 1 to 5 are taken for the grades 0 to 4")
    grades = grades_of(names)
    if len(names) == 2:
        first, second = grades[0] or found[0].number_as_grade, grades[1]
        if first is not None and first[0] >= MODERATE:
            return Classes(names, None, f"all classes are at least moderate; {_UNSURE}")
        if second is not None and second[1] < MODERATE:
            return Classes(names, None, f"all classes are below moderate; {_UNSURE}")
        if first is None or second is None or first[1] < MODERATE:
            return Classes(names, 1)
    known = [both for both in grades if both is not None]
    if len(known) < len(names):
        missing = quoted([name for name, both in zip(names, grades) if both is None])
        return Classes(
            names, None, f"the names {missing} do not say how severe they are; {_UNSURE}"
        )
    for name, (first_grade, last_grade) in zip(names, known):
        if first_grade < MODERATE <= last_grade:
            text = f"{name} holds eyes below and above moderate; {_UNSURE}"
            return Classes(names, None, text)
    cut = sum(last < MODERATE for _, last in known)
    if cut in (0, len(names)):
        side = "at least" if cut == 0 else "below"
        return Classes(names, None, f"all classes are {side} moderate; {_UNSURE}")
    return Classes(names, cut)


def _class_named(text: str, names: tuple[str, ...]) -> int:
    """Find a class by its name, in any case, or else by its index, or what the name means."""
    places = [k for k, name in enumerate(names) if name == text]
    places = places or [k for k, name in enumerate(names) if spelled(name) == spelled(text)]
    if not places and text.isdecimal() and int(text) < len(names):
        places = [int(text)]
    wanted = meaning_of(text).grades
    places = places or [k for k, own in enumerate(grades_of(names)) if wanted and own == wanted]
    if len(places) != 1 or places == [0]:
        raise InputError(
            f"--referable_from: expected the first class that is referred, one of "
            f"{quoted(names[1:])} or its index 1..{len(names) - 1}, found {text!r}"
        )
    return places[0]


# -- a set's classes and a model's -------------------------------------------------------------

Span = tuple[int, int]  # first and last of the model's classes that a class of a set holds
_ADVICE = (
    "say which of these each folder holds: --class_map FOLDER=CLASS, or FOLDER=FIRST..LAST for a "
    "folder of several"
)


def sum_up(predictions: ClassPredictions, classes: SetClasses | None) -> ClassPredictions:
    """Turn predictions of a model's classes into those of a set's.

    Probabilities (N, K) are summed to (N, M); predicted is the set's class that holds the predicted
    one, so that images have the same referable figures however finely they are graded. None, or a
    set that knows all of the model's classes: they stay as they are.
    """
    if classes is None or not classes.coarser:
        return predictions
    of_model = np.array(classes.of_model)
    sums = predictions.probabilities @ np.eye(len(classes.names))[of_model]
    return ClassPredictions(sums, of_model[predictions.predicted])


def scored_classes(
    names: Sequence[str], model_cut: str, classes: SetClasses | None, referable_from: str = ""
) -> Classes:
    """Find out in which classes predictions are scored, and from which one an eye is referred.

    names: of the model's classes; model_cut: what its training was told of the cut, if anything.
    classes: the set's. The cut is the class given as referable_from; of a set that knows less than
    the model, the higher of two classes, else the model's cut, if a class of the set begins there.
    """
    if classes is None or not classes.coarser:
        return classes_of(names, referable_from or model_cut)
    if referable_from or len(classes.names) == 2:
        return classes_of(classes.names, referable_from)
    model = classes_of(names, model_cut)
    cut = model.referable_from
    if cut is None:
        return Classes(classes.names, None, model.unknown)
    below, above = classes.of_model[cut - 1], classes.of_model[cut]
    if below == above:
        both = f"{model.titles[cut - 1]} and {model.titles[cut]}"
        return Classes(classes.names, None, f"{classes.names[above]} holds {both}; {_UNSURE}")
    return Classes(classes.names, above)


@dataclass(frozen=True)
class SetMatcher:
    """Matches the folders of a set with the classes of a model, by name or meaning: a Matcher."""

    model: tuple[str, ...]  # (K,) names of the model's classes
    class_names: tuple[str, ...] = ()  # the set's folders, if given
    class_map: tuple[str, ...] = ()  # FOLDER=CLASS or FOLDER=FIRST..LAST, if given

    def __call__(self, found: Sequence[str], place: Path) -> FolderLabels:
        """Tell which class of the set each folder in a place holds, and what those classes are.

        A class without folder counts as one without images. Raises InputError, with both lists,
        where names cannot be matched, or where only "0" and "1" are there: they may be two of the
        grades, or referable and not.
        """
        spans = self._spans(found, place)
        distinct = sorted(set(spans.values()))
        covered = [k for first, last in distinct for k in range(first, last + 1)]
        if not spans or len(set(covered)) < len(covered):
            what = "two folders share a class in part" if spans else "none can be matched"
            raise self._refused(found, place, what)
        distinct += [(k, k) for k in range(len(self.model)) if k not in covered]
        distinct.sort()
        if len(distinct) < 2:
            raise self._refused(found, place, "all would be one class")
        labels = {name: distinct.index(span) for name, span in spans.items()}
        names = self._names(distinct, spans)
        of_model = [label for label, (a, b) in enumerate(distinct) for _ in range(a, b + 1)]
        missing = [name for label, name in enumerate(names) if label not in labels.values()]
        return FolderLabels(
            labels,
            SetClasses(names, tuple(of_model)),
            tuple(missing),
            quoted(self.model),
            "move them away, or name the folders to read: --class_names; if they hold some of "
            f"these classes, {_ADVICE}",
            "not named by --class_names" if self.class_names else "",
        )

    def _spans(self, found: Sequence[str], place: Path) -> dict[str, Span]:
        """Find the model's classes that each folder holds; those that are no class are left out."""
        mapped = dict(self._read_map())
        absent = sorted(set(mapped) - set(map(spelled, found)))
        if absent:
            raise self._refused(found, place, f"--class_map: there is no {quoted(absent)}")
        folders = self._asked(found, place)
        spans: dict[str, Span] = {}
        for name in folders:
            meant, given = self.span_of(name), mapped.get(spelled(name))
            if given and meant and not meaning_of(name).counts and not _overlap(given, meant):
                titles = titles_of(self.model)
                raise InputError(
                    f"--class_map: {printable(name)} means {titles[meant[0]]}, not "
                    f"{titles[given[0]]}; rename the folder if it holds something else"
                )
            span = given or meant
            if span is not None:
                spans[name] = span
        counted = {name: meaning_of(name).number for name in folders if meaning_of(name).counts}
        own = set(map(spelled, self.model))
        unsure = [n for n in spans if spelled(n) not in own and spelled(n) not in mapped]
        clash = contradiction(unsure)
        if clash:
            raise self._refused(found, place, clash)
        strange = [name for name in counted if name not in spans]
        if spans and strange:  # such as 1..5 for 0..4
            raise self._refused(found, place, f"{quoted(strange)} cannot be matched")
        two = set(counted.values()) == {0, 1} and len(spans) == 2
        if two and len(self.model) > 2 and not mapped:
            last = len(self.model) - 1
            raise self._refused(
                found,
                place,
                "0 and 1 may be two of the grades or two groups of them, such as referable or not "
                f"(--class_map 0=0 1=1, or --class_map 0=0..1 1=2..{last})",
            )
        for name in [name for name in spans if name not in self.model]:
            twins = [n for n in spans if n != name and _means_the_same(n, name)]
            if any(twin in self.model for twin in twins):
                del spans[name]  # images in it are refused when the folder is listed
            elif twins:
                raise self._refused(found, place, f"{name} and {twins[0]} mean the same")
        return spans

    def _asked(self, found: Sequence[str], place: Path) -> Sequence[str]:
        """Choose the folders that --class_names names, in any case; all without it.

        A name that is no folder's names those that mean the same.
        """
        if not self.class_names:
            return found
        require_grade_order(self.class_names)
        wanted = {spelled(name) for name in self.class_names}
        folders = [name for name in found if name in self.class_names]
        folders += [
            n
            for n in found
            if n not in folders and spelled(n) in wanted - set(map(spelled, folders))
        ]
        rest = wanted - set(map(spelled, folders))
        spans = {self.span_of(name) for name in self.class_names if spelled(name) in rest}
        folders += [n for n in found if n not in folders and self.span_of(n) in spans - {None}]
        unknown = [
            name
            for name in self.class_names
            if self.span_of(name) is None and spelled(name) not in dict(self._read_map())
        ]
        if unknown:
            raise self._refused(self.class_names, place, f"{quoted(unknown)} cannot be matched")
        return folders or found

    def span_of(self, name: str) -> Span | None:
        """Find the model's classes that a name means; None where that is not clear."""
        for same in (spelled, plain):
            alike = [k for k, own in enumerate(self.model) if same(own) == same(name)]
            if len(alike) == 1:
                return alike[0], alike[0]
        meaning = meaning_of(name)
        if meaning.counts and all(meaning_of(own).counts for own in self.model):
            alike = [
                k for k, own in enumerate(self.model) if meaning_of(own).number == meaning.number
            ]
            return (alike[0], alike[0]) if len(alike) == 1 else None
        wanted = meaning.grades or meaning.number_as_grade
        if wanted is None:
            return None
        inside = []
        for k, own in enumerate(grades_of(self.model)):
            if own is None or own[1] < wanted[0] or wanted[1] < own[0]:
                continue
            if own[0] <= wanted[0] and wanted[1] <= own[1]:
                return k, k
            if own[0] < wanted[0] or wanted[1] < own[1]:
                return None
            inside.append(k)
        return (inside[0], inside[-1]) if inside else None

    def _read_map(self) -> list[tuple[str, Span]]:
        """Read --class_map: folder, as spelled, and the model's classes that it holds."""
        entries = []
        for entry in self.class_map:
            folder, _, classes = entry.rpartition("=")
            first, _, last = classes.partition("..")
            span = self._class_named(first), self._class_named(last or first)
            if not folder or span[0] is None or span[1] is None or span[0] > span[1]:
                raise InputError(
                    f"--class_map: expected FOLDER=CLASS or FOLDER=FIRST..LAST with the model's "
                    f"classes {quoted(self.model)}, or 0..{len(self.model) - 1}, found {entry!r}"
                )
            entries.append((spelled(folder), (span[0], span[1])))
        if len({folder for folder, _ in entries}) < len(entries):
            raise InputError(f"--class_map: {quoted(self.class_map)} names a folder twice")
        return entries

    def _class_named(self, text: str) -> int | None:
        """Find one of the model's classes by its name, or its index."""
        if text in self.model:
            return self.model.index(text)
        if text.isdecimal() and int(text) < len(self.model):
            return int(text)
        span = self.span_of(text)
        return span[0] if span is not None and span[0] == span[1] else None

    def _names(self, distinct: Sequence[Span], spans: dict[str, Span]) -> tuple[str, ...]:
        """Name the set's classes: as the model's if they are these, else as their folders."""
        if all(first == last for first, last in distinct):
            return self.model
        titles = Classes(self.model).titles
        names = []
        for span in distinct:
            folders = [name for name, found in spans.items() if found == span]
            name = printable(folders[0]) if len(folders) == 1 else titles[span[0]]
            names.append(f"{name} ({span[0]}..{span[1]})" if name in names else name)
        return tuple(names)

    def _refused(self, found: Sequence[str], place: Path, what: str) -> InputError:
        expected = f"expected folders of the model's classes {quoted(self.model)} in {place}, found"
        if not found:
            return InputError(f"{expected} none")
        return InputError(f"{expected} {quoted(found)}: {what}; {_ADVICE}")


def _overlap(one: Span, other: Span) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _means_the_same(one: str, other: str) -> bool:
    first, second = meaning_of(one), meaning_of(other)
    grades = first.grades or first.number_as_grade
    same = grades is not None and grades == (second.grades or second.number_as_grade)
    return same or plain(one) == plain(other)


def same_classes(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two models' classes are the same, however they are spelled."""
    matcher = SetMatcher(tuple(one))
    return len(one) == len(other) and all(
        matcher.span_of(name) == (k, k) for k, name in enumerate(other)
    )


def require_same_classes(models: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raise InputError unless all models, each with its classes' names, know the same classes."""
    for model, names in models[1:]:
        first, expected = models[0]
        if not same_classes(expected, names):
            raise InputError(
                f"{first} knows the classes {quoted(expected)}, {model} {quoted(names)}; models "
                "of one ensemble need the same classes"
            )


def describe_classes(run: Run, split: Split) -> list[str]:
    """Say how a split's folders were matched with a model's classes, where that is not plain."""
    lines = []
    if run.names != run.trained_names:
        lines.append(
            f"note: {run.directory.root} was trained on the classes {quoted(run.trained_names)}; "
            f"results are in the order of their grades, {quoted(run.names)}"
        )
    folders = split.folders
    if folders is None:
        return lines
    titles, of_set = Classes(run.names).titles, Classes(folders.classes.names)
    held = [
        [k for k, own in enumerate(folders.classes.of_model) if own == label]
        for label in range(len(of_set))
    ]
    renamed = [
        f"{printable(name)} is {', '.join(titles[k] for k in held[label])}"
        for name, label in folders.labels.items()
        if [run.names[k] for k in held[label]] != [name]
    ]
    if renamed:
        lines.append(f"{split.name}: folder {'; '.join(renamed)}")
    missing = [of_set.titles[of_set.names.index(name)] for name in folders.missing]
    if missing:
        lines.append(
            f"{split.name}: no folder holds {', '.join(missing)}; evaluated as without images"
        )
    if folders.classes.coarser:
        lines.append(
            f"{split.name}: graded in {len(folders.classes.names)} classes, not in the model's "
            f"{len(run.names)}: the probabilities of those that a class holds are summed"
        )
    return lines
