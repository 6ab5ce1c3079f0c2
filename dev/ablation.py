#!/usr/bin/env python3
"""Measure what each measure for speed is worth: an epoch without it, against one with all.

    python -m dev.ablation --device cpu

Works on drawn photographs with ten classifiers from random weights. All forms take turns in one
process; above 1 is the factor by which an epoch is slower in that form. Writes
benchmarks/RESULTS.md.
"""

from common.cli import Parser, guarded

import argparse
import contextlib
import functools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch

from benchmarks import report, results
from benchmarks.bench import Bench, build_bench
from benchmarks.report import THREE
from benchmarks.results import AblationSection
from benchmarks.run import positive
from benchmarks.timing import in_own_process, interleave, processor
from common.data.synthetic import write_dataset
from common.models import timm_patches
from common.models.backbones import resolve
from common.models.ovo import trunk_output
from common.models.parallel_branches import ParallelBranches
from common.system.device import select_device
from common.system.environment import worker_count
from common.system.log import log

Form = Callable[[Bench], contextlib.AbstractContextManager[None]]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--base_models", nargs="+", default=list(THREE), metavar="MODEL")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--images", type=positive, default=4, help="per grade (default 4)")
    parser.add_argument("--output_dir", type=Path, default=results.HERE)
    args = parser.parse_args(argv)
    for name in args.base_models:
        resolve(name)
    return args


@contextlib.contextmanager
def as_it_is(bench: Bench) -> Iterator[None]:
    """Change nothing."""
    yield


@contextlib.contextmanager
def in_fp32(bench: Bench) -> Iterator[None]:
    """Use no autocast."""
    with mock.patch.object(bench.context, "precision", "fp32"):
        yield


@contextlib.contextmanager
def in_micro_batches(bench: Bench) -> Iterator[None]:
    """Cut the effective batch into pieces of `batch_size`."""
    with mock.patch.object(bench.context.memory, "micro_batch", bench.context.config.batch_size):
        yield


@contextlib.contextmanager
def with_plain_trunk(bench: Bench) -> Iterator[None]:
    """Run the frozen stages in the library's memory format."""
    trunk = bench.context.backbone.trunk
    trunk.to(memory_format=torch.contiguous_format)
    with mock.patch.object(torch, "channels_last", torch.contiguous_format):
        yield
    trunk.to(memory_format=torch.channels_last)


@contextlib.contextmanager
def with_plain_optimizer(bench: Bench) -> Iterator[None]:
    """Take AdamW's steps parameter by parameter."""
    for trainer in bench.trainers:
        for group in trainer.optimizer.param_groups:
            group["fused"] = group["foreach"] = False
    yield
    for trainer in bench.trainers:
        for group in trainer.optimizer.param_groups:
            group["fused"], group["foreach"] = True, None


@contextlib.contextmanager
def pair_by_pair(bench: Bench) -> Iterator[None]:
    """Train one pair after the other."""
    with mock.patch.object(bench.context.memory, "parallel_branches", None):
        yield


@contextlib.contextmanager
def in_one_launch(bench: Bench) -> Iterator[None]:
    """Train all pairs in one launch."""
    parallel = bench.context.memory.parallel_branches or ParallelBranches(bench.trainers[0].branch)
    with mock.patch.object(bench.context.memory, "parallel_branches", parallel):
        yield


@contextlib.contextmanager
def with_library_attention(bench: Bench) -> Iterator[None]:
    """Look position biases up as the library does, and attend in its fused form."""
    for trainer in bench.trainers:
        timm_patches.restore(trainer.branch)
    yield
    for trainer in bench.trainers:
        timm_patches.apply(trainer.branch)


@contextlib.contextmanager
def with_library_depthwise(bench: Bench) -> Iterator[None]:
    """Leave the gradients of depthwise convolutions, and the memory format, to the library."""
    context, size = bench.context, bench.context.preprocessing.img_size
    for trainer in bench.trainers:
        timm_patches.restore_depthwise(trainer.branch)
    with mock.patch.object(context, "channels_last", False):
        yield
    for trainer in bench.trainers:
        features = trunk_output(context.backbone.trunk, size)
        timm_patches.patch_depthwise(trainer.branch.stages, features)


FORMS: dict[str, Form] = {
    "as it is": as_it_is,
    "fp32": in_fp32,
    "micro-batches of 2": in_micro_batches,
    "trunk not in channels_last": with_plain_trunk,
}
OF_DEVICE: dict[str, dict[str, Form]] = {
    "cpu": {
        "AdamW not fused": with_plain_optimizer,
        "the library's attention": with_library_attention,
        "the library's depthwise gradients": with_library_depthwise,
        "all pairs in one launch": in_one_launch,
    },
    "cuda": {"one launch per pair": pair_by_pair, "all pairs in one launch": in_one_launch},
}


def measure(name: str, root: Path, device: torch.device, repeats: int) -> dict[str, float]:
    """Return each form's median seconds for an epoch, over those of the product as it is."""
    bench = build_bench(name, root, device, worker_count(4))
    bench.prepare_product()

    def epoch(form: Form) -> None:
        with form(bench):
            bench.train_product()

    forms = FORMS | OF_DEVICE[device.type]
    if not timm_patches.is_patched(bench.context.backbone.stages):
        forms.pop("the library's attention", None)
    if not bench.context.channels_last:
        forms.pop("the library's depthwise gradients", None)
    works = {title: functools.partial(epoch, form) for title, form in forms.items()}
    seconds = interleave(works, repeats, device)
    own = statistics.median(seconds.pop("as it is"))
    found = {title: statistics.median(taken) / own for title, taken in seconds.items()}
    log(f"{name}: " + ", ".join(f"{title} {factor:.2f}" for title, factor in found.items()))
    return found


def begin_section(args: argparse.Namespace, device: torch.device) -> AblationSection:
    """Return what was measured before under the same conditions, to be added to, or nothing yet."""
    section = AblationSection(
        processor=processor(device),
        command=f"python -m dev.ablation --device {device.type} --images {args.images} "
        f"--repeats {args.repeats}",
    )
    before = results.load(args.output_dir).ablation.get(device.type)
    if before and (before.processor, before.command) == (section.processor, section.command):
        return before
    return section


@guarded
def main(argv: list[str] | None = None) -> int:
    """Measure every backbone and write the results."""
    args = parse_args(argv)
    device = select_device(args.device)
    key = results.ablation_key(device.type)
    section = begin_section(args, device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, {"train": args.images}, 0, 768)
        for model in args.base_models:
            section.models[model] = in_own_process(measure, model, root, device, args.repeats)
            report.write(args.output_dir, results.store(args.output_dir, key, section))
    print((args.output_dir / "RESULTS.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
