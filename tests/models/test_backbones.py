"""Backbones are cut into the stages that the table names, and stay the network that they were."""

import pytest
import timm
import torch

from common.config import PixelOptions
from common.models import timm_patches
from common.models.backbones import (
    JoinedStages,
    build,
    is_stage,
    load_native_state,
    native_state,
    preprocessing_for,
    resolve,
)
from common.system.errors import InputError

SMALL = ["demo_coatnet", "demo_convnext", "demo_swinv2", "test_convnext", "test_resnet"]
SEVEN = [
    "coatnet",
    "convnext",
    "swinv2",
    "densenet121",
    "efficientnetb2",
    "resnet50",
    "seresnext50",
]


def make(name, size=64, freeze=True, seed=0):
    return build(resolve(name), size, False, "", freeze, seed)


def joined(name, size=64, freeze=True):
    return build(resolve(name), size, False, "", freeze, 0, pooled_stages="trained")


def pixels(size, count=2):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
def test_trunk_and_stages_in_turn_are_the_network(name):
    spec = resolve(name)
    torch.manual_seed(3)
    size = {"img_size": 64} if "swin" in name or "coatnet" in name else {}
    net = timm.create_model(spec.builder, num_classes=0, **spec.options, **size).eval()
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # which rounds otherwise
    backbone = make(name)
    timm_patches.compute_as(backbone.stages, 2)  # the order of its products rounds, too
    states = {**native_state(backbone.trunk), **native_state(backbone.stages)}
    net.load_state_dict(states)
    with torch.no_grad():
        expected = net(pixels(64))
        found = backbone.stages(backbone.trunk(pixels(64)))
        assert torch.allclose(found, expected, atol=1e-5), "the trunk's memory layout rounds"
        plain = backbone.trunk.to(memory_format=torch.contiguous_format)
        found = backbone.stages(plain(pixels(64)))
    assert torch.equal(found, expected), "pooled by the model's own head"
    assert found.shape == (2, backbone.num_features)


def test_swin_features_are_pooled_over_places_not_channels():
    backbone = make("demo_swinv2")
    with torch.no_grad():
        features = backbone.trunk(pixels(64))
    assert features.shape[1:3] == (8, 8) and features.shape[3] == 48, "channels last"
    assert backbone.num_features == 192


def test_convnext_keeps_its_head_norm():
    assert "head.norm.weight" in native_state(make("demo_convnext").stages)


@pytest.mark.parametrize("name", SMALL)
def test_the_stem_is_frozen_with_the_stages_above_it(name):
    backbone = make(name)
    assert not any(p.requires_grad for p in backbone.trunk.parameters())
    assert all(p.requires_grad for p in backbone.stages.parameters())
    names = [key.replace(":", ".") for key in dict(backbone.trunk.named_children())]
    assert names[0].split(".")[0] in ("stem", "patch_embed", "conv1")
    free = make(name, freeze=False)
    assert not list(free.trunk.parameters())
    whole = sum(p.numel() for p in backbone.trunk.parameters()) + sum(
        p.numel() for p in backbone.stages.parameters()
    )
    assert sum(p.numel() for p in free.stages.parameters()) == whole


@pytest.mark.parametrize(
    ("name", "stages", "last"),
    [("demo_coatnet", 1, "stages:0"), ("demo_swinv2", 4, "layers:3"), ("resnet18", 2, "layer2")],
)
def test_as_many_stages_freeze_as_are_asked_for(name, stages, last):
    backbone = build(resolve(name), 64, False, "", True, 0, stages)
    assert [key for key, _ in backbone.trunk.named_children()][-1] == last
    whole = make(name, freeze=False)
    with torch.no_grad():
        together = backbone.stages(backbone.trunk(pixels(64)))
        assert torch.allclose(together, whole.stages(pixels(64)), atol=1e-5)


def test_more_stages_than_there_are_cannot_freeze():
    with pytest.raises(InputError, match=r"--frozen_stages 5: .* found 4 \(stages.0, .*stages.3\)"):
        build(resolve("demo_convnext"), 64, False, "", True, 0, 5)
    with pytest.raises(InputError, match="not a plain chain of stages"):
        build(resolve("test_vit"), 160, False, "", True, 0, 1)


FROZEN = {
    "coatnet": "stages:1",
    "convnext": "stages:1",
    "swinv2": "layers:1",
    "densenet121": "features:denseblock2",
    "efficientnetb2": "features:2",
    "resnet50": "layer2",
    "seresnext50": "layer2",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVEN)
def test_the_seven_backbones_freeze_what_the_table_says(name):
    spec = resolve(name)
    size = preprocessing_for(spec, PixelOptions()).img_size
    assert size == (256 if name == "swinv2" else 224)
    backbone = make(name, size)
    assert list(dict(backbone.trunk.named_children()))[-1] == FROZEN[name]
    with torch.no_grad():
        found = backbone.stages(backbone.trunk(pixels(size, 1)))
    assert found.shape == (1, backbone.num_features)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("coatnet", 192), ("convnext", 192), ("swinv2", 224)])
