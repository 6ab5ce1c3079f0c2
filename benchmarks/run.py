#!/usr/bin/env python3
"""Measure how much faster the product is than the reference loop, in one process, interleaved.

    python -m benchmarks.run --device cpu

Both work on the same drawn photographs; every number is the median of the repeats, ratios with
their range. Writes benchmarks/RESULTS.md and results.json (one section per device).
"""

from common.cli import Parser, guarded

import argparse
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import reference, report, results
from benchmarks.report import SEVEN, THREE
from benchmarks.results import EnsembleSpeed, ModelSpeed, Speed, SpeedSection
from common.config import PixelOptions, TrainConfig
from common.data.device_pixels import MAX_RESIDENT_BYTES
from common.data.folders import scan_split
from common.data.pixel_cache import open_cache
from common.data.synthetic import write_dataset
from common.models.backbones import build, native_state, preprocessing_for, resolve
from common.models.ovo import chunk_size, trunk_features
from common.pairs import class_pairs, pair_head
from common.prediction.predict import Columns, LoadedModel, TrunkGroup, predict_logits
from common.result_dir import ResultDir
from common.system.device import resolve_precision, select_device, tune_malloc, wait_for
from common.system.environment import versions, worker_count
from common.system.errors import InputError
from common.system.log import log
from common.training.context import Fingerprints, RunInputs, build_context
from common.training.loop import train_epoch
from common.training.step import choose_parallelism
from common.training.trainer import EpochSums, HeadTrainer, build_trainer, check_finite

PAIRS = class_pairs(5)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--base_models", nargs="+", default=list(THREE), metavar="MODEL")
    parser.add_argument(
        "--ensemble",
        nargs="*",
        default=list(SEVEN),
        metavar="MODEL",
        help="evaluated together (default all seven)",
    )
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument(
        "--images", type=positive, default=0, help="per grade (default 7 on a CPU, 64 on a GPU)"
    )
    parser.add_argument(
        "--size", type=positive, default=768, help="of the photographs (default 768)"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=4,
        help="of each DataLoader, at most the cores (default 4)",
    )
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    args = parser.parse_args(argv)
    for name in (*args.base_models, *args.ensemble):
        resolve(name)
    return args


def positive(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)


