"""Ask models for maps of evidence, each once: what was asked before is read from a folder.

N images, P pairs, K classes, h x w positions of a map.
"""

import copy
import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.special
import torch
from torch import nn

from benchmarks.evidence_maps.judged import Judged
from common.evidence.exact import EXACT, Evidence, evidence_of
from common.evidence.finer import finer_evidence_of
from common.evidence.maps import FINER, pair_shares
from common.pixel_store.pixel_cache import PixelCache, open_cache
from common.prediction.voting import combine_pairs
from common.result_dir.stored import read_predictions, write_predictions
from common.system.errors import InputError
from common.system.log import log
from common.system.random_streams import torch_generator
from common.trained_networks.loading import LoadedModel, fingerprint_files, load_model

LAYERS = {EXACT: evidence_of, FINER: finer_evidence_of}  # that a model is asked for
SHUFFLES = ("classifier", "trained layers", "all layers")
ORDERS = 5  # random ones that weights are put in


@dataclass(frozen=True)
class Look:
    """How a model is asked for its maps."""

    layer: str = EXACT  # of `maps.KINDS`
    tta: str = "none"
    shuffled: str = ""  # whose weights are, one of SHUFFLES; "": none
    order: int = 0  # which of the ORDERS they are put in


@dataclass(frozen=True)
class Place:
    """Where maps and pixels are kept, and what computes."""

    output_dir: Path
    cache_dir: Path
    num_workers: int
    device: torch.device
    precision: str


class Asked:
    """A model that is asked about its images, loaded when something new is asked."""

    def __init__(self, judged: Judged, place: Place) -> None:
        self.judged, self.place = judged, place

    @cached_property
    def model(self) -> LoadedModel:
        """The model."""
        return load_model(self.judged.run)

    @cached_property
    def pixels(self) -> PixelCache:
        """The pixels of its images."""
        place = self.place
        return open_cache(
            self.judged.split, self.model.preprocessing, place.cache_dir, place.num_workers
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the classifiers' files."""
        return fingerprint_files(self.judged.run.files)

    def file(self, kind: str, *what: object) -> Path:
        """Name the file of an answer about these images."""
        content = [self.fingerprint, self.judged.split.fingerprint(), self.place.precision, *what]
        key = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
        return self.place.output_dir / f"{kind}_{key}.npz"

    def evidence(self, look: Look) -> Evidence:
        """Return the maps of all pairs for its images."""
        file = self.file("maps", asdict(look))
        if file.is_file():
            try:
                arrays, details = read_predictions(file)
                return Evidence(**arrays, method=str(details["method"]))
            except (InputError, TypeError, KeyError):
                log(f"{file} is damaged; its maps are asked for again")
        log(
            f"{self.judged.method}, seed {self.judged.seed}: {look.layer} maps of "
            f"{len(self.judged.split)} images"
            + (f", {look.tta}" if look.tta != "none" else "")
            + (f", shuffled: {look.shuffled}, order {look.order + 1}" if look.shuffled else "")
        )
        model = self.model
        if look.shuffled:
            model = shuffled(model, look.shuffled, look.order)
        place = self.place
        ask = LAYERS[look.layer]
        found = ask(model, self.pixels, place.device, place.precision, look.tta)
        names = "maps", "constants", "logits"
        arrays = {name: np.ascontiguousarray(getattr(found, name)) for name in names}
        write_predictions(file, arrays, {"method": found.method})
        return Evidence(**arrays, method=found.method)  # summed in the order of what is read again


def shuffled(model: LoadedModel, which: str, order: int) -> LoadedModel:
    """Copy a model with each tensor of some of its weights in one of the random orders.

    Sizes of weights stay as they are, and so do the running statistics of normalisations. Source:
    the parameter randomisation test of Adebayo et al. 2018, "Sanity checks for saliency maps".
    """
    groups = copy.deepcopy(model.groups)
    for number, group in enumerate(groups):
        parts: list[nn.Module] = [own.branch for own in group.branches]
        if which == "classifier":
            parts = [own.branch.classifier for own in group.branches]
        elif which == "all layers":
            parts.append(group.trunk)
        for place, part in enumerate(parts):
            for name, tensor in part.named_parameters():
                generator = torch_generator("shuffled", which, order, number, place, name)
                places = torch.randperm(tensor.numel(), generator=generator)
                with torch.no_grad():
                    tensor.copy_(tensor.flatten()[places.to(tensor.device)].view_as(tensor))
    return replace(model, groups=groups)


def pair_weights(target: str, logits: np.ndarray, referable_from: int) -> np.ndarray:
    """Say how much each pair counts for a target, with its sign, for each image: (N, P).

    logits (N, P) in grade order: what a model says of its images. referable: the referable classes
    against the others. grade: the predicted class against all others. pair: the predicted class
    against the lowest, or, where that is predicted, the next one against it. As `explain.py` does,
    a pair counts as much as the picture is likely to be of its classes (here not calibrated).
    """
    count = int((1 + np.sqrt(1 + 8 * logits.shape[1])) / 2)
    classes = combine_pairs(scipy.special.expit(logits.astype(float)), count)
    found = []
    for predicted, likely in zip(classes.predicted.tolist(), classes.probabilities):
        decided, against = [predicted], [k for k in range(count) if k != predicted]
        if target == "referable":
            decided, against = list(range(referable_from, count)), list(range(referable_from))
        elif target == "pair":
            decided, against = [max(predicted, 1)], [0]
        found.append(pair_shares(decided, against, count, likely))
    return np.array(found)
