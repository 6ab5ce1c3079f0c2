"""Finer maps: HiResCAM at an earlier stage, as a library computes it."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import noise_for, random_model

from common.evidence.exact import evidence_of
from common.evidence.finer import finer_evidence_of
from common.models.ovo import trunk_features
from common.system.errors import InputError
from common.trained_networks.running import predict_logits

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_convnext", "demo_swinv2"])
def test_a_finer_map_has_twice_the_sides_and_is_that_of_grad_cam(name):
    model = random_model(name)
    pixels = noise_for(model)
    found = finer_evidence_of(model, pixels, CPU)
    assert found.maps.shape == (2, 3, 4, 4) and found.method.startswith("HiResCAM at ")
    assert np.allclose(found.logits, predict_logits(model, pixels, CPU, "fp32"), atol=1e-5)
    assert np.allclose(found.maps.mean((2, 3)) + found.constants, found.logits, atol=1e-4)
    library = pytest.importorskip(
        "pytorch_grad_cam", reason="pip install --no-deps grad-cam ttach", exc_type=ImportError
    )
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    group = model.groups[0]
    branch = group.branches[0].branch
    stage = branch.stages.get_submodule(found.method.split()[-1].replace(".", ":"))
    last = (lambda values: values.permute(0, 3, 1, 2)) if name == "demo_swinv2" else None
    cam = library.HiResCAM(branch, [stage], reshape_transform=last)
    features = trunk_features(group.trunk, pixels.pixels, model.preprocessing, CPU, "fp32")
    for output in range(3):
        wanted = [targets.ClassifierOutputTarget(output)] * 2
        cam(features.clone().requires_grad_(), wanted)
        kept = cam.activations_and_grads
        values = (kept.activations[0].numpy(), kept.gradients[0].numpy())
        expected = cam.get_cam_image(features, stage, wanted, *values, False)  # not yet rescaled
        assert np.allclose(found.maps[:, output], 16 * expected, atol=1e-3)
    cam.activations_and_grads.release()


def test_at_the_last_map_the_method_gives_the_exact_map(monkeypatch):
    model = random_model("demo_coatnet", "ovo")
    pixels = noise_for(model)
    monkeypatch.setattr("common.evidence.finer._TIMES", 1)
    found = finer_evidence_of(model, pixels, CPU, tta="flips")
    exact = evidence_of(model, pixels, CPU, tta="flips")
    assert np.allclose(found.maps, exact.maps, atol=1e-4)
    assert np.allclose(found.constants, exact.constants, atol=1e-4)


def test_where_all_earlier_stages_are_shared_there_is_no_finer_map():
    model = random_model("demo_convnext", frozen_stages=4)
    with pytest.raises(InputError, match=r"^demo_convnext: expected a stage with twice the 2 x 2"):
        finer_evidence_of(model, noise_for(model), CPU)


def test_pixels_are_no_map_of_a_stage():
    model = random_model("tf_efficientnet_lite0", freeze=False)
    found = finer_evidence_of(model, noise_for(model, 1), CPU)
    assert found.maps.shape[2:] == (4, 4)


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_swinv2"])
def test_of_joined_stages_a_finer_map_holds_what_passes_its_stage(name):
    model = random_model(name, freeze=False, pooled_stages="trained")
    pixels = noise_for(model)
    found = finer_evidence_of(model, pixels, CPU)
    assert np.allclose(found.logits, predict_logits(model, pixels, CPU, "fp32"), atol=1e-5)
    branch = model.groups[0].branches[0].branch
    place = branch.stages.get_submodule(found.method.split()[-1].replace(".", ":"))

    def nudged(_, __, output, share):
        return output * (1 + share)

    features = trunk_features(
        model.groups[0].trunk, pixels.pixels, model.preprocessing, CPU, "fp32"
    )
    said = []
    for share in (0.0, 1e-3):
        hook = place.register_forward_hook(partial(nudged, share=share))
        with torch.no_grad():
            said.append(branch(features).double())
        hook.remove()
    slope = ((said[1] - said[0]) / 1e-3).numpy()  # of the logits, as the whole map grows
    assert np.allclose(found.maps.mean((2, 3)), slope, rtol=0.05, atol=0.02 * np.abs(slope).max())
