"""Gather what is complete of methods and changes, and measure it."""

import math
from collections.abc import Mapping, Sequence
from statistics import median, stdev

import numpy as np

from benchmarks.accuracy_tables.measures import (
    Answers,
    Judged,
    average,
    differences,
    judge,
    measure,
    pool_folds,
    summarise,
)
from benchmarks.accuracy_tables.results import (
    ChangeResult,
    Changes,
    Conditions,
    Grid,
    MethodResult,
    Methods,
)
from benchmarks.recipes.methods import (
    CHANGED,
    CHANGES,
    REFERENCES,
    UNSEEDED,
    Change,
    Member,
    Method,
    methods_of,
)
from benchmarks.recipes.runs import Place, Run
from common.metrics.intervals import BootstrapConfig
from common.system.errors import InputError
from common.system.files import read_json
from common.system.log import log


def largest_grid(folds_of: Mapping[int, set[int]]) -> Grid | None:
    """Return the seeds with the most folds, those that have all of these; None without any."""
    best = max(folds_of.values(), key=len, default=set())
    seeds = tuple(sorted(seed for seed, folds in folds_of.items() if folds >= best))
    return Grid(seeds, tuple(sorted(best))) if best else None


def gather_methods(place: Place, models: Sequence[str], bootstrap: BootstrapConfig) -> Methods:
    """Measure all methods of which something is complete."""
    reader, methods = Reader(place), methods_of(models)
    rows = _methods(reader, methods, bootstrap)
    members = [member for method in methods for member in method.members]
    return Methods(conditions_of(reader, models, members), rows)


def gather_changes(place: Place, model: str, bootstrap: BootstrapConfig) -> Changes:
    """Measure all changes of the recipe of which something is complete."""
    reader = Reader(place)
    rows = _changes(reader, model, bootstrap)
    return Changes(conditions_of(reader, [model], [Member(CHANGED, model)]), rows)


class Reader:
    """Reads the answers of complete runs, each once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.groups = place.column("group")
        self._runs: dict[tuple[str, str], list[Run]] = {}
        self._answers: dict[tuple[object, ...], Answers] = {}

    def runs(self, recipe: str, model: str) -> list[Run]:
        """List the complete runs of a member."""
        key = (recipe, model)
        if key not in self._runs:
            self._runs[key] = self.place.complete(recipe, model)
        return self._runs[key]

    def folds_of(self, member: Member) -> dict[int, set[int]]:
        """List the complete folds of each seed."""
        found: dict[int, set[int]] = {}
        for run in self.runs(member.recipe, member.model):
            found.setdefault(run.seed, set()).add(run.fold)
        return found

    def answers(
        self, member: Member, seed: int, folds: Sequence[int], tta: str = "", vote: str = "coupling"
    ) -> Answers:
        """Pool what a member says of the images of some folds."""
        key = (member, seed, tuple(folds), tta, vote)
        if key not in self._answers:
            own = {k: Run(member.recipe, member.model, seed, k) for k in folds}
            by_fold = {k: self.place.images(run, tta) for k, run in own.items()}
            self._answers[key] = pool_folds(by_fold, self.groups, vote)
        return self._answers[key]

    def minutes(self, member: Member) -> float:
        """Return the median time of a member's runs."""
        runs = self.runs(member.recipe, member.model)
        return median(self.place.seconds(run) for run in runs) / 60


def _grid_of(reader: Reader, method: Method) -> Grid | None:
    """Find the seeds and folds that all members of a method have; a probe has no seed."""
    trained = [reader.folds_of(m) for m in method.members if m.recipe not in UNSEEDED]
    probes = [reader.folds_of(m).get(0, set()) for m in method.members if m.recipe in UNSEEDED]
    seeds = set.intersection(*map(set, trained)) if trained else {0}
    folds = {s: set.intersection(*(f[s] for f in trained), *probes) for s in seeds}
    grid = largest_grid(folds)
    return None if grid and method.over_seeds and len(grid.seeds) < 2 else grid


def _judge(reader: Reader, method: Method, grid: Grid) -> list[Judged]:
    """Judge a method for each seed, or once for the mean of all."""
    by_seed = []
    for seed in grid.seeds:
        own = [
            reader.answers(m, 0 if m.recipe in UNSEEDED else seed, grid.folds)
            for m in method.members
        ]
        by_seed.append(average(own) if len(own) > 1 else own[0])
    return [judge(a) for a in ([average(by_seed)] if method.over_seeds else by_seed)]


