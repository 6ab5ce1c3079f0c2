"""Compare what an exported file gives with what the models give in PyTorch, picture by picture.

N pictures, S pixels of a square side, M models, P pairs.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.comparison.differences import compare_metrics
from common.data.folders import scan_dataset
from common.data.synthetic import draw_fundus
from common.evidence.exact import evidence_of
from common.grading.stored_grader import grade
from common.grading.torch_networks import TorchNetworks
from common.listing.walking import count_of
from common.metrics.intervals import BootstrapConfig
from common.pixels.decoding import ImageError, UnreadableError
from common.pixels.preprocessing import load_pixels, preprocess
from common.prediction.altered import AlteredPixels
from common.prediction.classes import SetMatcher
from common.prediction.voting import ClassPredictions
from common.release.contract import (
    CLASSES,
    EVIDENCE,
    FEATURES,
    PAIRS,
    PREDICTED,
    REFERABLE,
    Contract,
    Quantised,
    Verified,
)
from common.release.formats import Runner
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.log import log
from common.system.random_streams import random_generator

LIMIT = 1e-3  # of a probability, and of the largest evidence of a picture
MOST_GIVEN = 1000  # of --images
_SEED = 0


@dataclass(frozen=True)
class Pictures:
    """Pictures as a network takes them."""

    source: str  # which they are
    pixels: list[np.ndarray]  # (N, S, S, 3) uint8 for each input
    labels: np.ndarray | None = None  # (N,) places among the scored classes; None: not known

    def __len__(self) -> int:
        return len(self.pixels[0])


def given_pictures(contract: Contract, paths: Sequence[Path]) -> Pictures:
    """Read pictures that a user has named; says which cannot be read, InputError if none can."""
    if len(paths) > MOST_GIVEN:
        raise InputError(
            f"--images: expected at most {MOST_GIVEN} pictures to compare on, found {len(paths)}"
        )
    pixels = []
    for path in paths:
        try:
            pixels.append(_squares(contract, path))
        except (ImageError, UnreadableError) as error:
            log(f"note: not compared on: {error}")
    if not pixels:
        raise InputError("--images: expected pictures to compare on, found none that can be read")
    return Pictures(f"{count_of(len(pixels), 'picture')} of --images", _stacked(pixels))


def val_pictures(contract: Contract, run: Run, most: int) -> Pictures | None:
    """Read at most so many pictures of a model's val, drawn by seed; None where none is there."""
    place = run.dataset_path
    if not place or not Path(place).is_dir():
        return None
    try:
        split = scan_dataset(Path(place), matcher=SetMatcher(run.names, (), ())).split("val")
    except InputError:
        return None
    images = [image for image in split.images if image.id not in run.skipped]
    order = random_generator("pictures to verify with", _SEED).permutation(len(images))[:most]
    pixels, labels = [], []
    for image in (images[place] for place in sorted(order.tolist())):
        with suppress(ImageError, UnreadableError):  # of these the evaluation speaks
            pixels.append(_squares(contract, image.path))
            labels.append(contract.grader.of_model[image.label])
    if not pixels:
        return None
    source = f"{count_of(len(pixels), 'image')} of the training's val"
    return Pictures(source, _stacked(pixels), np.array(labels))


def drawn_pictures(contract: Contract) -> Pictures:
    """Draw a few pictures of each grade, for models whose own are not at hand."""
    generator = random_generator("pictures to verify with", _SEED)
    drawn = [draw_fundus(number % 5, generator) for number in range(10)]
    pixels = [[preprocess(each, i.preprocessing) for i in contract.inputs] for each in drawn]
    return Pictures(f"{len(drawn)} drawn pictures", _stacked(pixels))


def _squares(contract: Contract, path: Path) -> list[np.ndarray]:
    """Read a picture as each input takes it."""
    return [load_pixels(path, each.preprocessing) for each in contract.inputs]


