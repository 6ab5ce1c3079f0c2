"""Networks take weights from the hub or a file, or say in one line why they cannot."""

import time

import pytest
import timm
import torch
import torchvision
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
