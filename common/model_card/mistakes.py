"""The worst mistakes, each with a map of what spoke for the class given, and not for the label's.

S pixels of a square, K classes that are scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.data.folders import Split
from common.evidence.exact import Evidence, evidence_of
from common.evidence.explanation import Decision, DecisionMap, ScoredClasses
from common.evidence.maps import sum_pairs, weigh_models
from common.evidence.overlay import WORDS, choose_scale, lay_over
from common.pixel_store.pixel_cache import open_cache
from common.pixels.preprocessing import Preprocessing
from common.prediction.predict import PredictionConfig
from common.prediction.voting import ClassPredictions
from common.reporting.report import MistakePictures
from common.result_dir.run import Run
from common.system.errors import InputError
from common.system.files import atomic_write
from common.system.log import log, printable
from common.trained_networks.loading import load_model

_SIDE = 448  # pixels of a square as it is drawn
_ACROSS, _LINE, _EDGE, _LETTER = 2, 18, 10, 13  # mistakes beside each other; pixels
_ON_SHEET = 6


@dataclass(frozen=True)
class Voice:
    """A model that has a say, with its weight."""

    run: Run
    tta: str  # which views of an image it averages
    weight: float


@dataclass(frozen=True)
class Mistake:
    """An image that was graded wrongly, and the evidence for the class given."""

    row: int  # of the split
    image: str  # its id
    decision: Decision
    evidence: DecisionMap
    picture: Image.Image  # the square that the network saw, and the map over it


@dataclass(frozen=True)
class Mistakes:
    """Mistakes on one scale, the worst first."""

    found: tuple[Mistake, ...] = ()
    scale: float = 1.0  # logits of full colour
    why_none: str = ""

    @property
    def words(self) -> str:
        """What the colours mean."""
        return (
            "Left: the square that the network saw. Right: orange spoke for the class given, blue "
            f"for that of the label; full colour is {self.scale:g} logits in all of them. "
            f"{WORDS.capitalize()}."
        )

    def to_pictures(self) -> MistakePictures:
        """Return them as the report shows them."""
        captions = {each.row: each.evidence.describe() for each in self.found}
        pictures = {each.row: each.picture for each in self.found}
        return MistakePictures(pictures, captions, self.words if self.found else "", self.why_none)


def explain_mistakes(
    voices: Sequence[Voice],
    split: Split,
    rows: Sequence[int],
    classes: ClassPredictions,
    scored: ScoredClasses,
    config: PredictionConfig,
) -> Mistakes:
    """Find the evidence for the predicted class against the label's, as the models weigh it.

    rows: of the images in the split; classes: the scored ones of all its images. Says why not where
    a model's logits do not split over positions, or where models see different squares.
    """
    if not rows:
        return Mistakes(why_none="there are none")
    images = replace(split, images=tuple(split.images[row] for row in rows))
    found: list[Evidence] = []
    squares: list[np.ndarray] = []
    cuts: set[tuple[bool, int]] = set()
    for number, voice in enumerate(voices, start=1):
        log(f"evidence for the {len(rows)} worst mistakes: model {number} of {len(voices)}")
        model = load_model(voice.run)
        cuts.add(_cut(model.preprocessing))
        if len(cuts) > 1:
            return Mistakes(why_none="the models cut different squares out of a photograph")
        pixels = open_cache(images, model.preprocessing, config.cache_dir, config.num_workers)
        try:
            found.append(evidence_of(model, pixels, config.device, config.precision, voice.tta))
        except InputError as error:
            return Mistakes(why_none=str(error))
        squares = squares or list(pixels.read(np.arange(len(images))))
    weights = [voice.weight for voice in voices]
    decisions, maps = [], []
    for place, row in enumerate(rows):
        decision = given_or_label(scored, int(classes.predicted[row]), int(split.labels[row]))
        shares = decision.shares(scored.of_models(classes.probabilities[row]))
        whole = weigh_models([sum_pairs(own.take([place]), shares) for own in found], weights)
        decisions.append(decision)
        maps.append(DecisionMap(whole.maps[0], float(whole.constants[0]), float(whole.scores[0])))
    scale = choose_scale([each.values for each in maps])
    mistakes = [
        Mistake(row, split.ids[row], decision, own, _beside(square, own.values, scale))
        for row, decision, own, square in zip(rows, decisions, maps, squares)
    ]
    return Mistakes(tuple(mistakes), scale)


def given_or_label(scored: ScoredClasses, given: int, label: int) -> Decision:
    """Set the class that was given against that of the label, among the models' classes."""
    titles = scored.classes.titles
    title = f"{titles[given]}, not {titles[label]}"
    sides = scored.models([given]), scored.models([label])
    return Decision(f"{given}-{label}", title, titles[given], titles[label], *sides)


def _cut(preprocessing: Preprocessing) -> tuple[bool, int]:
    """Say what decides which part of a photograph the square holds."""
    return preprocessing.crop_retina, preprocessing.version


def _beside(square: np.ndarray, values: np.ndarray, scale: float) -> Image.Image:
    """Draw the square and, to its right, the map over it."""
    both = Image.new("RGB", (2 * _SIDE, _SIDE))
    both.paste(Image.fromarray(square).resize((_SIDE, _SIDE)), (0, 0))
    both.paste(lay_over(square, values, scale, _SIDE), (_SIDE, 0))
    return both


def draw_mistakes(mistakes: Mistakes, title: str, path: Path) -> None:
    """Draw the first of them into one JPEG file; without any, an earlier one is removed."""
    shown = mistakes.found[:_ON_SHEET]
    if not shown:
        path.unlink(missing_ok=True)
        return
    across = min(_ACROSS, len(shown))
    width, height = 2 * _SIDE + _EDGE, _SIDE + 3 * _LINE + _EDGE
    down = -(-len(shown) // across)
    top = 3 * _LINE
    sheet = Image.new("RGB", (across * width + _EDGE, down * height + top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTER)
    for number, line in enumerate((title, mistakes.words)):
        draw.text((_EDGE, _EDGE // 2 + number * _LINE), _ascii(line), "black", font)
    for place, each in enumerate(shown):
        left, upper = _EDGE + place % across * width, top + place // across * height
        sheet.paste(each.picture, (left, upper))
        given, label = each.decision.speaks_for, each.decision.speaks_against
        lines = [f"{each.image}: graded {given}, label {label}", each.evidence.describe()]
        text = "\n".join(map(_ascii, lines))
        draw.text((left, upper + _SIDE + 3), text, "#222222", font, spacing=4)
    with atomic_write(path) as file:
        sheet.save(file, "JPEG", quality=85)


def _ascii(text: str) -> str:
    """Write what the font may lack as escapes."""
    return printable(text).encode("ascii", "backslashreplace").decode()