def _stacked(pictures: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Put the squares of pictures together, input by input."""
    return [np.stack(squares) for squares in zip(*pictures)]


def expected_outputs(
    contract: Contract, networks: TorchNetworks, pictures: Pictures
) -> dict[str, np.ndarray]:
    """Compute what a file must give, as evaluation and explanation do, not as the export does."""
    own = [pictures.pixels[member.input] for member in contract.members]
    chunks = range(0, len(pictures), networks.chunk)
    said = [networks.say([each[s : s + networks.chunk] for each in own]) for s in chunks]
    pairs = [
        np.concatenate([part.pair_probabilities[place] for part in said])
        for place in range(len(own))
    ]
    graded = grade(contract.grader, pairs)
    found = {
        PAIRS: np.stack(pairs, axis=1),
        CLASSES: graded.classes.probabilities,
        PREDICTED: graded.classes.predicted,
    }
    if "referable" in graded.scores:
        found[REFERABLE] = graded.scores["referable"]
    names = [each.name for each in contract.outputs]
    pooled = [name for name in names if name.startswith(FEATURES)]
    for place, name in enumerate(pooled):
        found[name] = np.concatenate([part.features[place] for part in said])
    maps = [name for name in names if name.startswith(EVIDENCE)]
    for name, model, each in zip(maps, networks.models, own):
        source = AlteredPixels(each, model.loaded.preprocessing)
        device = torch.device("cpu")
        found[name] = evidence_of(model.loaded, source, device, "fp32", model.tta).maps
    return found


def run_file(run: Runner, pictures: Pictures, chunk: int = 5) -> dict[str, np.ndarray]:
    """Show a file pictures, by numbers that no chunk of the export had."""
    starts = range(0, len(pictures), chunk)
    parts = [run([each[start : start + chunk] for each in pictures.pixels]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def largest_differences(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return the largest difference of each output; of the predicted classes the share that differ.

    Of features and evidence as a share of the largest of all, at least 1. Infinite where a
    shape or a value is wrong.
    """
    differences = {}
    for name, values in expected.items():
        other = found.get(name)
        if other is None or other.shape != values.shape or not np.isfinite(other).all():
            differences[name] = float("inf")
        elif name == PREDICTED:
            differences[name] = float((other != values).mean())
        else:
            unbounded = name.startswith((EVIDENCE, FEATURES))
            scale = max(1.0, float(np.abs(values).max())) if unbounded else 1.0
            differences[name] = float(np.abs(other - values).max()) / scale
    return differences


def verify(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], pictures: Pictures
) -> Verified:
    """Say how far a file's outputs lie from those expected; raises InputError above the limit."""
    differences = largest_differences(expected, found)
    for name, difference in differences.items():
        if name != PREDICTED and not difference <= LIMIT:
            raise InputError(
                f"the exported network gives other values than the model: expected differences of "
                f"at most {LIMIT:g}, found {difference:.2g} in {name} on {pictures.source}; "
                "nothing was written; try another --format"
            )
    return Verified(len(pictures), pictures.source, differences, LIMIT)


def judge_quantised(
    plain: Mapping[str, np.ndarray], quantised: Mapping[str, np.ndarray], pictures: Pictures
) -> Quantised:
    """Measure what 8-bit weights change on graded pictures: kappa, accuracy and probabilities."""
    labels = pictures.labels
    if labels is None:
        raise InputError("--quantize int8 is judged on graded pictures, and there are none")
    models = {
        name: ClassPredictions(found[CLASSES].astype(float), found[PREDICTED])
        for name, found in (("int8", quantised), ("fp32", plain))
    }
    asked = [(metric, "int8", "fp32") for metric in ("kappa", "accuracy")]
    compared = compare_metrics(labels, models, asked, BootstrapConfig())
    changes = {each.metric: each.difference for each in compared}
    kappa = changes["kappa"]
    differ = int((plain[PREDICTED] != quantised[PREDICTED]).sum())
    largest = float(np.abs(plain[CLASSES] - quantised[CLASSES]).max())
    text = (
        f"kappa changes by {kappa.value:+z.3f} [{kappa.low:+z.3f}, {kappa.high:+z.3f}] with 8-bit "
        f"weights, on {pictures.source}; {differ} of {len(pictures)} are graded otherwise, a class "
        f"probability by up to {largest:.2g}"
    )
    return Quantised(text, {**changes, "images": len(pictures), "graded_otherwise": differ})
