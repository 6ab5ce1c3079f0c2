"""What is shown of a picture: which decisions, and evidence that adds up for each of them."""

from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import noise_for, random_model

from common.evidence.exact import EXACT
from common.evidence.explanation import (
    DecisionMap,
    How,
    ScoredClasses,
    decisions_on,
    explain_picture,
    find_sources,
    require_one_square,
)
from common.evidence.maps import COMBINED, FINER, weigh_finer
from common.evidence.occlusion import agreement, hide_parts, occlusion_of
from common.fitting.calibration import Temperature
from common.grading.stored_grader import StoredMember, unevaluated
from common.grading.torch_networks import TorchModel
from common.pairs import class_pairs
from common.prediction.altered import AlteredPixels
from common.prediction.classes import classes_of
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.system.errors import InputError
from common.trained_networks.running import predict_logits

CPU = torch.device("cpu")


def torch_model(loaded, tta="none"):
    names = tuple(loaded.class_names)
    run = Run(ResultDir(Path("m")), loaded.model, loaded.head, len(names), names, "", "", ())
    return TorchModel(run, loaded, tta)


def grader_of(models, names):
    pairs = len(class_pairs(len(names)))
    members = [
        StoredMember(
            f"model {place}",
            Path("m"),
            str(place),
            model.loaded.model,
            model.loaded.head,
            model.tta,
            "coupling",
            np.full(pairs, nan),
            Temperature(),
        )
        for place, model in enumerate(models)
    ]
    return unevaluated(members, classes_of(names), "a test")


def decisions(names, probabilities, of_model=None):
    scored = ScoredClasses(classes_of(names), of_model or tuple(range(len(names))))
    found = decisions_on(scored, np.array(probabilities), int(np.argmax(probabilities)))
    return {each.key: each for each in found}


def test_decisions_are_referral_the_grade_and_the_pairs_with_its_likeliest_rivals():
    found = decisions("01234", [0.1, 0.2, 0.4, 0.25, 0.05])
    assert list(found) == ["referable", "grade", "2-3", "1-2", "0-2"]
    assert found["referable"].decided == (2, 3, 4) and found["referable"].against == (0, 1)
    assert found["referable"].title == "referable, grade 2 or worse"
    assert found["grade"].decided == (2,) and found["grade"].title == "grade 2"
    assert (found["1-2"].speaks_for, found["1-2"].speaks_against) == ("grade 2", "grade 1")


def test_two_classes_make_one_decision():
    assert list(decisions(("no", "yes"), [0.7, 0.3])) == ["referable"]
    unknown = decisions(("severe", "proliferative"), [0.7, 0.3])
    assert list(unknown) == ["grade"] and unknown["grade"].speaks_against == "any other class"


def test_without_a_known_cut_there_is_no_evidence_for_referral():
    assert "referable" not in decisions(("a", "b", "c"), [0.2, 0.5, 0.3])


def test_classes_of_a_coarser_set_stand_for_all_that_they_hold():
    found = decisions(("no", "referable"), [0.4, 0.6], (0, 0, 1, 1, 1))
    assert list(found) == ["referable"]
    assert found["referable"].decided == (2, 3, 4)
    scored = ScoredClasses(classes_of(("no", "referable")), (0, 0, 1, 1, 1))
    shares = found["referable"].shares(scored.of_models(np.array([0.4, 0.6])))
    assert shares == pytest.approx([0, *[1 / 6] * 6, 0, 0, 0])


@pytest.fixture(scope="module")
def two_models():
    """Models whose maps have other sizes, one of ten pairs, one of the classes."""
    return [
        torch_model(random_model("demo_convnext", "shared", "01234")),
        torch_model(random_model("demo_coatnet", "softmax", "01234", img_size=96), "flips"),
    ]


def test_a_score_that_rounds_to_nothing_has_no_minus():
    text = DecisionMap(np.zeros((1, 1)), -0.001, -0.002).describe()
    assert text == "score +0.00 = map +0.00, constant +0.00"


