"""Measure the product and the reference loop at training, evaluation and decoding, in turn."""

import resource
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.speed.bench import PAIRS, Bench, build_bench
from benchmarks.speed.results import EnsembleSpeed, ModelSpeed, Speed, today
from benchmarks.speed.timing import compare, interleave, matmul_ceiling
from common.models.ovo import chunk_size
from common.pairs import pair_head
from common.pixels.device_pixels import MAX_RESIDENT_BYTES
from common.system.errors import InputError
from common.system.log import log
from common.training.trainer import build_trainer


def measure(name: str, root: Path, device: torch.device, repeats: int, workers: int) -> ModelSpeed:
    """Measure everything for one backbone."""
    if device.type == "cuda":
        torch.cuda.init()  # which a device with a number does not do by itself
        torch.cuda.reset_peak_memory_stats(device)
    log(f"{name}: measuring")
    bench = build_bench(name, root, device, workers)
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
    of_sample, of_image = bench.flops()
    flops = of_sample * training.product_per_second
    ceiling = matmul_ceiling(device, bench.context.precision)
    if device.type == "cuda":  # a real dataset keeps more pixels there than this one
        peak_gb = peak + MAX_RESIDENT_BYTES / 1e9
    else:
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return ModelSpeed(
        precision=bench.context.precision,
        img_size=bench.context.preprocessing.img_size,
        data_share=data_share,
        training=training,
        evaluation=evaluation,
        cold=cold_evaluation(bench, evaluation.reference_per_second, repeats),
        decoding=decoding,
        training_flops=flops,
        share_of_ceiling=flops / ceiling,
        peak_gb=peak_gb,
        evaluation_share=of_image * evaluation.product_per_second / ceiling,
        date=today(),
    )


def cold_evaluation(bench: Bench, reference_speed: float, repeats: int) -> Speed:
    """Measure the product's evaluation from an empty cache against the reference's, in images/s."""
    seconds = interleave({"product": bench.evaluate_cold}, repeats, bench.context.device)["product"]
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
    benches = [build_bench(name, root, device, workers) for name in names]
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
    return EnsembleSpeed(**asdict(found), names=names, date=today())


def whole_chunks(root: Path, device: torch.device) -> None:
    """Leave as many images as fill the trunk's batches, as nearly all of a real dataset do."""
    paths = sorted((root / "train").rglob("*.jpg"), key=lambda path: path.name[::-1])
    chunk = chunk_size(device)
    if len(paths) < chunk:
        raise InputError(f"--images: expected {chunk} images or more in all, found {len(paths)}")
    for path in paths[: len(paths) % chunk]:
        path.unlink()
