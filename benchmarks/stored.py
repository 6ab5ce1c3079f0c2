#!/usr/bin/env python3
"""Measure what runs no network: --help, refusals, and what reads stored predictions.

    python -m benchmarks.stored --images 10000 --models 7

Each command runs in a process of its own, on one thread. Its processor time does not depend on what
else runs on the machine, or hardly. Writes benchmarks/RESULTS.md and results.json.
"""

from common.cli import Parser, folder, guarded, whole_number

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.many_images.process_use import run_command
from benchmarks.speed import report, results
from benchmarks.speed.results import Spent, StoredSection
from benchmarks.speed.timing import processor
from common.system.errors import InputError
from common.system.log import log

ROOT = Path(__file__).parents[1]
_ANALYSES = (
    "compare_models.py",
    "analyze_ensemble_diversity.py",
    "analyze_per_class_strengths.py",
)
_REFUSED = {  # what model_analyzer.py is given as a classifier, under the root
    "a file that is not there": "none.pth",
    "a file that is no classifier": "README.md",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--images", type=whole_number, default=10_000, help="(default 10000)")
    parser.add_argument("--models", type=whole_number, default=7, help="(default 7)")
    parser.add_argument("--resamples", type=whole_number, default=1000, help="(default 1000)")
    parser.add_argument("--output_dir", type=folder, default=results.HERE)
    args = parser.parse_args(argv)
    if args.images < 500 or args.models < 2:
        raise InputError("expected 500 or more images and two or more models")
    return args


def commands() -> dict[str, list[str]]:
    """List what has a --help: the scripts, and the tools of benchmarks/ and dev/."""
    scripts = [path.name for path in sorted(ROOT.glob("*.py"))]
    tools = [
        f"{path.parent.name}.{path.stem}"
        for folder in ("benchmarks", "dev")
        for path in sorted((ROOT / folder).glob("*.py"))
        if "def main(" in path.read_text()
    ]
    return {name: [name] for name in scripts} | {f"-m {name}": ["-m", name] for name in tools}


def spend(*words: str, status: int = 0) -> Spent:
    """Run Python with some words and say what it took; InputError on another exit status."""
    used = run_command(words, ROOT, status)
    return Spent(used.processor_seconds, used.wall_seconds)


def measure_helps() -> dict[str, Spent]:
    """Ask each command for its help, each a second time, when it is compiled and read."""
    found = {}
    for name, words in commands().items():
        spend(*words, "--help")
        found[name] = spend(*words, "--help")
    return found


def measure_refusals() -> dict[str, Spent]:
    """Give model_analyzer.py what is no classifier."""
    return {
        title: spend("model_analyzer.py", "--model", name, status=2)
        for title, name in _REFUSED.items()
    }


def measure_scripts(root: Path, models: list[Path], resamples: int) -> dict[str, Spent]:
    """Evaluate and analyse stored predictions, each a second time, when all pictures are known."""
    given = ["--results_dirs", *map(str, models), "--resamples", str(resamples)]
    evaluate = [*given, "--dataset_path", str(root / "dataset"), "--cache_dir", str(root / "cache")]
    evaluate += ["--output_dir", str(root / "ensemble"), "--device", "cpu", "--precision", "fp32"]
    evaluate += ["--holdout_check", "names"]  # comparing all pictures once takes far longer
    reading = {"evaluate_ensemble.py": evaluate}
    reading |= {name: [*given, "--output_dir", str(root / name[:-3])] for name in _ANALYSES}
    found = {}
    for name, words in reading.items():
        spend(name, *words)
        found[name] = spend(name, *words)
        log(f"{name}: {found[name].processor_seconds:.1f} s of the processor")
    return found


@guarded
def main(argv: list[str] | None = None) -> int:
    """Time flags and refusals, then what reads stored predictions, and lay the results out."""
    args = parse_args(argv)
    import torch

    from benchmarks.many_images.stored_predictions import write_dataset_and_models

    helps, refusals = measure_helps(), measure_refusals()
    with tempfile.TemporaryDirectory() as place:
        models = write_dataset_and_models(Path(place), args.images, args.models)
        scripts = measure_scripts(Path(place), models, args.resamples)
    section = StoredSection(
        command=f"python -m benchmarks.stored --images {args.images} --models {args.models} "
        f"--resamples {args.resamples}",
        processor=processor(torch.device("cpu")),
        images=args.images,
        models=args.models,
        resamples=args.resamples,
        helps=helps,
        scripts=scripts,
        refusals=refusals,
    )
    print(report.write(args.output_dir, results.store(args.output_dir, results.STORED, section)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
