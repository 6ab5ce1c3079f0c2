#!/usr/bin/env python3
"""Measure how much faster the product is than the reference loop, in one process, interleaved.

    python benchmarks/run.py --device cpu

Both work on the same drawn photographs; every number is the median of the repeats, ratios with
their range. Writes benchmarks/RESULTS.md and results.json (one section per device).
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import reference  # noqa: E402

from common.artifacts import ResultDir  # noqa: E402
from common.backbones import build, native_state, preprocessing_for, resolve  # noqa: E402
from common.cli import Parser, guarded  # noqa: E402
from common.config import TrainConfig  # noqa: E402
from common.dataset import Split, open_cache, scan_split  # noqa: E402
from common.inference import Member, predict_logits  # noqa: E402
from common.ovo import trunk_features  # noqa: E402
from common.pairs import class_pairs  # noqa: E402
from common.reporting import format_table  # noqa: E402
from common.runtime import (  # noqa: E402
    log,
    resolve_precision,
    select_device,
    versions,
    write_json,
    write_text,
)
from common.synthetic import write_dataset  # noqa: E402
from common.training import PairTrainer, Setup, train_epoch  # noqa: E402

THREE = ("coatnet", "convnext", "swinv2")
PAIRS = class_pairs(5)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--base_models", nargs="+", default=list(THREE), metavar="MODEL")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=8, help="per grade (default 8)")
    parser.add_argument("--size", type=int, default=768, help="of the photographs (default 768)")
    parser.add_argument("--workers", type=int, default=2, help="of each DataLoader (default 2)")
    parser.add_argument("--output_dir", type=Path, default=HERE)
    return parser.parse_args(argv)


def interleave(works: dict[str, Callable[[], Any]], repeats: int,
               device: torch.device) -> dict[str, list[float]]:  # fmt: skip
    """Time each work once per repeat, in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            synchronise(device)
            started = time.perf_counter()
            work()
            synchronise(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_ceiling(device: torch.device, precision: str) -> float:
    """Measure the FLOP/s of a large matrix product, the best of five."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device).to(kind)
    best = 0.0
    for _ in range(5):
        synchronise(device)
        started = time.perf_counter()
        one @ one
        synchronise(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def compare(works: dict[str, Callable[[], Any]], amount: int, repeats: int,
            device: torch.device) -> dict[str, float]:  # fmt: skip
    """Compare the speeds of "reference" and "product" at the same amount of work."""
    seconds = interleave(works, repeats, device)
    ratios = [r / p for r, p in zip(seconds["reference"], seconds["product"])]
    return {
        "reference_per_second": amount / statistics.median(seconds["reference"]),
        "product_per_second": amount / statistics.median(seconds["product"]),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


class Bench:
    """One backbone in both forms, with the same weights."""

    def __init__(self, name: str, root: Path, device: torch.device, workers: int) -> None:
        self.spec, self.device, self.workers = resolve(name), device, workers
        self.config = TrainConfig(model=self.spec.name, dataset_path=str(root))
        self.settings = preprocessing_for(self.spec, 0, True, 2.0, 8)
        self.precision = resolve_precision("auto", True, device)
        self.split: Split = scan_split(root, "train")
        self.cache = open_cache(self.split, self.settings, root / "cache", workers)
        self.backbone = build(self.spec, self.settings.img_size, False, "", True, 0)
        self.setup = Setup(self.config, self.backbone, self.settings, device, self.precision,
                           self.cache, self.cache, ResultDir(root / "results"), {})  # fmt: skip
        self.trainers = [PairTrainer(self.setup, pair) for pair in PAIRS]
        self.plain = [self._reference(trainer) for trainer in self.trainers]
        self.samples = 4 * len(self.split)

    def _reference(self, trainer: PairTrainer) -> nn.Module:
        size = self.settings.img_size
        model = reference.ReferenceClassifier(self.spec, size, self.config.ovo_dropout)
        frozen = native_state(self.backbone.trunk)
        model.backbone.load_state_dict(frozen | native_state(trainer.top.stages))
        model.freeze(set(frozen))
        return model.to(self.device)

    def train_reference(self) -> None:
        """Train every pair's model for an epoch."""
        for pair, model in zip(PAIRS, self.plain):
            images = reference.PairImages(
                list(self.split.paths), self.split.labels, pair, self.settings, self.config
            )
            batches = reference.loader(images, self.config.batch_size, True, self.workers)
            optimizer = reference.make_optimizer(model, self.config)
            weights = torch.ones(2, device=self.device)
            reference.train(model, iter(batches), optimizer, weights, self.config, self.device)

    def train_product(self) -> None:
        """Train all pairs for an epoch."""
        train_epoch(self.setup, self.trainers, 0)
        for trainer in self.trainers:
            trainer.check_finite()
            trainer._losses, trainer._correct, trainer._seen = [], [], 0

    def evaluate_reference(self) -> None:
        """Run ten full networks on every image."""
        images = reference.PairImages(
            list(self.split.paths), self.split.labels, None, self.settings, None
        )
        batches = reference.loader(images, reference.EVAL_BATCH, False, self.workers)
        reference.evaluate(self.plain, batches, self.device)

    def evaluate_product(self) -> None:
        """Run the trunk once and ten tops."""
        tops = [(slice(i, i + 1), t.top.eval()) for i, t in enumerate(self.trainers)]
        member = Member(self.spec.name, "ovo", list("01234"), self.settings,
                        [(self.backbone.trunk, tops)], np.ones(10), {})  # fmt: skip
        predict_logits(member, self.cache, self.device, self.precision)

    def decode_reference(self) -> None:
        """Decode every image four times, as an epoch of ten pairs does."""
        for pair in PAIRS:
            images = reference.PairImages(
                list(self.split.paths), self.split.labels, pair, self.settings, None
            )
            for _ in reference.loader(images, self.config.batch_size, True, self.workers):
                pass

    def fill_product(self) -> None:
        """Fill an empty cache."""
        with tempfile.TemporaryDirectory() as folder:
            open_cache(self.split, self.settings, Path(folder), self.workers)

    def data_share(self) -> float:
        """Return the time that reading pixels takes in an epoch of the product, as a share."""
        started = time.perf_counter()
        for start in range(0, len(self.split), 16):
            self.cache.read(np.arange(start, min(start + 16, len(self.split))))
        reading = time.perf_counter() - started
        started = time.perf_counter()
        self.train_product()
        synchronise(self.device)
        return reading / (time.perf_counter() - started)

    def flops_per_sample(self) -> float:
        """Count the operations of one pair-sample's training in the product, trunk shared by 4."""
        pixels = np.zeros((1, self.settings.img_size, self.settings.img_size, 3), dtype=np.uint8)
        with FlopCounterMode(display=False) as trunk:
            features = trunk_features(self.backbone.trunk, pixels, self.settings, self.device,
                                      self.precision)  # fmt: skip
        with FlopCounterMode(display=False) as top:
            self.trainers[0].top(features.float()).sum().backward()
        self.trainers[0].optimizer.zero_grad()
        return trunk.get_total_flops() / 16 / 4 + top.get_total_flops()


def measure(
    name: str, root: Path, device: torch.device, args: argparse.Namespace
) -> dict[str, Any]:
    """Measure everything for one backbone."""
    bench = Bench(name, root, device, args.workers)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found: dict[str, Any] = {"precision": bench.precision, "img_size": bench.settings.img_size}
    works = {
        "training": (bench.train_reference, bench.train_product, bench.samples),
        "evaluation": (bench.evaluate_reference, bench.evaluate_product, len(bench.split)),
        "decoding": (bench.decode_reference, bench.fill_product, len(bench.split)),
    }
    for kind, (slow, fast, amount) in works.items():
        log(f"{name}: {kind}")
        both = {"reference": slow, "product": fast}
        found[kind] = compare(both, amount, args.repeats, device)
    found["data_share"] = bench.data_share()
    speed = found["training"]["product_per_second"]
    found["training_flops"] = bench.flops_per_sample() * speed
    found["share_of_ceiling"] = found["training_flops"] / matmul_ceiling(device, bench.precision)
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    else:
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return found


def lay_out(device: str, content: dict[str, Any]) -> str:
    """Write one device's section of RESULTS.md."""
    rows = []
    for name, found in content["models"].items():
        for kind, unit in (("training", "pair-samples/s"), ("evaluation", "images/s"),
                           ("decoding", "images/s")):  # fmt: skip
            entry = found[kind]
            rows.append([
                name, kind, unit, f"{entry['reference_per_second']:.2f}",
                f"{entry['product_per_second']:.2f}", f"{entry['ratio']:.2f}",
                f"{entry['ratio_low']:.2f} to {entry['ratio_high']:.2f}",
            ])  # fmt: skip
    header = ["model", "work", "unit", "reference", "product", "ratio", "range"]
    details = [
        [name, found["precision"], found["img_size"], f"{100 * found['data_share']:.2f} %",
         f"{found['training_flops'] / 1e9:.1f}", f"{100 * found['share_of_ceiling']:.0f} %",
         f"{found['peak_gb']:.1f}"]
        for name, found in content["models"].items()
    ]  # fmt: skip
    columns = ["model", "precision", "px", "reading / step", "training GFLOP/s",
               "of the matrix product's", "peak GB, both loops"]  # fmt: skip
    software = ", ".join(f"{key} {value}" for key, value in content["versions"].items())
    return (
        f"## {device}\n\n{content['date']}; {content['command']}\n\n{software}\n\n"
        f"```\n{format_table(header, rows)}\n\n{format_table(columns, details)}\n```\n"
    )


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure every backbone and write the results."""
    args = parse_args(argv)
    device = select_device(args.device)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, {"train": args.images}, 0, args.size)
        for name in args.base_models:
            found[name] = measure(name, root, device, args)
    content = {
        "date": datetime.now(UTC).date().isoformat(), "models": found, "versions": versions(),
        "command": f"python benchmarks/run.py --device {device.type} --images {args.images} "
                   f"--size {args.size} --repeats {args.repeats}",
    }  # fmt: skip
    path = args.output_dir / "results.json"
    everything = json.loads(path.read_text()) if path.is_file() else {}
    everything[device.type] = content
    write_json(path, everything)
    sections = [lay_out(name, everything[name]) for name in sorted(everything)]
    title = "# Product against reference loop\n\nSee reference.py for what is compared.\n\n"
    write_text(args.output_dir / "RESULTS.md", title + "\n".join(sections))
    print("\n".join(sections))
    return 0


if __name__ == "__main__":
    sys.exit(main())
