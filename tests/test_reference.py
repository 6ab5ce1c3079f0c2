"""The reference loop of the benchmarks and the product learn the same."""

import numpy as np
import pytest
import torch

from benchmarks.speed import reference
from common.config import PixelOptions, TrainConfig
from common.data.folders import scan_split
from common.data.sampler import epoch_order
from common.models.backbones import build, native_state, preprocessing_for, resolve
from common.pairs import pair_head
from common.pixel_store.pixel_cache import open_cache
from common.pixels.augmentation import augment, augmentation_table, normalise
from common.result_dir.paths import ResultDir
from common.training.context import Fingerprints, RunInputs, build_context
from common.training.loop import train_epoch
from common.training.trainer import EpochSums, build_trainer

CPU = torch.device("cpu")


def product(name, demo, cache_dir, folder):
    """A training of pair 1-2 as the product does it, of which all but the data is switched off."""
    config = TrainConfig(
        ovo_dropout=0.0,
        learning_rate=1e-4,
        scheduler="none",
        warmup_epochs=0,
        batch_size=2,
        gradient_accumulation_steps=2,
    )
    spec = resolve(name)
    preprocessing = preprocessing_for(spec, PixelOptions(64))
    backbone = build(spec, 64, False, "", True, 0)
    split = scan_split(demo, "train")
    cache = open_cache(split, preprocessing, cache_dir, 2)
    inputs = RunInputs(config, backbone, preprocessing, split, split, CPU, "fp32")
    unused = Fingerprints({}, "", "fp32", synthetic=True)
    context = build_context(inputs, cache, cache, ResultDir(folder), unused)
    return context, build_trainer(context, pair_head((1, 2)))


def twin(context, trainer):
    """The reference's network with the same weights."""
    plain = reference.ReferenceClassifier(context.backbone.spec, 64, 0.0)
    frozen = native_state(context.backbone.trunk)
    plain.backbone.load_state_dict(frozen | native_state(trainer.branch.stages))
    plain.classifier.load_state_dict(trainer.branch.classifier.state_dict())
    plain.freeze(set(frozen))
    return plain


def micro_batches(context, epoch):
    """The augmented pixels and targets that the product's epoch is made of, two at a time."""
    split, config = context.train, context.config
    table = augmentation_table(config.seed, epoch, len(split), config.augmentation)
    order = epoch_order(config.seed, epoch, len(split))
    order = order[np.isin(split.labels[order], (1, 2))]
    for start in range(0, len(order), 2):
        indices = order[start : start + 2]
        images = context.train_pixels(indices).permute(0, 3, 1, 2).float() / 255
        images = augment(images, torch.from_numpy(table[indices]))
        targets = torch.from_numpy((split.labels[indices] == 2).astype(np.float32))
        yield normalise(images, context.preprocessing.mean, context.preprocessing.std), targets


@pytest.mark.parametrize("name", ["demo_coatnet", "demo_convnext", "demo_swinv2", "densenet121"])
def test_both_learn_the_same(name, demo, shared_cache, tmp_path):
    context, trainer = product(name, demo, shared_cache, tmp_path)
    plain = twin(context, trainer)
    optimizer = reference.make_optimizer(plain, context.config)
    found, expected = [], []
    for epoch in range(2):
        train_epoch(context, [trainer], epoch)
        found += [float(loss) / 4 for loss in trainer.sums.losses]
        trainer.sums = EpochSums()
        samples, losses = reference.train(
            plain, micro_batches(context, epoch), optimizer, torch.ones(2), context.config, CPU
        )
        assert samples == 20
        expected += losses
    assert len(found) == 10 and found[:3] == pytest.approx(expected[:3], abs=1e-5)
    # An untrained DenseNet makes rounding grow: weights that differ by 1e-7 give losses that differ
    # by 1e-4 ten steps later. The other networks stay within 1e-6.
    assert found == pytest.approx(expected, abs=1e-3 if name == "densenet121" else 1e-5)
    assert max(expected) - min(expected) > 1e-2, "something was learned"


def test_the_reference_reads_the_product_s_pixels(demo):
    spec = resolve("demo_convnext")
    preprocessing = preprocessing_for(spec, PixelOptions())
    paths = sorted((demo / "test").rglob("*.jpg"))
    labels = np.array([int(path.parent.name) for path in paths])
    images = reference.PairImages(paths, labels, (1, 3), preprocessing, None)
    assert len(images) == 8 and set(images.targets.tolist()) == {0.0, 1.0}
    augmented = reference.PairImages(paths, labels, (1, 3), preprocessing, TrainConfig())
    assert not torch.equal(images[0][0], augmented[0][0])
    batch, targets = next(iter(reference.loader(images, 2, False, 0)))
    assert batch.shape == (2, 3, 64, 64) and targets.dtype == torch.float32


def test_depthwise_networks_say_the_same(demo, shared_cache, tmp_path):
    context, trainer = product("tf_efficientnet_lite0", demo, shared_cache, tmp_path)
    pixels = next(iter(micro_batches(context, 0)))[0]
    with torch.no_grad():
        expected = trainer.branch.eval()(context.backbone.trunk(pixels))
        found = twin(context, trainer).eval()(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