def test_of_several_models_each_and_their_mean_add_up_to_the_scores(two_models):
    pixels = [noise_for(model.loaded) for model in two_models]
    grader = replace(grader_of(two_models, "01234"), weights=np.array([0.25, 0.75]))
    found = find_sources(pixels, two_models, How(CPU, "fp32"))
    assert found.methods == (EXACT, EXACT) and not found.falls and not found.finer
    for row, name in enumerate("ab"):
        picture = explain_picture(name, found.take(row), grader)
        assert picture.name == name
        assert picture.probabilities.sum() == pytest.approx(1)
        assert picture.predicted == picture.probabilities.argmax() and picture.uncertainty > 0
        for each in picture.evidence:
            for own in (each.whole, *each.members):
                assert own.values.mean() + own.constant == pytest.approx(own.score, abs=1e-4)
            first, second = each.members
            assert each.whole.score == pytest.approx(0.25 * first.score + 0.75 * second.score)
            assert (first.values.shape, second.values.shape) == ((2, 2), (3, 3))
            assert each.whole.values.shape == (3, 3) and f"{each.whole.score:+.2f}" in (
                each.whole.describe()
            )
        pair = next(each for each in picture.evidence if "-" in each.decision.key)
        column = class_pairs(5).index(tuple(map(int, pair.decision.key.split("-"))))
        logit = found.evidence[1].logits[row, column]
        assert pair.members[1].score == pytest.approx(logit, abs=1e-5)


def test_a_finer_map_and_hidden_parts_are_had_on_request(two_models):
    own = two_models[:1]
    pixels = [noise_for(own[0].loaded, 1)]
    found = find_sources(pixels, own, How(CPU, "fp32", FINER, occlusion=True))
    first = explain_picture("a", found, grader_of(own, "01234")).evidence[0]
    assert first.whole.values.shape == (4, 4) and not first.members
    assert found.evidence[0].method.startswith("HiResCAM")
    assert first.falls.shape == (8, 8) and found.falls[0].shape == (1, 10, 8, 8)
    assert first.agreement == agreement(first.whole.values, first.falls)
    assert -1 <= first.agreement <= 1


def test_combined_maps_are_the_finer_ones_weighed_by_the_exact_ones(two_models):
    pixels = [noise_for(model.loaded) for model in two_models]
    grader = replace(grader_of(two_models, "01234"), weights=np.array([0.25, 0.75]))
    found = {
        kind: find_sources(pixels, two_models, How(CPU, "fp32", kind)).take(1)
        for kind in (EXACT, FINER, COMBINED)
    }
    both = found[COMBINED]
    assert both.methods[0].startswith("HiResCAM at ") and both.methods[0].endswith("the exact map")
    exact, finer, combined = (
        explain_picture("b", each, grader).evidence for each in found.values()
    )
    for one, fine, each in zip(exact, finer, combined, strict=True):
        for number, own in enumerate(each.members):
            expected = weigh_finer(
                one.members[number].values[None], fine.members[number].values[None]
            )
            assert np.allclose(own.values, expected[0], atol=1e-4)
        assert [own.values.shape for own in each.members] == [(4, 4), (6, 6)]
        assert each.whole.score == one.whole.score and np.isnan(each.whole.constant)
        assert "the map does not add up" in each.whole.describe()
        assert each.whole.values.shape == (6, 6)
        assert np.abs(each.whole.values).max() < np.abs(fine.whole.values).max() + 1e-4
    assert any(own.values.any() for each in combined for own in each.members)


def test_hiding_a_part_changes_the_logits_as_predicted_for_that_picture(two_models):
    model = two_models[0].loaded
    pixels = noise_for(model, 1)
    falls = occlusion_of(model, pixels, CPU, parts=3)
    hidden = AlteredPixels(hide_parts(pixels.pixels[0], 3), model.preprocessing)
    assert (hidden.pixels[0] != pixels.pixels[0]).any(-1).sum() >= 21 * 21 - 9
    assert np.array_equal(hidden.pixels[0, 22:], pixels.pixels[0, 22:])
    before = predict_logits(model, pixels, CPU, "fp32")
    after = predict_logits(model, hidden, CPU, "fp32")
    assert np.allclose(falls[0].reshape(10, 9), (before - after).T, atol=1e-5)


def test_a_black_picture_can_be_hidden_too():
    assert not hide_parts(np.zeros((8, 8, 3), np.uint8), 2).any()


def test_the_agreement_of_a_flat_map_is_not_defined():
    values = np.arange(4.0).reshape(2, 2)
    assert agreement(values, values) == pytest.approx(1)
    assert agreement(values, -values) == pytest.approx(-1)
    assert np.isnan(agreement(np.ones((2, 2)), values))


def test_models_that_cut_out_other_squares_are_not_laid_over_each_other(two_models):
    first = two_models[0]
    pixels = replace(first.loaded.preprocessing, crop_retina=False)
    other = replace(first, loaded=replace(first.loaded, preprocessing=pixels))
    with pytest.raises(InputError, match="explain each alone"):
        require_one_square([first, other])
    require_one_square(two_models)
