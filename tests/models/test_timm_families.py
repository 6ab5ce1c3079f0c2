"""One small model of each family of timm is cut into stages, or the reason why not is given."""

import copy
import dataclasses
from collections import defaultdict

import pytest
import timm
import torch

from common.architectures import BackboneSpec
from common.models import backbones
from common.models.backbones import Backbone, build, resolve
from common.models.pretrained import create_network
from common.system.errors import InputError

# the smallest of each module of timm, where it is not the first in the alphabet
SMALL = """
    test_vit test_byobnet beit_base_patch16_224 halonet_h1 poolformerv2_s12 cait_xxs24_224
    coat_tiny test_maxvit convit_tiny convmixer_768_32 test_convnext cpubone_nano
    crossvit_tiny_240 cs3darknet_focus_s csatv2 cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 densenet121 dla46x_c test_nfnet dpn48b ese_vovnet19b_slim_dw
    test_resnet edgenext_xx_small efficientformer_l1 efficientformerv2_s0 test_efficientnet
    efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fasternet_t0
    fastvit_t8 lcnet_035 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050
    gmlp_ti16_224 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small
    iformer_t inception_next_atto lcnetv2_small legacy_seresnet18 levit_128s lowformer_b0
    test_mambaout mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap
    nest_tiny nextvit_small pit_ti_224 pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002
    repghostnet_050 repvit_m1 res2next50 resnest14d resnetv2_18 rexnet_100
    samvit_base_patch16_224 selecsls42 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224
    test_vit_relpos tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m twins_svt_small vgg11
    visformer_tiny vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xception41
    xcit_nano_12_p16_224
"""
# options that make a family's smallest model small
SMALLER = {
    "deepseek_vit_412m": {"depth": 2, "embed_dim": 256},
    "gemma4_vit_167m": {"depth": 2},
    "qwen3_vit_88m": {"depth": 2},
    "beit_base_patch16_224": {"depth": 2},
    "naflexvit_base_patch16_parfac_gap": {"depth": 2},
    "samvit_base_patch16_224": {"depth": 2},
    "vgg11": {"mlp_ratio": 0.05},
}
# others that share classes with a patched network
MORE = ["maxvit_nano_rw_256", "coatnext_nano_rw_224", "test_coatnet"]


def one_of_each_family() -> list[str]:
    """Choose a model of each module that the installed timm has."""
    families = defaultdict(list)
    for name in timm.list_models():
        families[timm.models._registry._model_to_module[name]].append(name)
    chosen = [
        next((n for n in SMALL.split() if n in names), names[0]) for names in families.values()
    ]
    return sorted({*chosen, *(name for name in MORE if timm.is_model(name))})


@pytest.fixture
def create_once(monkeypatch):
    """Fill a network with random weights once for each size: that takes most of the time."""
    networks = {}

    def create(spec, size, pretrained):
        assert not pretrained
        if size not in networks:
            torch.manual_seed(0)
            networks[size] = create_network(spec, size, False)
        return copy.deepcopy(networks[size])

    monkeypatch.setattr(backbones, "create_network", create)
    return create


def smallest(spec: BackboneSpec) -> tuple[Backbone, int]:
    """Build a network without a trunk at a size at which it works; fails where there is none."""
    own = timm.get_pretrained_cfg(spec.builder).input_size[-1]
    for size in sorted({64, 96, own}):
        try:
            return build(spec, size, False, "", False, 0), size
        except InputError as error:
            assert "\n" not in str(error)
            reason = str(error)
    pytest.fail(reason)


def pooled(backbone: Backbone, image: torch.Tensor) -> torch.Tensor:
    """Return what trunk and stages give for a picture."""
    found = backbone.stages(backbone.trunk(image))
    assert found.shape == (1, backbone.num_features)
    return found


def picture(size: int) -> torch.Tensor:
    """Draw a picture of noise."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.startswith("test_") else pytest.mark.slow)
        for name in one_of_each_family()
    ],
)
@torch.no_grad()
def test_a_model_of_each_family_works_in_stages_or_says_why_only_as_a_whole(name, create_once):
    spec = dataclasses.replace(resolve(name), options=SMALLER.get(name, {}))
    whole, size = smallest(spec)
    assert not len(whole.trunk)
    expected = create_once(spec, size, False).eval()(picture(size))
    rounding = 1e-4 * expected.abs().max()
    assert torch.allclose(pooled(whole, picture(size)), expected, rtol=0, atol=rounding)
    try:
        cut = build(spec, size, False, "", True, 0)
    except InputError as error:
        assert name in str(error) and "--freeze_weights false" in str(error)
        assert "\n" not in str(error)
    else:
        assert len(cut.trunk)
        assert torch.allclose(pooled(cut, picture(size)), expected, rtol=0, atol=rounding)
