"""The reference loop of the benchmarks and the product learn the same."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import reference

from common.augmentation import augment, augmentation_table, normalise
from common.backbones import build, native_state, preprocessing_for, resolve
from common.config import TrainConfig
from common.ovo import chunk_size, make_top, trunk_features
from common.runtime import random_generator
from common.training import focal_loss, make_optimizer

CPU = torch.device("cpu")
STEPS = 4


def twins(name):
    """The product's trunk and top, and the reference's network with the same weights."""
    spec = resolve(name)
    settings = preprocessing_for(spec, 0, True, 2.0, 8)
    backbone = build(spec, settings.img_size, False, "", True, 0)
    top = make_top(backbone, (0, 1), 0)
    plain = reference.ReferenceClassifier(spec, settings.img_size, 0.0)
    state = native_state(backbone.trunk) | native_state(top.stages)
    plain.backbone.load_state_dict(state)
    plain.classifier.load_state_dict(top.classifier.state_dict())
    plain.freeze(set(native_state(backbone.trunk)))
    return backbone, top, plain, settings


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_convnext", "demo_swinv2", "resnet50"])
def test_both_learn_the_same(name):
    backbone, top, plain, settings = twins(name)
    size = settings.img_size if name != "resnet50" else 64
    config = TrainConfig(ovo_dropout=0.0, learning_rate=1e-4)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (8 * STEPS, size, size, 3), dtype=np.uint8)
    targets = torch.from_numpy(generator.integers(0, 2, 8 * STEPS))
    table = augmentation_table(random_generator("a", 0, 0), 8 * STEPS, 25, 0.2, 0.2)
    weights = torch.tensor([0.8, 1.3])

    optimizer, found = make_optimizer(top, config), []
    for start in range(0, 8 * STEPS, 8):
        part = slice(start, start + 8)
        features = trunk_features(backbone.trunk, pixels[part], settings, CPU, "fp32", table[part])
        losses = focal_loss(top(features), targets[part], weights, 3.0, 2.5, 0.1)
        optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(top.parameters(), 1.0)
        optimizer.step()
        found.append(losses.mean().item())

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = normalise(augment(images, torch.from_numpy(table)), settings.mean, settings.std)
    batches = [(images[i : i + 2], targets[i : i + 2].float()) for i in range(0, 8 * STEPS, 2)]
    samples, expected = reference.train(
        plain, iter(batches), reference.make_optimizer(plain, config), weights, config, CPU
    )
    assert samples == 8 * STEPS and len(expected) == STEPS
    assert found == pytest.approx(expected, abs=1e-4)
    assert abs(expected[0] - expected[-1]) > 1e-4, "something was learned"
    assert chunk_size(CPU) >= 8


def test_the_reference_reads_the_product_s_pixels(demo):
    spec = resolve("demo_convnext")
    settings = preprocessing_for(spec, 0, True, 2.0, 8)
    paths = sorted((demo / "test").rglob("*.jpg"))
    labels = np.array([int(path.parent.name) for path in paths])
    images = reference.PairImages(paths, labels, (1, 3), settings, None)
    assert len(images) == 8 and set(images.targets.tolist()) == {0.0, 1.0}
    augmented = reference.PairImages(paths, labels, (1, 3), settings, TrainConfig())
    assert not torch.equal(images[0][0], augmented[0][0])
    batch, targets = next(iter(reference.loader(images, 2, False, 0)))
    assert batch.shape == (2, 3, 64, 64) and targets.dtype == torch.float32
