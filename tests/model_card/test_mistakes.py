"""Mistakes are shown with evidence that adds up to what the models said, or with a reason."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.folders import scan_split
from common.evidence.explanation import ScoredClasses
from common.model_card import mistakes as mistakes_module
from common.model_card.mistakes import Mistakes, Voice, draw_mistakes, explain_mistakes
from common.pairs import class_pairs
from common.prediction.classes import classes_of
from common.prediction.predict import PredictionConfig, predict_run
from common.prediction.voting import ClassPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError

FIVE = ScoredClasses(classes_of("01234"), tuple(range(5)))
TWO = ScoredClasses(classes_of(["fine", "referable"]), (0, 0, 1, 1, 1))


@pytest.fixture(scope="module")
def how(shared_cache):
    return PredictionConfig(shared_cache, 1, torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def runs(trained, trained_swin):
    return [find_run(ResultDir(folder)) for folder in (trained, trained_swin)]


@pytest.fixture(scope="module")
def split(demo):
    return scan_split(demo, "test")


def predictions(given, num_classes, count=20):
    """Say of some images, by their rows, which class was given; of all others the first."""
    predicted = np.zeros(count, int)
    predicted[list(given)] = list(given.values())
    return ClassPredictions(np.eye(num_classes)[predicted], predicted)


def explain(voices, split, given, scored, how):
    classes = predictions(given, len(scored.classes))
    return explain_mistakes(voices, split, list(given), classes, scored, how)


def logits_of(run, split, how):
    chances = predict_run(run, split, how).pair_probabilities
    return np.log(chances) - np.log1p(-chances)


def test_the_score_is_what_the_weighted_models_say_of_given_class_against_label(runs, split, how):
    last = len(split) - 1  # of grade 4
    voices = [Voice(run, "none", weight) for run, weight in zip(runs, (0.75, 0.25))]
    found = explain(voices, split, {last: 1, 0: 3}, FIVE, how)
    both = 0.75 * logits_of(runs[0], split, how) + 0.25 * logits_of(runs[1], split, how)
    first, second = found.found
    pairs = class_pairs(5)
    assert first.evidence.score == pytest.approx(-both[last, pairs.index((1, 4))], abs=1e-4)
    assert second.evidence.score == pytest.approx(both[0, pairs.index((0, 3))], abs=1e-4)
    assert (first.decision.speaks_for, first.decision.speaks_against) == ("grade 1", "grade 4")
    for each in found.found:
        summed = each.evidence.values.mean() + each.evidence.constant
        assert summed == pytest.approx(each.evidence.score, abs=1e-4)
    assert (
        found.to_pictures().pictures[last].size[0] == 2 * found.to_pictures().pictures[last].size[1]
    )


def test_classes_of_a_coarser_set_speak_with_all_of_their_pairs(runs, split, how):
    coarse = [image.label >= 2 for image in split.images]
    row = coarse.index(True)
    images = split.images[:row] + split.images[row:]
    own = type(split)(split.name, tuple(_labelled(i, int(c)) for i, c in zip(images, coarse)))
    (only,) = explain([Voice(runs[0], "none", 1.0)], own, {row: 0}, TWO, how).found
    said = logits_of(runs[0], split, how)[row]
    across = [place for place, (a, b) in enumerate(class_pairs(5)) if a < 2 <= b]
    assert only.evidence.score == pytest.approx(-said[across].mean(), abs=1e-4)


def _labelled(image, label):
    return replace(image, label=label)


def test_a_network_that_cannot_be_split_leaves_a_reason(runs, split, how, monkeypatch, tmp_path):
    def refuse(*_):
        raise InputError("it ends in attention")

    monkeypatch.setattr(mistakes_module, "evidence_of", refuse)
    found = explain([Voice(runs[0], "none", 1.0)], split, {0: 1}, FIVE, how)
    assert not found.found and found.why_none == "it ends in attention"
    (tmp_path / "mistakes.jpg").write_bytes(b"of an earlier evaluation")
    draw_mistakes(found, "title", tmp_path / "mistakes.jpg")
    assert not (tmp_path / "mistakes.jpg").exists()
    assert explain([], split, {}, FIVE, how) == Mistakes(why_none="there are none")


def test_the_sheet_shows_the_first_six(runs, split, how, tmp_path):
    rows = dict.fromkeys(range(4, 12), 0)
    found = explain([Voice(runs[0], "none", 1.0)], split, rows, FIVE, how)
    draw_mistakes(found, "title \u8f7b", tmp_path / "m.jpg")
    sheet = Image.open(tmp_path / "m.jpg")
    assert sheet.width > 1700 and 1400 < sheet.height < 1700 and np.asarray(sheet).std() > 20
