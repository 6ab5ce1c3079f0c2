"""The forms of a training without one measure for speed each, and what an epoch takes in them."""

import contextlib
import functools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch

from benchmarks.speed.bench import Bench, build_bench
from benchmarks.speed.goals import LIBRARY_DEPTHWISE
from benchmarks.speed.timing import interleave
from common.models import timm_patches
from common.models.ovo import trunk_output
from common.models.parallel_branches import ParallelBranches
from common.system.environment import worker_count
from common.system.log import log

Form = Callable[[Bench], contextlib.AbstractContextManager[None]]


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
    memory = bench.context.memory
    with mock.patch.multiple(memory, parallel_branches=None, workers=1, at_once=1):
        yield


@contextlib.contextmanager
def in_one_launch(bench: Bench) -> Iterator[None]:
    """Train all pairs in one launch."""
    memory = bench.context.memory
    parallel = memory.parallel_branches or ParallelBranches(bench.trainers[0].branch)
    with mock.patch.multiple(memory, parallel_branches=parallel, workers=1, at_once=1):
        yield


@contextlib.contextmanager
def with_library_modules(bench: Bench) -> Iterator[None]:
    """Attend in the library's fused form, look position biases up and squeeze as it does."""
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
        widened = context.precision == "bf16"
        timm_patches.patch_depthwise(trainer.branch.stages, features, widened)


_LIBRARY_MODULES = "the library's attention and squeezes"
_ONE_BY_ONE = "one pair after the other"
FORMS: dict[str, Form] = {
    "as it is": as_it_is,
    "fp32": in_fp32,
    "micro-batches of 2": in_micro_batches,
    "trunk not in channels_last": with_plain_trunk,
}
OF_DEVICE: dict[str, dict[str, Form]] = {
    "cpu": {
        "AdamW not fused": with_plain_optimizer,
        _LIBRARY_MODULES: with_library_modules,
        LIBRARY_DEPTHWISE: with_library_depthwise,
        _ONE_BY_ONE: pair_by_pair,
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
        forms.pop(_LIBRARY_MODULES, None)
    if bench.context.memory.workers == 1:
        forms.pop(_ONE_BY_ONE, None)
    if not bench.context.channels_last:
        forms.pop(LIBRARY_DEPTHWISE, None)
    works = {title: functools.partial(epoch, form) for title, form in forms.items()}
    seconds = interleave(works, repeats, device)
    own = statistics.median(seconds.pop("as it is"))
    found = {title: statistics.median(taken) / own for title, taken in seconds.items()}
    log(f"{name}: " + ", ".join(f"{title} {factor:.2f}" for title, factor in found.items()))
    return found