def _methods(
    reader: Reader, methods: Sequence[Method], bootstrap: BootstrapConfig
) -> list[MethodResult]:
    grids = {method.name: grid for method in methods if (grid := _grid_of(reader, method))}
    found = [method for method in methods if method.name in grids]
    judged, results = {}, []
    for method in found:
        log(f"measuring {method.title}")
        judged[method.name] = _judge(reader, method, grids[method.name])
    single = {method.members[0]: method.name for method in methods if method.is_single}
    for method in found:
        own = judged[method.name]
        others = [*REFERENCES, *(single[member] for member in method.members)]
        against = {
            name: differences(own, judged[name], bootstrap)
            for name in dict.fromkeys(others)
            if name in judged and name != method.name
        }
        result = MethodResult(
            name=method.name,
            title=method.title,
            note=method.note,
            grid=grids[method.name],
            images=len(own[0].answers.ids),
            figures=summarise(own, bootstrap),
            against=against,
            members=[] if method.is_single else [single[m] for m in method.members],
            minutes=reader.minutes(method.members[0]) if method.is_single else None,
        )
        results.append(result)
    return results


def _changes(reader: Reader, model: str, bootstrap: BootstrapConfig) -> list[ChangeResult]:
    """Measure each change on the seeds and folds that the recipe has, too."""
    recipe, found = Member(CHANGED, model), []
    known = reader.folds_of(recipe)
    widest: dict[int, set[int]] = {}
    for change in CHANGES:
        if change.tta and change.tta == reader.place.config(Run(CHANGED, model, 0, 1)).tta:
            continue  # as the recipe has it
        member = Member(change.name, model) if change.is_training else recipe
        folds = reader.folds_of(member)
        both = {seed: own & known[seed] for seed, own in folds.items() if seed in known}
        if not change.is_training:  # asked of the recipe's classifiers where a setting was changed
            both = _with_predictions(reader, member, both, change.tta)
        if change.is_run:
            for seed, own in both.items():
                widest[seed] = widest.get(seed, set()) | own
        else:
            both = {seed: own & widest.get(seed, set()) for seed, own in both.items()}
        grid = largest_grid(both)
        if grid is None:
            continue
        log(f"measuring {change.setting}: {change.to}")
        found.append(_change(reader, change, (member, recipe), grid, bootstrap))
    grid = largest_grid(widest)
    if grid is None:
        return found
    base = Change("the recipe", "as it is")  # on all that anything was compared on
    return [_change(reader, base, (recipe, recipe), grid, bootstrap), *found]


def _with_predictions(
    reader: Reader, member: Member, folds: Mapping[int, set[int]], tta: str
) -> dict[int, set[int]]:
    """Keep the folds of which there are predictions from these views."""
    return {
        seed: {
            fold
            for fold in own
            if reader.place.predictions(Run(member.recipe, member.model, seed, fold), tta).is_file()
        }
        for seed, own in folds.items()
    }


def _change(
    reader: Reader,
    change: Change,
    members: tuple[Member, Member],
    grid: Grid,
    bootstrap: BootstrapConfig,
) -> ChangeResult:
    """Measure a change; members: the changed one and the recipe."""
    changed, recipe = members
    answers = [reader.answers(changed, s, grid.folds, change.tta, change.vote) for s in grid.seeds]
    before = [reader.answers(recipe, s, grid.folds) for s in grid.seeds]
    return change_result(
        setting=change.setting,
        to=change.to,
        grid=grid,
        answers=answers,
        before=None if change.setting == "the recipe" else before,
        bootstrap=bootstrap,
        minutes=reader.minutes(changed),
    )


def change_result(
    setting: str,
    to: str,
    grid: Grid,
    answers: Sequence[Answers],
    before: Sequence[Answers] | None,
    bootstrap: BootstrapConfig,
    minutes: float,
) -> ChangeResult:
    """Measure answers, by seed, beside those before the change; None: these are what it is to."""
    judged = [judge(one) for one in answers]
    singles = [measure(judge(a.of_folds([fold]))) for a in answers for fold in grid.folds]
    spread = {
        name: stdev(float(one[name]) for one in singles) if len(singles) > 1 else math.nan
        for name in ("kappa", "macro_auc", "nll")
    }
    return ChangeResult(
        setting=setting,
        to=to,
        grid=grid,
        images=len(answers[0].ids),
        figures=summarise(judged, bootstrap),
        spread=spread,
        difference=differences(judged, [judge(a) for a in before], bootstrap) if before else {},
        minutes=minutes,
    )


def conditions_of(reader: Reader, models: Sequence[str], members: Sequence[Member]) -> Conditions:
    """Say what was measured on; the software and processor are those of the first run."""
    place, columns = reader.place, reader.place.manifest.columns
    grades, files = (place.manifest.column(columns.index(name)) for name in ("grade", "file"))
    used = [int(grade) for grade, file in zip(grades, files) if file]
    runs = [run for member in members for run in reader.runs(member.recipe, member.model)]
    if not runs:
        raise InputError(f"{place.root}: expected complete runs, found none")
    first = read_json(place.directory(runs[0]) / "run.json")
    return Conditions(
        dataset=place.dataset.name,
        grades=np.bincount(used).tolist(),
        left_out=len(files) - len(used),
        units=len({reader.groups[f"val/{file}"] for file in files if file}),
        models=list(models),
        train_flags=place.train_flags,
        processor=first["processor"],
        versions=first["versions"],
        git_commit=first["git_commit"],
        patient_regex=place.patient_regex,
    )
