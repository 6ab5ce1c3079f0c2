"""One backbone as the product and as the reference loop train and evaluate it."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import reference
from benchmarks.speed.reference import ReferenceClassifier
from common.architectures import BackboneSpec
from common.config import PixelOptions, TrainConfig
from common.data.folders import Split, scan_split
from common.kernels.depthwise import KERNEL_VERSION
from common.models.backbones import build, native_state, preprocessing_for, resolve
from common.models.ovo import chunk_size, trunk_features
from common.pairs import Pair, class_pairs, pair_head
from common.pixel_store.pixel_cache import PixelCache, open_cache
from common.result_dir.paths import ResultDir
from common.system.device import resolve_precision, wait_for
from common.trained_networks.loading import Columns, LoadedModel, TrunkGroup
from common.trained_networks.running import predict_logits
from common.training.context import Fingerprints, RunInputs, TrainContext, build_context
from common.training.loop import train_epoch
from common.training.parallelism import choose_parallelism
from common.training.trainer import EpochSums, HeadTrainer, build_trainer, check_finite

PAIRS = class_pairs(5)


@dataclass
class Bench:
    """One backbone in both forms, with the same weights."""

    spec: BackboneSpec
    split: Split
    cache: PixelCache
    workers: int
    context: TrainContext
    trainers: list[HeadTrainer] = field(default_factory=list)
    plain: list[ReferenceClassifier] = field(default_factory=list)
    loaders: dict[tuple[Pair | None, bool], DataLoader] = field(default_factory=dict)

    def prepare_product(self) -> None:
        """Make the ten classifiers."""
        self.trainers = [build_trainer(self.context, pair_head(pair)) for pair in PAIRS]
        choose_parallelism(self.context, self.trainers)

    def prepare_reference(self) -> None:
        """Make ten full networks of the same weights."""
        self.plain = [self.reference_of(trainer) for trainer in self.trainers]

    def reference_of(self, trainer: HeadTrainer) -> ReferenceClassifier:
        """Copy a classifier into a library's network."""
        size = self.context.preprocessing.img_size
        model = ReferenceClassifier(self.spec, size, self.context.config.ovo_dropout)
        frozen = native_state(self.context.backbone.trunk)
        model.backbone.load_state_dict(frozen | native_state(trainer.branch.stages))
        model.freeze(set(frozen))
        return model.to(self.context.device)

    def loader(self, pair: Pair | None, augmented: bool, batch: int) -> DataLoader:
        """Make a DataLoader once; its workers stay, so that starting them is not timed."""
        if (pair, augmented) not in self.loaders:
            images = reference.PairImages(
                list(self.split.paths),
                self.split.labels,
                pair,
                self.context.preprocessing,
                self.context.config if augmented else None,
            )
            self.loaders[pair, augmented] = reference.loader(
                images, batch, pair is not None, self.workers
            )
        return self.loaders[pair, augmented]

    def end_workers(self) -> None:
        """End the DataLoaders' workers, each of which holds a copy of what it touches."""
        self.loaders.clear()

    def train_reference(self) -> None:
        """Train every pair's model for an epoch."""
        config, device = self.context.config, self.context.device
        weights = torch.ones(2, device=device)
        for pair, model in zip(PAIRS, self.plain):
            optimizer = reference.make_optimizer(model, config)
            batches = self.loader(pair, True, config.batch_size)
            reference.train(model, batches, optimizer, weights, config, device)

    def train_product(self) -> None:
        """Train all pairs for an epoch."""
        train_epoch(self.context, self.trainers, 0)
        for trainer in self.trainers:
            check_finite(trainer)
            trainer.sums = EpochSums()

    def evaluate_reference(self) -> None:
        """Run ten full networks on every image."""
        batches = self.loader(None, False, reference.EVAL_BATCH)
        reference.evaluate(self.plain, batches, self.context.device)

    def evaluate_product(self) -> None:
        """Run the trunk once and ten branches, on the pixels of the filled cache."""
        branches = [Columns(slice(i, i + 1), t.branch.eval()) for i, t in enumerate(self.trainers)]
        context = self.context
        model = LoadedModel(
            model=self.spec.name,
            head="ovo",
            class_names=list("01234"),
            preprocessing=context.preprocessing,
            groups=[TrunkGroup(context.backbone.trunk, branches)],
            pair_accuracies=np.ones(len(branches)),
        )
        predict_logits(model, self.cache, context.device, context.precision)

    def evaluate_cold(self) -> None:
        """Fill an empty cache first."""
        self.fill_product()
        self.evaluate_product()

    def decode_reference(self) -> None:
        """Decode every image four times, as an epoch of ten pairs does."""
        for pair in PAIRS:
            for _ in self.loader(pair, False, self.context.config.batch_size):
                pass

    def fill_product(self) -> None:
        """Fill an empty cache."""
        with tempfile.TemporaryDirectory() as folder:
            open_cache(self.split, self.context.preprocessing, Path(folder), self.workers)

    def data_share(self) -> float:
        """Return the time that fetching pixels takes in a later epoch, as a share of it."""
        pixels = self.context.train_pixels
        size = chunk_size(self.context.device)
        wait_for(self.context.device)
        started = time.perf_counter()
        for start in range(0, len(self.split), size):
            pixels(np.arange(start, min(start + size, len(self.split))))
        wait_for(self.context.device)
        reading = time.perf_counter() - started
        started = time.perf_counter()
        self.train_product()
        wait_for(self.context.device)
        return reading / (time.perf_counter() - started)

    def flops(self) -> tuple[float, float]:
        """Count the operations of the product for a pair-sample's training, and an image's grading.

        Four pair-samples, or all ten pairs, share the trunk. A backward pass is taken for two
        forward passes: the counter is wrong about the gradients of depthwise convolutions.
        """
        context = self.context
        size = context.preprocessing.img_size
        pixels = np.zeros((1, size, size, 3), dtype=np.uint8)
        trunk, branch = context.backbone.trunk, self.trainers[0].branch
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as of_trunk:
            features = trunk_features(
                trunk, pixels, context.preprocessing, context.device, context.precision
            )
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as of_branch:
            branch(features.float())
        shared = of_trunk.get_total_flops() / chunk_size(context.device)
        own = of_branch.get_total_flops()
        return shared / 4 + 3 * own, shared + len(PAIRS) * own


def build_bench(name: str, root: Path, device: torch.device, workers: int) -> Bench:
    """Build a backbone with random weights, and fill its cache with the images in root/train."""
    spec = resolve(name)
    config = TrainConfig(model=spec.name, dataset_path=str(root))
    preprocessing = preprocessing_for(spec, PixelOptions())
    precision = resolve_precision("auto", True, device)
    split = scan_split(root, "train")
    cache = open_cache(split, preprocessing, root / "cache", workers)
    backbone = build(spec, preprocessing.img_size, False, "", True, 0)
    inputs = RunInputs(config, backbone, preprocessing, split, split, device, precision)
    unused = Fingerprints({}, "", precision, synthetic=True, kernel_version=KERNEL_VERSION)
    context = build_context(inputs, cache, cache, ResultDir(root / "results"), unused)
    return Bench(spec, split, cache, workers, context)
