"""The maps add up to the logits, position by position, whatever the network and its head."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import noise_for, random_model

from common.evidence.ending import LINEARISED, NORMALISED, find_ending
from common.evidence.exact import EXACT, evidence_of
from common.models.legacy import legacy_head
from common.system.errors import InputError
from common.trained_networks import running
from common.trained_networks.outputs import in_grade_order, pair_logits, pair_probabilities
from common.trained_networks.running import predict_logits

CPU = torch.device("cpu")
SEVEN = (
    "coatnet",
    "convnext",
    "swinv2",
    "densenet121",
    "efficientnetb2",
    "resnet50",
    "seresnext50",
)


@pytest.fixture(scope="module")
def demo_model():
    """A small network for the pairs of three classes."""
    return random_model("demo_convnext", "ovo")


def require_sums(found):
    sums = found.maps.mean((2, 3)) + found.constants
    assert np.abs(found.logits).max() > 0.1
    assert np.abs(sums - found.logits).max() < 1e-5 * (1 + np.abs(found.maps).max())


def ending_of(model):
    group = model.groups[0]
    size = model.preprocessing.img_size
    return find_ending(group.trunk, group.branches[0].branch, size, model.model)


def logits_as_if(model, pixels, change, ending=None):
    """Predict while the last map of each branch is what `change` makes of it."""
    group, ending = model.groups[0], ending or ending_of(model)
    hooks = [
        own.branch.get_submodule(ending.pool).register_forward_pre_hook(
            lambda layer, inputs: change(inputs[0], ending.channels_last)
        )
        for own in group.branches
    ]
    found = predict_logits(model, pixels, CPU, "fp32")
    for hook in hooks:
        hook.remove()
    return found


def everywhere_as_at(row, column):
    def change(features, channels_last):
        if channels_last:
            return features[:, row : row + 1, column : column + 1].expand_as(features)
        return features[:, :, row : row + 1, column : column + 1].expand_as(features)

    return change


@pytest.mark.parametrize("name", [*SEVEN, "tf_efficientnet_lite0"])
def test_of_every_backbone_the_mean_of_the_map_and_the_constant_are_the_logit(name):
    model = random_model(name)
    pixels = noise_for(model)
    found = evidence_of(model, pixels, CPU)
    assert found.method == EXACT and found.maps.shape == (2, 3, 2, 2)
    assert np.array_equal(found.logits, predict_logits(model, pixels, CPU, "fp32"))
    require_sums(found)
    ending = ending_of(model)
    if ending.kind == NORMALISED:
        assert name == "convnext"
        return
    assert np.ptp(found.constants, axis=0).max() == 0, "of the classifier alone"
    # a position's value is the logit of a picture that is like it everywhere
    alike = logits_as_if(model, pixels, everywhere_as_at(0, 1), ending)
    expected = found.maps[:, :, 0, 1] + found.constants
    assert np.allclose(alike, expected, atol=1e-5 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_swinv2", "efficientnetb2"])
def test_of_joined_stages_the_map_adds_up_what_all_of_them_say(name):
    model = random_model(name, freeze=False, pooled_stages="trained")
    pixels = noise_for(model)
    found = evidence_of(model, pixels, CPU, tta="flips")
    assert found.method == EXACT
    require_sums(found)
    assert np.array_equal(found.logits, predict_logits(model, pixels, CPU, "fp32", "flips"))


def test_branches_that_run_side_by_side_keep_their_own_maps(demo_model, set_threads, monkeypatch):
    set_threads(2)
    run = running._run_branch

    def later_for_some(features, device, precision, own):
        time.sleep(0.05 if own.columns.start == 0 else 0)  # the first branch ends last
        return run(features, device, precision, own)

    monkeypatch.setattr(running, "_run_branch", later_for_some)
    require_sums(evidence_of(demo_model, noise_for(demo_model, 5), CPU, "fp32"))


def test_of_a_norm_after_the_pooling_the_map_is_what_it_makes_of_each_position(demo_model):
    pixels, own = noise_for(demo_model), demo_model.groups[0].branches[1].branch
    kept = []
    logits_as_if(demo_model, pixels, lambda features, _: kept.append(features))
    found = evidence_of(demo_model, pixels, CPU)
    features = kept[1][: len(pixels)]  # what fills the chunk up comes after them
    norm, last = own.stages.head.norm, own.classifier
    sigma = (features.mean((2, 3)).var(1, correction=0) + norm.eps).sqrt()
    centred = features - features.mean(1, keepdim=True)
    expected = (
        torch.einsum("k,nkhw->nhw", last.weight[0] * norm.weight, centred) / sigma[:, None, None]
    )
    assert np.allclose(found.maps[:, 1], expected.detach(), atol=1e-4)
    constant = (last.weight @ norm.bias + last.bias).item()
    assert np.allclose(found.constants[:, 1], constant, atol=1e-5)
    require_sums(found)


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_convnext", "demo_swinv2"])
@pytest.mark.parametrize("head", ["ovo", "softmax"])
def test_of_views_the_maps_are_turned_back_and_still_add_up(name, head):
    model = random_model(name, head, freeze=False)
    pixels = noise_for(model)
    for tta in ("flips", "d4"):
        found = evidence_of(model, pixels, CPU, tta=tta)
        logits = predict_logits(model, pixels, CPU, "fp32", tta)
        assert np.array_equal(found.logits, pair_logits(logits, head))
        require_sums(found)
    turned = replace(pixels, pixels=np.rot90(pixels.pixels, 1, (1, 2)).copy())
    again = evidence_of(model, turned, CPU, tta="d4")
    assert np.allclose(again.maps, np.rot90(found.maps, 1, (2, 3)), atol=1e-4)


def test_classes_that_were_trained_in_another_order_are_turned_to_grade_order():
    model = replace(random_model("demo_convnext"), class_names=["Severe", "No_DR", "Mild"])
    pixels = noise_for(model)
    found = evidence_of(model, pixels, CPU)
    logits = predict_logits(model, pixels, CPU, "fp32")
    assert np.allclose(found.logits[:, 0], logits[:, 2]), "No_DR against Mild"
    assert np.allclose(found.logits[:, 1], -logits[:, 0]), "No_DR against Severe, trained turned"
    assert np.array_equal(
        1 / (1 + np.exp(-found.logits.astype(float))) > 0.5,
        in_grade_order(pair_probabilities(logits, "shared"), (1, 2, 0)) > 0.5,
    )
    require_sums(found)


def test_hidden_layers_of_the_earlier_trainer_are_explained_by_their_tangent_and_named_so():
    model = random_model("demo_coatnet")
    torch.manual_seed(0)
    own = model.groups[0].branches[0].branch
    own.classifier = legacy_head(own.classifier.in_features, 3).eval()
    found = evidence_of(model, noise_for(model), CPU)
    assert found.method == LINEARISED and np.ptp(found.constants, axis=0).min() > 0
    assert np.abs(found.maps.mean((2, 3)) + found.constants - found.logits).max() < 1e-5
    # the head is made of linear pieces: a small step of a position changes the logit as it says
    pixels, step = noise_for(model), 1e-3
    longer = logits_as_if(model, pixels, lambda features, _: features * (1 + step))
    expected = found.logits + step * found.maps.mean((2, 3))
    assert np.allclose(longer, expected, atol=1e-5)


def test_in_mixed_precision_the_maps_add_up_to_its_rounding(demo_model):
    pixels = noise_for(demo_model)
    found = evidence_of(demo_model, pixels, CPU, "bf16")
    assert np.array_equal(found.logits, predict_logits(demo_model, pixels, CPU, "bf16"))
    assert np.allclose(found.maps.mean((2, 3)) + found.constants, found.logits, atol=0.1)


def test_two_classes_have_one_map():
    model = random_model("demo_convnext", "ovo", "01")
    found = evidence_of(model, noise_for(model), CPU)
    assert found.maps.shape[:2] == (2, 1) and len(found.take([1])) == 1
    require_sums(found)


def test_a_network_that_does_not_average_a_map_is_refused():
    model = random_model("test_vit", freeze=False, img_size=160)
    with pytest.raises(InputError, match=r"^test_vit: .* ends in average pooling .* no average"):
        evidence_of(model, noise_for(model), CPU)


def test_maps_that_do_not_add_up_are_refused(demo_model, monkeypatch):
    monkeypatch.setattr("common.evidence.exact.unturn", lambda maps, tta: [2 * m for m in maps])
    with pytest.raises(InputError, match=r"^demo_convnext: its evidence maps do not add up"):
        evidence_of(demo_model, noise_for(demo_model), CPU)


def test_pictures_of_other_pixels_are_refused(demo_model):
    other = replace(demo_model.preprocessing, enable_clahe=False)
    pixels = replace(noise_for(demo_model), preprocessing=other)
    with pytest.raises(InputError, match="other pixels"):
        evidence_of(demo_model, pixels, CPU)