def test_a_backbone_works_at_another_size(name, size):
    backbone = make(name, size)
    with torch.no_grad():
        assert backbone.stages(backbone.trunk(pixels(size, 1))).isfinite().all()


def test_pixels_are_normalised_as_the_model_was_trained():
    preprocessing = {n: preprocessing_for(resolve(n), PixelOptions()) for n in SEVEN}
    assert preprocessing["coatnet"].mean == (0.5, 0.5, 0.5) == preprocessing["coatnet"].std
    assert preprocessing["convnext"].mean == pytest.approx((0.485, 0.456, 0.406))
    assert preprocessing["resnet50"].interpolation == "bilinear"
    assert preprocessing["swinv2"].interpolation == "bicubic"
    assert preprocessing_for(resolve("coatnet"), PixelOptions(192)).img_size == 192


def test_a_model_is_found_by_alias_file_name_and_timm_name():
    assert resolve("coatnet") is resolve("coatnet_0_rw_224")
    assert resolve("efficientnet_b2").name == "efficientnetb2"
    with pytest.raises(InputError, match="did you mean convnext"):
        resolve("convnxt_tiny")
    with pytest.raises(InputError, match=r"mean resnet50\w*, resnet50\w*") as unknown:
        resolve("resnet50.bogus")
    names = str(unknown.value).partition("mean ")[2].rstrip("?").split(", ")
    assert len(names) == len(set(names))


def test_an_unknown_tag_of_pretrained_weights_is_an_unknown_model():
    with pytest.raises(InputError, match=r"unknown model 'convnext_tiny\.foo'"):
        resolve("convnext_tiny.foo")
    assert resolve("convnext_tiny.in12k").builder == "convnext_tiny.in12k"


def test_what_is_no_chain_of_stages_can_be_trained_whole_only():
    with pytest.raises(InputError, match=r"not a plain chain of stages.* --freeze_weights false"):
        build(resolve("test_vit"), 160, False, "", True, 0)
    backbone = build(resolve("test_vit"), 160, False, "", False, 0)
    assert len(backbone.trunk) == 0 and len(backbone.stages) == 1
    net = timm.create_model("test_vit", num_classes=0).eval()
    assert backbone.num_features == net.num_features
    assert sum(p.numel() for p in backbone.stages.parameters()) == sum(
        p.numel() for p in net.parameters()
    )


def test_states_go_back_under_the_library_s_own_keys():
    one, two = make("demo_swinv2", seed=1), make("demo_swinv2", seed=2)
    load_native_state(two.stages, native_state(one.stages))
    for key, value in native_state(one.stages).items():
        assert torch.equal(native_state(two.stages)[key], value)
    with pytest.raises(RuntimeError, match="Missing"):
        load_native_state(two.stages, {})


def test_the_seed_decides_the_random_start():
    one, two, other = (native_state(make("demo_convnext", seed=s).stages) for s in (1, 1, 2))
    key = next(k for k in one if k.endswith("conv_dw.weight"))
    assert torch.equal(one[key], two[key]) and not torch.equal(one[key], other[key])


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make("demo_convnext")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("size", [1, 7, 33, 65])
@pytest.mark.parametrize("name", ["test_vit", "test_maxvit", "test_convnext", "demo_swinv2"])
def test_an_odd_size_works_or_is_refused_in_one_line(name, size):
    try:
        assert make(name, size, freeze=False).num_features
    except InputError as error:
        assert f"cannot work at {size} pixels" in str(error) or f"--img_size {size}" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_swinv2", "resnet18", "densenet121"])
@pytest.mark.parametrize("freeze", [True, False])
def test_joined_stages_pool_what_each_trained_stage_gives(name, freeze):
    plain, found = make(name, freeze=freeze), joined(name, freeze=freeze)
    assert native_state(plain.stages).keys() == native_state(found.stages).keys()
    means = []

    def keep(_, __, output):
        channels_last = output.shape[2] != output.shape[3]
        means.append(output.mean((1, 2) if channels_last else (2, 3)))

    for part, stage in plain.stages.named_children():
        if is_stage(part, stage):
            stage.register_forward_hook(keep)
    with torch.no_grad():
        last = plain.stages(plain.trunk(pixels(64)))
        pooled = found.stages(found.trunk(pixels(64)))
    apart = [one for one in means if one.shape != last.shape or not torch.allclose(one, last)]
    assert apart and torch.allclose(pooled, torch.cat([*apart, last], 1), atol=1e-5)
    assert pooled.shape == (2, found.num_features) and found.num_features > plain.num_features


@pytest.mark.parametrize("name", ["demo_convnext", "vit_tiny_patch16_224"])
def test_stages_that_more_than_pooling_follows_are_not_joined(name):
    size = 224 if name.startswith("vit") else 64
    with pytest.raises(InputError, match="--pooled_stages trained: expected several"):
        joined(name, size, freeze=False)
    plain, found = (
        build(resolve(name), size, False, "", False, 0, pooled_stages=how)
        for how in ("last", "auto")
    )
    assert found.num_features == plain.num_features
    assert not isinstance(found.stages, JoinedStages)
