"""What training on many GPUs takes: a model of time and money, and a simulation of the sharing.

    python -m benchmarks.simulate_scaling
    python -m benchmarks.simulate_scaling --images 54000 --gpus 8 --gpu_tflops 120 --price 1.5
    python -m benchmarks.simulate_scaling --spread 0.2 --failures 0.01 --preemptions 0.1
    python -m benchmarks.simulate_scaling --check --write     # measures again; docs/scaling.md

No GPU was measured: what one does each second is an assumption, as all flags are. --check trains
something tiny in 1, 2 and 4 processes and holds the simulation to what they took.
"""

from common.cli import Parser, guarded, whole_number

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cluster.check import CheckPlan, Shared, check
from benchmarks.cluster.model import Assumptions, Estimate, Network, estimate
from benchmarks.cluster.simulation import Troubles
from benchmarks.shared.pages import markdown_table, put_parts, put_section
from common.architectures import stored_architecture
from common.reporting.table import format_table
from common.system.environment import versions
from common.system.errors import InputError
from common.system.files import read_json, write_json
from common.system.log import log

HERE = Path(__file__).parent
FILE = HERE / "scaling.json"
PAGE = HERE.parent / "docs" / "scaling.md"
_PIXELS = {  # of each network of the guide, which set of decoded pixels it takes
    "coatnet": "first",
    "convnext": "first",
    "swinv2": "third",
    "densenet121": "second",
    "efficientnetb2": "first",
    "resnet50": "second",
    "seresnext50": "first",
}
NETWORKS = tuple(
    Network(name, pixels, spec.img_size, spec.frozen_gflop, spec.trained_gflop)
    for name, pixels in _PIXELS.items()
    for spec in (stored_architecture(name),)
)
IMAGES = (54_000, 1_000_000, 100_000_000)
GPUS = (1, 8, 64)
_MOST_GPUS, _MOST_EPOCHS, _MOST_GRADES = 100_000, 10_000, 10  # more take minutes to simulate
_HEADER = (
    "images",
    "GPUs",
    "decoding",
    "training",
    "of it counts",
    "evaluation",
    "GPU hours",
    "money",
    "pixels",
    "read by a GPU",
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    usual, no_trouble = Assumptions(), Troubles()
    parser.add_argument("--images", type=whole_number, nargs="+", default=list(IMAGES), metavar="N")
    parser.add_argument("--gpus", type=whole_number, nargs="+", default=list(GPUS), metavar="G")
    for name, text in (
        ("gpu_tflops", "TFLOP/s that a GPU does in training"),
        ("cores", "cores of a machine for each of its GPUs"),
        ("decoding", "images of 768 px that a core decodes each second"),
        ("epochs", "epochs until every pair has stopped"),
        ("price", "of a GPU hour"),
        ("start", "seconds from a process's start to its first step"),
    ):
        value = getattr(usual, name)
        kind = whole_number if isinstance(value, int) else float
        parser.add_argument(f"--{name}", type=kind, default=value, help=f"{text} ({value})")
    parser.add_argument(
        "--mix", type=float, nargs="+", default=list(usual.mix), help="shares of the grades"
    )
    for name, text in (
        ("spread", "of the processes' speeds: standard deviation of their logarithm"),
        ("failures", "of a process, each hour"),
        ("preemptions", "of a process, each hour"),
        ("requeue", "seconds on average until one that was preempted runs again"),
    ):
        value = getattr(no_trouble, name)
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{text} ({value})")
    parser.add_argument(
        "--together",
        action="store_true",
        help="a failure starts all processes again, as torchrun --max_restarts does",
    )
    parser.add_argument(
        "--by_samples",
        action="store_true",
        help="let all samples count alike, whatever their backbone takes for one",
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of what befalls processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the estimates here, too")
    parser.add_argument("--check", action="store_true", help="measure 1, 2 and 4 processes")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    return parser.parse_args(argv)


def assumptions(args: argparse.Namespace) -> Assumptions:
    """Check what was given. Raises InputError."""
    for name in ("gpu_tflops", "cores", "decoding", "epochs"):
        if not 0 < getattr(args, name) < math.inf:
            raise InputError(f"--{name} {getattr(args, name)}: expected more than 0")
    for name in ("price", "start", "spread", "failures", "preemptions", "requeue"):
        if not 0 <= getattr(args, name) < math.inf:
            raise InputError(f"--{name} {getattr(args, name)}: expected 0 or more")
    if min(*args.images, *args.gpus) < 1:
        raise InputError("--images and --gpus: expected 1 or more")
    for name, numbers, most in (
        ("gpus", args.gpus, _MOST_GPUS),
        ("epochs", [args.epochs], _MOST_EPOCHS),
    ):
        if max(numbers) > most:
            raise InputError(f"--{name} {max(numbers)}: expected {most:,} at most")
    if args.spread > 1:
        raise InputError(
            f"--spread {args.spread:g}: expected 0 to 1, such as 0.1 for speeds that differ by "
            "10 %; at 1 a third of the processes are 2.7 times as fast or as slow as they should be"
        )
    share_out = 2 <= len(args.mix) <= _MOST_GRADES and min(args.mix) > 0
    if not share_out or not abs(sum(args.mix) - 1) <= 0.01:
        raise InputError(f"--mix: expected 2 to {_MOST_GRADES} shares above 0 that add up to 1")
    if args.together and not args.failures:
        raise InputError("--together has no effect without --failures")
    of = {field.name for field in dataclasses.fields(Troubles)}
    troubles = Troubles(**{name: getattr(args, name) for name in of})
    own = {field.name for field in dataclasses.fields(Assumptions)} - {"troubles", "mix"}
    values: dict[str, Any] = {name: getattr(args, name) for name in own}
    return Assumptions(mix=tuple(args.mix), troubles=troubles, **values)


def rows_of(found: Sequence[Estimate]) -> list[list[str]]:
    """Lay out estimates, a row each."""
    return [
        [
            f"{each.images:,}",
            str(each.gpus),
            _hours(each.decoding),
            _hours(each.training),
            f"{each.counting:.0%}",
            _hours(each.evaluation),
            f"{each.gpu_hours:,.0f}",
            f"{each.money:,.0f}",
            _bytes(each.cache),
            f"{_bytes(each.reading)}/s",
        ]
        for each in found
    ]


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def check_rows(found: Sequence[Shared]) -> list[list[str]]:
    """Lay out the runs of the check, a row each."""
    return [
        [
            str(len(run.measured)),
            str(run.threads),
            f"{max(run.measured):.1f} s",
            f"{max(run.predicted):.1f} s" if run.predicted else "-",
            f"{run.error:+.0%}" if run.predicted else "-",
            f"{sum(run.measured):.1f} s",
            f"{sum(run.predicted):.1f} s" if run.predicted else "-",
            f"{run.wall:.1f} s",
        ]
        for run in found
    ]


_CHECK_HEADER = (
    "processes",
    "threads of each",
    "longest, measured",
    "longest, predicted",
    "error",
    "all, measured",
    "all, predicted",
    "on the clock",
)


_TROUBLE_HEADER = ("images", "GPUs", "what befalls them", "training", "of it counts")
_TROUBLES = (
    ("nothing", Troubles(), False),
    ("nothing; shares by samples alone", Troubles(), True),
    ("speeds that differ by 10 %", Troubles(spread=0.1), False),
    ("a failure in 100 hours of each", Troubles(failures=0.01), False),
    (
        "the same, and all start again (torchrun --max_restarts)",
        Troubles(failures=0.01, together=True),
        False,
    ),
    ("preempted each 10 hours, 30 minutes in the queue", Troubles(0.0, 0.0, 0.1, 1800.0), False),
)
_SIMULATIONS = 20


def trouble_rows(given: Assumptions) -> list[list[str]]:
    """Simulate a million images on 8 and 64 GPUs under some troubles, a row each: means of 20."""
    rows = []
    for gpus in (8, 64):
        for title, troubles, by_samples in _TROUBLES:
            own = dataclasses.replace(given, troubles=troubles, by_samples=by_samples)
            found = [estimate(NETWORKS, 1_000_000, gpus, own, seed) for seed in range(_SIMULATIONS)]
            hours = sum(each.training for each in found) / len(found)
            counting = sum(each.counting for each in found) / len(found)
            rows.append(["1,000,000", str(gpus), title, _hours(hours), f"{counting:.0%}"])
    return rows


def measure() -> None:
    """Run the check and keep what it found."""
    plan = CheckPlan()
    found = check(plan)
    section = {
        "plan": plan,
        "runs": found,
        "conditions": {"command": "python -m benchmarks.simulate_scaling --check"} | versions(),
    }
    put_section(FILE, "check", section, "scaling")


def measured() -> list[Shared]:
    """Read what the check found, [] where it has not run."""
    if not FILE.is_file():
        return []
    return [Shared(**run) for run in read_json(FILE)["check"]["runs"]]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print the model's table, and what the check found."""
    args = parse_args(argv)
    given = assumptions(args)
    if args.check:
        measure()
    found = [
        estimate(NETWORKS, images, gpus, given, args.seed)
        for images in args.images
        for gpus in args.gpus
    ]
    rows, runs = rows_of(found), check_rows(measured())
    print(format_table(list(_HEADER), rows))
    print(
        f"\n{len(NETWORKS)} backbones, assumed and not measured: {given.gpu_tflops:g} TFLOP/s of a "
        f"GPU, {given.epochs} epochs, {given.price:g} for a GPU hour"
    )
    if runs:
        print(f"\n{format_table(list(_CHECK_HEADER), runs)}")
    if args.json:
        write_json(args.json, {"assumptions": given, "estimates": found})
        log(f"written: {args.json}")
    if args.write:
        parts = {"model": markdown_table(_HEADER, rows)}
        parts["troubles"] = markdown_table(_TROUBLE_HEADER, trouble_rows(given))
        if runs:
            parts["check"] = markdown_table(_CHECK_HEADER, runs)
        put_parts(PAGE, "scaling", parts, "")
        log(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
