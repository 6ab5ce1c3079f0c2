"""The table of networks: which of which library, and what messages and files call it.

It is read without importing these libraries, which takes seconds.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """Which network of which library, and what messages and files call it."""

    name: str
    source: str  # "timm" or "torchvision"
    builder: str  # the library's own name
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(Architecture):
    """One row of the table of models.

    img_size: 0 for that of the model's own configuration. last_frozen: the last stage that freezing
    freezes, "" for the one in the middle. frozen_gflop, trained_gflop: what these stages and the
    others take for one picture of that size, forwards, by PyTorch's counter (`python -m
    dev.count_flops`); 0: not known.
    """

    alias: str
    family: str = "other"
    img_size: int = 0
    last_frozen: str = ""
    frozen_gflop: float = 0.0
    trained_gflop: float = 0.0


_SPECS = (
    BackboneSpec(
        name="coatnet_0_rw_224",
        source="timm",
        builder="coatnet_0_rw_224",
        alias="coatnet",
        family="hybrid CNN+transformer",
        img_size=224,
        last_frozen="stages.1",
        frozen_gflop=2.434,
        trained_gflop=6.377,
    ),
    BackboneSpec(
        name="convnext_tiny",
        source="timm",
        builder="convnext_tiny",
        alias="convnext",
        family="modern CNN",
        img_size=224,
        last_frozen="stages.1",
        frozen_gflop=3.052,
        trained_gflop=5.858,
    ),
    BackboneSpec(
        name="swinv2_tiny_window8_256",
        source="timm",
        builder="swinv2_tiny_window8_256",
        alias="swinv2",
        family="transformer",
        img_size=256,
        last_frozen="layers.1",
        frozen_gflop=4.121,
        trained_gflop=7.757,
    ),
    BackboneSpec(
        name="densenet121",
        source="torchvision",
        builder="densenet121",
        alias="densenet121",
        family="CNN",
        img_size=224,
        last_frozen="features.denseblock2",
        frozen_gflop=3.948,
        trained_gflop=1.718,
    ),
    BackboneSpec(
        name="efficientnetb2",
        source="torchvision",
        builder="efficientnet_b2",
        alias="efficientnetb2",
        family="CNN",
        img_size=224,
        last_frozen="features.2",
        frozen_gflop=0.213,
        trained_gflop=1.102,
    ),
    BackboneSpec(
        name="resnet50",
        source="torchvision",
        builder="resnet50",
        alias="resnet50",
        family="CNN",
        img_size=224,
        last_frozen="layer2",
        frozen_gflop=3.627,
        trained_gflop=4.547,
    ),
    BackboneSpec(
        name="seresnext50_32x4d",
        source="timm",
        builder="seresnext50_32x4d",
        alias="seresnext50",
        family="SE + grouped CNN",
        img_size=224,
        last_frozen="layer2",
        frozen_gflop=3.676,
        trained_gflop=4.786,
    ),
    # small members of the three families, to be trained from scratch on the synthetic demo
    BackboneSpec(
        name="demo_coatnet",
        source="timm",
        builder="coatnet_0_rw_224",
        alias="demo_coatnet",
        family="hybrid CNN+transformer",
        img_size=64,
        last_frozen="stages.1",
        options={"embed_dim": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "stem_width": (8, 16)},
    ),
    BackboneSpec(
        name="demo_convnext",
        source="timm",
        builder="convnext_tiny",
        alias="demo_convnext",
        family="modern CNN",
        img_size=64,
        last_frozen="stages.1",
        options={"dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "ls_init_value": None},
    ),
    BackboneSpec(
        name="demo_swinv2",
        source="timm",
        builder="swinv2_tiny_window8_256",
        alias="demo_swinv2",
        family="transformer",
        img_size=64,
        last_frozen="layers.1",
        options={
            "embed_dim": 24,
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 2, 4, 8),
            "window_size": 4,
        },
    ),
)


def in_table(name: str) -> BackboneSpec | None:
    """Find a network of the table by alias, file name or the library's name; None for others."""
    return next((s for s in _SPECS if name in (s.name, s.alias, s.builder)), None)


def stored_architecture(name: str) -> BackboneSpec:
    """Describe a network by the name that a result directory holds, which was checked in training.

    What is not in the table is a model of timm.
    """
    return in_table(name) or timm_architecture(name)


def timm_architecture(name: str) -> BackboneSpec:
    """Describe a model of timm that is not in the table."""
    return BackboneSpec(name=name, source="timm", builder=name, alias=name)


def aliases() -> list[str]:
    """List the short names of the table's networks."""
    return [spec.alias for spec in _SPECS]
