"""Measure the maps of all methods, and of one looked at in other ways; check what they show.

N images, S pixels of the square's side, h x w positions of a map.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from benchmarks.evidence_maps.deletion import CURVES, SHARES, Deletion, deletion_of
from benchmarks.evidence_maps.judged import Judged, methods_of, number_groups
from benchmarks.evidence_maps.lesions import Regions, regions_of
from benchmarks.evidence_maps.maps import LAYERS, ORDERS, SHUFFLES, Asked, Look, Place, pair_weights
from benchmarks.evidence_tables.findings import BOXES, CONTRAST
from benchmarks.evidence_tables.measures import (
    Measured,
    Measures,
    compare,
    likeness,
    measure_map,
    measured_of,
    summarise,
    upsample,
)
from benchmarks.evidence_tables.results import Curve, Row
from common.evidence.exact import EXACT
from common.evidence.maps import COMBINED, Summed, resample, sum_pairs, weigh_finer
from common.metrics.intervals import BootstrapConfig
from common.system.log import log


@dataclass(frozen=True)
class View:
    """What of the maps is measured."""

    target: str
    look: Look
    upsampling: str

    @property
    def title(self) -> str:
        """Name it in the log."""
        return f"{self.target}, {self.look.layer}, {self.look.tta}, {self.upsampling}"

    def differences(self, other: "View") -> Iterator[tuple[str, str]]:
        """Say in what another view differs: setting and to what."""
        for name in ("target", "upsampling"):
            if getattr(self, name) != getattr(other, name):
                yield name, getattr(other, name)
        for name in ("layer", "tta"):
            if getattr(self.look, name) != getattr(other.look, name):
                yield name, getattr(other.look, name)


class Examined:
    """A model, its images and where lesions lie in them."""

    def __init__(self, judged: Judged, place: Place) -> None:
        self.judged, self.asked = judged, Asked(judged, place)

    @cached_property
    def regions(self) -> list[Regions]:
        """Where lesions lie in each image."""
        split, boxes = self.judged.split, self.judged.boxes
        preprocessing = self.asked.pixels.preprocessing
        return [
            regions_of(image.path, pixels, boxes[image.id], preprocessing)
            for image, pixels in zip(split.images, self.asked.pixels.read(np.arange(len(split))))
        ]

    @property
    def size(self) -> int:
        """S."""
        return self.asked.pixels.preprocessing.img_size

    def weights(self, view: View) -> np.ndarray:
        """Return how much each pair counts, (N, P): by what the model says with its own weights."""
        layer = EXACT if view.look.layer == COMBINED else view.look.layer
        logits = self.asked.evidence(replace(view.look, layer=layer, shuffled="")).logits
        return pair_weights(view.target, logits, self.judged.referable_from)

    def summed(self, view: View) -> Summed:
        """Return the evidence of each image for what is asked."""
        return sum_pairs(self.asked.evidence(view.look), self.weights(view))

    def maps(self, view: View) -> np.ndarray:
        """Return the map of each image, (N, h, w)."""
        if view.look.layer != COMBINED:
            return self.summed(view).maps
        exact, finer = (
            self.summed(replace(view, look=replace(view.look, layer=layer))).maps
            for layer in LAYERS
        )
        return weigh_finer(exact, finer)

    def measures(self, maps: np.ndarray, upsampling: str) -> dict[str, Measures]:
        """Measure a map for each image, (N, h, w), by the image's id."""
        return {
            id_: measure_map(upsample(values, self.size, upsampling), regions)
            for id_, values, regions in zip(self.judged.split.ids, maps, self.regions, strict=True)
        }

    def changed(self, view: View, other: View) -> dict[str, Measures]:
        """Measure the maps of another view, and how like they are to those of this one."""
        maps, plain = self.maps(other), self.maps(view)
        measures = self.measures(maps, other.upsampling)
        return {
            id_: measures[id_] | {"likeness": likeness(values, before)}
            for id_, values, before in zip(self.judged.split.ids, maps, plain, strict=True)
        }

    def deletion(self, view: View) -> Deletion:
        """Delete what the maps point to."""
        maps = [upsample(values, self.size, view.upsampling) for values in self.maps(view)]
        return deletion_of(self.asked, maps, self.weights(view), view.look)

    def contrast(self, size: tuple[int, int]) -> np.ndarray:
        """Measure each picture's local contrast in as many places (h, w) as a map has."""
        greens = self.asked.pixels.read(np.arange(len(self.judged.split)))[..., 1]
        found = []
        for green, regions in zip(greens.astype(np.float32), self.regions):
            fine = np.abs(green - cv2.GaussianBlur(green, (0, 0), self.size / 40))
            # the retina's rim is an edge of its own
            inner = cv2.erode(regions.retina.astype(np.uint8), np.ones((self.size // 16,) * 2))
            found.append(cv2.resize(fine * inner, size[::-1], interpolation=cv2.INTER_AREA))
        return np.stack(found)

    def coarse_boxes(self, size: tuple[int, int]) -> np.ndarray:
        """Return the lesions' share of each of a map's places (h, w): the best map so coarse."""
        masks = [regions.lesions.astype(np.float32) for regions in self.regions]
        return np.stack(
            [cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA) for mask in masks]
        )


class Gatherer:
    """Measures methods, each by the models of its seeds and folds."""

    def __init__(self, judged: Sequence[Judged], place: Place, bootstrap: BootstrapConfig) -> None:
        self.bootstrap = bootstrap
        self.groups = number_groups(judged)
        self.methods = {
            method: {s: [Examined(one, place) for one in own] for s, own in by_seed.items()}
            for method, by_seed in methods_of(judged).items()
        }
        self.curves: list[Curve] = []

    def measured(self, by_seed: Sequence[Mapping[str, Measures]]) -> Measured:
        """Put the measures of several seeds together."""
        return measured_of(by_seed, self.groups)

    def look_at(self, method: str, view: View) -> Measured:
        """Measure a method's maps."""
        log(f"measuring {method}: {view.title}")
        by_seed = []
        for models in self.methods[method].values():
            found: dict[str, Measures] = {}
            for one in models:
                found |= one.measures(one.maps(view), view.upsampling)
            by_seed.append(found)
        return self.measured(by_seed)

    def row(self, method: str, measured: Measured, base: Measured | None, *change: str) -> Row:
        """Lay out what was measured; base: what it is compared with; change: setting and to."""
        positive = [~np.isnan(one["in_lesions"]) for one in measured.by_seed]
        return Row(
            method=method,
            setting=change[0] if change else "",
            to=change[1] if change else "",
            seeds=len(measured.by_seed),
            images=len(measured.ids),
            positive=int(np.any(positive, axis=0).sum()),
            figures=summarise(measured, self.bootstrap),
            difference=compare(measured, base, self.bootstrap) if base else {},
        )

    def with_deletion(self, method: str, view: View, measured: Measured) -> Measured:
        """Add what deletion does to the measures of a method, and keep its curve."""
        by_seed, whole, curves = [], [], []
        for models in self.methods[method].values():
            found: dict[str, Measures] = {}
            for one in models:
                deletion = one.deletion(view)
                whole.append(deletion.whole)
                curves.append(deletion.curves)
                own, random, others = deletion.lost
                for id_, beyond, past in zip(one.judged.split.ids, own - random, own - others):
                    found[id_] = {"lost_beyond_random": beyond, "lost_beyond_others": past}
            by_seed.append(found)
        means = np.concatenate(curves, axis=1).mean(1)  # (C, F)
        curve = Curve(
            method=method,
            shares=list(SHARES),
            whole=float(np.concatenate(whole).mean()),
            curves=dict(zip(CURVES, means.tolist())),
        )
        self.curves.append(curve)
        more = self.measured(by_seed)
        both = [one | other for one, other in zip(measured.by_seed, more.by_seed, strict=True)]
        return replace(measured, by_seed=both)

    def shuffled_rows(self, method: str, view: View, base: Measured) -> Iterator[Row]:
        """Measure a method's maps with weights shuffled, and how like they stay.

        The figures are means over the random orders as they are over the seeds.
        """
        for which in SHUFFLES:
            groups = next(iter(self.methods[method].values()))[0].asked.model.groups
            frozen = any(True for group in groups for _ in group.trunk.parameters())
            if which == SHUFFLES[-1] and not frozen:
                continue  # all layers are trained
            found: list[dict[str, Measures]] = []
            for own, order in itertools.product(self.methods[method].values(), range(ORDERS)):
                other = replace(view, look=replace(view.look, shuffled=which, order=order))
                found.append({})
                for one in own:
                    found[-1] |= one.changed(view, other)
            yield self.row(method, self.measured(found), base, "weights shuffled", which)

    def without_network(self, view: View) -> Iterator[Row]:
        """Measure what needs no network, in the first method's pictures: a floor and a ceiling."""
        first = next(iter(next(iter(self.methods.values())).values()))
        for name, make in ((CONTRAST, Examined.contrast), (BOXES, Examined.coarse_boxes)):
            found: dict[str, Measures] = {}
            for one in first:
                size = one.maps(view).shape[1:]
                found |= one.measures(make(one, (size[0], size[1])), view.upsampling)
            yield self.row(name, self.measured([found]), None)

    def together(self, view: View) -> Measured | None:
        """Measure the mean of all methods' maps on the images that all judge; None: there is none.

        Maps of other sizes are brought to that of the largest.
        """
        seeds = set.intersection(*(set(own) for own in self.methods.values()))
        by_seed = []
        for seed in sorted(seeds):
            maps: list[dict[str, np.ndarray]] = []
            first: dict[str, tuple[Examined, int]] = {}
            for by in self.methods.values():
                own: dict[str, np.ndarray] = {}
                for one in by[seed]:
                    own |= dict(zip(one.judged.split.ids, one.maps(view)))
                    for place, id_ in enumerate(one.judged.split.ids):
                        first.setdefault(id_, (one, place))
                maps.append(own)
            found: dict[str, Measures] = {}
            for id_ in sorted(set.intersection(*map(set, maps))):
                one, place = first[id_]
                mean = _mean([own[id_] for own in maps])
                found[id_] = measure_map(
                    upsample(mean, one.size, view.upsampling), one.regions[place]
                )
            if found:
                by_seed.append(found)
        return self.measured(by_seed) if by_seed else None

    def map_size(self, method: str, view: View) -> list[int]:
        """Return h and w of a method's maps."""
        first = next(iter(self.methods[method].values()))[0]
        return list(first.maps(view).shape[1:])


def _mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Average maps (h, w), on the grid of the one that has most positions."""
    size = max((one.shape for one in maps), key=lambda sides: sides[0] * sides[1])
    return np.mean([resample(one, size) for one in maps], axis=0)


def gather(gatherer: Gatherer, views: Sequence[View]) -> list[Row]:
    """Measure all methods in the first view, and the first method in all."""
    first, names = views[0], list(gatherer.methods)
    base = {method: gatherer.look_at(method, first) for method in names}
    rows = [gatherer.row(method, measured, None) for method, measured in base.items()]
    both = gatherer.together(first) if len(names) > 1 else None
    if both is not None:
        rows.append(gatherer.row(f"mean of these {len(names)}", both, None))
    rows += gatherer.without_network(first)
    for view in views[1:]:
        setting, to = next(first.differences(view))
        found = gatherer.look_at(names[0], view)
        rows.append(gatherer.row(names[0], found, base[names[0]], setting, to))
    return rows


def check(gatherer: Gatherer, view: View) -> list[Row]:
    """Delete what the maps of all methods point to, and shuffle the weights of the first one."""
    rows, base = [], {}
    for method in gatherer.methods:
        found = gatherer.look_at(method, view)
        base[method] = gatherer.with_deletion(method, view, found)
        rows.append(gatherer.row(method, base[method], None))
    first = next(iter(gatherer.methods))
    return [*rows, *gatherer.shuffled_rows(first, view, base[first])]