def interleave(
    works: Mapping[str, Callable[[], None]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Time each work once per repeat, in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            wait_for(device)
            started = time.perf_counter()
            work()
            wait_for(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def matmul_ceiling(device: torch.device, precision: str) -> float:
    """Measure the FLOP/s of large matrix products, the best of all."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    best = 0.0
    for size in (8192, 16384) if device.type == "cuda" else (1024, 2048, 4096):
        one = torch.randn(size, size, device=device).to(kind)
        for _ in range(8):
            wait_for(device)
            started = time.perf_counter()
            one @ one
            wait_for(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def compare(
    slow: Callable[[], None],
    fast: Callable[[], None],
    amount: int,
    repeats: int,
    device: torch.device,
) -> Speed:
    """Compare the speeds of the reference and the product at the same amount of work.

    The product keeps freed memory on a CPU; the reference, a process of its own in practice, does
    as glibc does.
    """

    def plain() -> None:
        tune_malloc(False)
        slow()

    def product() -> None:
        tune_malloc()
        fast()

    seconds = interleave({"reference": plain, "product": product}, repeats, device)
    ratios = [r / p for r, p in zip(seconds["reference"], seconds["product"])]
    return Speed(
        reference_per_second=amount / statistics.median(seconds["reference"]),
        product_per_second=amount / statistics.median(seconds["product"]),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
    )


class Bench:
    """One backbone in both forms, with the same weights."""

    def __init__(self, name: str, root: Path, device: torch.device, workers: int) -> None:
        self.spec, self.device, self.workers = resolve(name), device, workers
        self.config = TrainConfig(model=self.spec.name, dataset_path=str(root))
        self.preprocessing = preprocessing_for(self.spec, PixelOptions())
        self.precision = resolve_precision("auto", True, device)
        self.split = scan_split(root, "train")
        self.cache = open_cache(self.split, self.preprocessing, root / "cache", workers)
        self.backbone = build(self.spec, self.preprocessing.img_size, False, "", True, 0)
        inputs = RunInputs(
            self.config,
            self.backbone,
            self.preprocessing,
            self.split,
            self.split,
            device,
            self.precision,
        )
        self.context = build_context(
            inputs,
            self.cache,
            self.cache,
            ResultDir(root / "results"),
            Fingerprints({}, "", self.precision, synthetic=True),
        )
        self.trainers: list[HeadTrainer] = []
        self.plain: list[reference.ReferenceClassifier] = []
        self._loaders: dict[Any, DataLoader] = {}

    def prepare_product(self) -> None:
        """Make the ten classifiers."""
        self.trainers = [build_trainer(self.context, pair_head(pair)) for pair in PAIRS]
        choose_parallelism(self.context, self.trainers)

    def prepare_reference(self) -> None:
        """Make ten full networks of the same weights."""
        self.plain = [self.reference_of(trainer) for trainer in self.trainers]

    def reference_of(self, trainer: HeadTrainer) -> reference.ReferenceClassifier:
        """Copy a classifier into a library's network."""
        size = self.preprocessing.img_size
        model = reference.ReferenceClassifier(self.spec, size, self.config.ovo_dropout)
        frozen = native_state(self.backbone.trunk)
        model.backbone.load_state_dict(frozen | native_state(trainer.branch.stages))
        model.freeze(set(frozen))
        return model.to(self.device)

    def loader(self, pair: Any, augmented: bool, batch: int) -> DataLoader:
        """Make a DataLoader once; its workers stay, so that starting them is not timed."""
        if (pair, augmented) not in self._loaders:
            images = reference.PairImages(
                list(self.split.paths),
                self.split.labels,
                pair,
                self.preprocessing,
                self.config if augmented else None,
            )
            self._loaders[pair, augmented] = reference.loader(
                images, batch, pair is not None, self.workers
            )
        return self._loaders[pair, augmented]

    def end_workers(self) -> None:
        """End the DataLoaders' workers, each of which holds a copy of what it touches."""
        self._loaders.clear()

    def train_reference(self) -> None:
        """Train every pair's model for an epoch."""
        weights = torch.ones(2, device=self.device)
        for pair, model in zip(PAIRS, self.plain):
            optimizer = reference.make_optimizer(model, self.config)
            batches = iter(self.loader(pair, True, self.config.batch_size))
            reference.train(model, batches, optimizer, weights, self.config, self.device)

    def train_product(self) -> None:
        """Train all pairs for an epoch."""
        train_epoch(self.context, self.trainers, 0)
        for trainer in self.trainers:
            check_finite(trainer)
            trainer.sums = EpochSums()

    def evaluate_reference(self) -> None:
        """Run ten full networks on every image."""
        batches = self.loader(None, False, reference.EVAL_BATCH)
        reference.evaluate(self.plain, batches, self.device)

    def evaluate_product(self) -> None:
        """Run the trunk once and ten branches, on the pixels of the filled cache."""
        branches = [Columns(slice(i, i + 1), t.branch.eval()) for i, t in enumerate(self.trainers)]
        member = LoadedModel(
            self.spec.name,
            "ovo",
            list("01234"),
            self.preprocessing,
            [TrunkGroup(self.backbone.trunk, branches)],
            np.ones(len(branches)),
        )
        predict_logits(member, self.cache, self.device, self.precision)

    def evaluate_cold(self) -> None:
        """Fill an empty cache first."""
        self.fill_product()
        self.evaluate_product()

    def decode_reference(self) -> None:
        """Decode every image four times, as an epoch of ten pairs does."""
        for pair in PAIRS:
            for _ in self.loader(pair, False, self.config.batch_size):
                pass

    def fill_product(self) -> None:
        """Fill an empty cache."""
        with tempfile.TemporaryDirectory() as folder:
            open_cache(self.split, self.preprocessing, Path(folder), self.workers)

    def data_share(self) -> float:
        """Return the time that fetching pixels takes in a later epoch, as a share of it."""
        pixels = self.context.train_pixels
        size = chunk_size(self.device)
        wait_for(self.device)
        started = time.perf_counter()
        for start in range(0, len(self.split), size):
            pixels(np.arange(start, min(start + size, len(self.split))))
        wait_for(self.device)
        reading = time.perf_counter() - started
        started = time.perf_counter()
        self.train_product()
        wait_for(self.device)
        return reading / (time.perf_counter() - started)

    def flops_per_sample(self) -> float:
        """Count the operations of one pair-sample's training in the product, trunk shared by 4.

        A backward pass is taken for two forward passes: the counter is wrong about the gradients of
        depthwise convolutions.
        """
        pixels = np.zeros(
            (1, self.preprocessing.img_size, self.preprocessing.img_size, 3), dtype=np.uint8
        )
        top = self.trainers[0].branch
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as of_trunk:
            features = trunk_features(
                self.backbone.trunk, pixels, self.preprocessing, self.device, self.precision
            )
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as of_top:
            top(features.float())
        share = of_trunk.get_total_flops() / chunk_size(self.device) / 4
        return share + 3 * of_top.get_total_flops()


def measure(name: str, root: Path, device: torch.device, repeats: int, workers: int) -> ModelSpeed:
    """Measure everything for one backbone."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    log(f"{name}: measuring")
    bench = Bench(name, root, device, workers)
    bench.prepare_product()
    bench.train_product()
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0
    data_share = bench.data_share()
    bench.prepare_reference()

    def speed(title: str, slow: Callable[[], None], fast: Callable[[], None], amount: int) -> Speed:
        found = compare(slow, fast, amount, repeats, device)
        bench.end_workers()
        log(f"{name}: {title} {found.ratio:.2f}x")
        return found

    count = len(bench.split)
    training = speed("training", bench.train_reference, bench.train_product, 4 * count)
    evaluation = speed("evaluation", bench.evaluate_reference, bench.evaluate_product, count)
    decoding = speed("decoding", bench.decode_reference, bench.fill_product, count)
    flops = bench.flops_per_sample() * training.product_per_second
    if device.type == "cuda":  # a real dataset keeps more pixels there than this one
        peak_gb = peak + MAX_RESIDENT_BYTES / 1e9
    else:
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return ModelSpeed(
        precision=bench.precision,
        img_size=bench.preprocessing.img_size,
        data_share=data_share,
        training=training,
        evaluation=evaluation,
        cold=cold_evaluation(bench, evaluation.reference_per_second, repeats),
        decoding=decoding,
        training_flops=flops,
        share_of_ceiling=flops / matmul_ceiling(device, bench.precision),
        peak_gb=peak_gb,
    )


def cold_evaluation(bench: Bench, reference_speed: float, repeats: int) -> Speed:
    """Measure the product's evaluation from an empty cache against the reference's, in images/s."""
    seconds = interleave({"product": bench.evaluate_cold}, repeats, bench.device)["product"]
    speeds = [len(bench.split) / s for s in seconds]
    return Speed(
        reference_per_second=reference_speed,
        product_per_second=statistics.median(speeds),
        ratio=statistics.median(speeds) / reference_speed,
        ratio_low=min(speeds) / reference_speed,
        ratio_high=max(speeds) / reference_speed,
    )


def measure_ensemble(
    names: list[str], root: Path, device: torch.device, repeats: int, workers: int
) -> EnsembleSpeed:
    """Measure the evaluation of several models with ten pairs each, one model after the other.

    To fit into memory each model holds one classifier that is run ten times, in both forms.
    """
    benches = [Bench(name, root, device, workers) for name in names]
    for bench in benches:
        one = build_trainer(bench.context, pair_head(PAIRS[0]))
        bench.trainers = [one] * len(PAIRS)
        bench.plain = [bench.reference_of(one)] * len(PAIRS)

    def evaluate_references() -> None:
        for bench in benches:
            bench.evaluate_reference()

    def evaluate_products() -> None:
        for bench in benches:
            bench.evaluate_product()

    count = len(benches[0].split)
    found = compare(evaluate_references, evaluate_products, count, repeats, device)
    log(f"evaluation of {len(benches)} models {found.ratio:.2f}x")
    return EnsembleSpeed(**asdict(found), names=names)


def whole_chunks(root: Path, device: torch.device) -> None:
    """Leave as many images as fill the trunk's batches, as nearly all of a real dataset do."""
    paths = sorted((root / "train").rglob("*.jpg"), key=lambda path: path.name[::-1])
    chunk = chunk_size(device)
    if len(paths) < chunk:
        raise InputError(f"--images: expected {chunk} images or more in all, found {len(paths)}")
    for path in paths[: len(paths) % chunk]:
        path.unlink()


def in_own_process(work: Callable[..., Any], *inputs: Any) -> Any:
    """Run a measurement in a fresh process, whose memory and workers end with it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *inputs).result()
        except BrokenProcessPool as error:
            raise InputError(
                "the process that measures was killed (out of memory?); try fewer --images"
            ) from error


def processor(device: torch.device) -> str:
    """Name the processor and its cores, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def begin_section(args: argparse.Namespace, device: torch.device) -> SpeedSection:
    """Return what was measured before under the same conditions, to be added to, or nothing yet."""
    section = SpeedSection(
        versions=versions(),
        processor=processor(device),
        command=f"python -m benchmarks.run --device {device.type} --images {args.images} "
        f"--size {args.size} --repeats {args.repeats} --workers {args.workers}",
    )
    before = results.load(args.output_dir).speed.get(device.type)
    conditions = (section.versions, section.processor, section.command)
    if before and (before.versions, before.processor, before.command) == conditions:
        return before
    return section


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure every backbone, then the ensemble, and write what there is after each."""
    args = parse_args(argv)
    device, workers = select_device(args.device), worker_count(args.workers)
    args.images = args.images or (64 if device.type == "cuda" else 7)
    section = begin_section(args, device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, {"train": args.images}, 0, args.size)
        whole_chunks(root, device)
        for name in args.base_models:
            found = in_own_process(measure, name, root, device, args.repeats, workers)
            section.models[name] = found
            report.write(args.output_dir, results.store(args.output_dir, device.type, section))
        if args.ensemble:
            names = args.ensemble
            found = in_own_process(measure_ensemble, names, root, device, args.repeats, workers)
            section.seven = found
            report.write(args.output_dir, results.store(args.output_dir, device.type, section))
    print((args.output_dir / "RESULTS.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
