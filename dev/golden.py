#!/usr/bin/env python3
"""Measure what must stay the same to the last bit when the code is rearranged.

    python -m dev.golden --write     # after a change that is meant to move a number

Trains the ten pairs of demo_convnext and the one pair of a two-grade tf_efficientnet_lite0 for two
epochs on drawn pictures (CPU, fp32, one thread) through the command line, evaluates both, and
hashes the weights, metrics_test.json (times, versions, places and words aside) and the arrays of
predictions_test.npz. `tests/test_golden.py` compares that with `tests/golden.json`.
"""

from common.cli import Parser, guarded

import contextlib
import hashlib
import importlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden.json"
_TRAINING = (
    "--no_pretrained --epochs 2 --warmup_epochs 1 --batch_size 2 --gradient_accumulation_steps 2 "
    "--learning_rate 1e-3 --seed 7 --device cpu --precision fp32"
)
_EVALUATION = "--device cpu --precision fp32 --resamples 200"
# name -> flags of its training; one has a frozen trunk, the other trains batch statistics
_MODELS = {
    "demo_convnext": "--base_models demo_convnext --freeze_weights true",
    "tf_efficientnet_lite0": "--base_models tf_efficientnet_lite0 --freeze_weights false "
    "--num_classes 2 --img_size 64",
}
# what differs between two runs of one code: when, where, how fast, and with which files
_VOLATILE = ("cost", "origin", "dataset_path")
_WORDS = ("bootstrap", "holdout", "undefined", "referable", "scored_classes", "of_model")


def conditions() -> dict[str, str]:
    """Name what the bits of a result depend on beside the code."""
    import timm
    import torch

    fields = [line.partition(":")[::2] for line in Path("/proc/cpuinfo").read_text().splitlines()]
    cpu = {name.strip(): value.strip() for name, value in fields}
    flags = hashlib.sha256(" ".join(sorted(cpu.get("flags", "").split())).encode()).hexdigest()[:8]
    return {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "processor": f"{cpu.get('model name', '')}, flags {flags}",
    }


def measure(folder: Path) -> dict[str, dict[str, str]]:
    """Train and evaluate both models in an empty folder; returns model -> what -> SHA-256."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return _measure(folder)
    finally:
        torch.set_num_threads(threads)


def _measure(folder: Path) -> dict[str, dict[str, str]]:
    _draw(folder / "five", range(5))
    _draw(folder / "two", range(2))
    found = {}
    for name, flags in _MODELS.items():
        data, output = folder / ("two" if "lite0" in name else "five"), folder / name
        shared = ["--dataset_path", str(data), "--cache_dir", str(folder / "cache")]
        _run("train_ovo.py", f"{flags} {_TRAINING}", "--output_dir", output, *shared)
        places = ["--results_dirs", str(output), "--output_dir", str(folder / "ensemble")]
        _run("evaluate_ensemble.py", _EVALUATION, *places, *shared)
        found[name] = {
            "weights": hash_weights(output / "models"),
            "metrics": hash_metrics(output / "results" / "metrics_test.json"),
            "predictions": hash_arrays(output / "results" / "predictions_test.npz"),
        }
    return found


def hash_weights(folder: Path) -> str:
    """Hash names, types, shapes and bits of all tensors in a folder of classifiers."""
    import torch

    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.pth")):
        content = torch.load(path, map_location="cpu", weights_only=True)
        for part in ("trunk", "top", "classifier"):
            for key, tensor in sorted(content[part].items()):
                digest.update(f"{path.name} {part} {key} {tensor.dtype} {tensor.shape}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def hash_metrics(path: Path) -> str:
    """Hash an evaluation's numbers without what changes from run to run, or is words."""
    content: dict[str, Any] = json.loads(path.read_text())
    lasting = {key: value for key, value in content.items() if key not in _VOLATILE + _WORDS}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def hash_arrays(path: Path) -> str:
    """Hash the arrays of stored predictions, in the order of their names."""
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as file:
        for name in sorted(set(file.files) - {"details"}):
            digest.update(f"{name} {file[name].dtype} {file[name].shape}".encode())
            digest.update(np.ascontiguousarray(file[name]).tobytes())
    return digest.hexdigest()


def _draw(root: Path, grades: range) -> None:
    """Draw a small dataset; of two grades, the mildest two are kept."""
    _run("prepare_dataset.py", "demo --train 8 --val 4 --test 4 --size 96", root)
    for split in ("train", "val", "test"):
        for folder in (root / split).iterdir():
            if int(folder.name) not in grades:
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


def _run(script: str, flags: str, *words: str | Path) -> None:
    """Call a script's main with a command line, in this process: to start one takes seconds."""
    command = [*flags.split(), *map(str, words)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = importlib.import_module(script.removesuffix(".py")).main(command)
    if status:
        raise RuntimeError(f"{script} {' '.join(command)} ended with {status}: {said.getvalue()}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """Print the hashes, and keep them as the golden ones if asked."""
    parser = Parser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"into {GOLDEN.relative_to(ROOT)}")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    text = json.dumps({"conditions": conditions(), "hashes": found}, indent=2) + "\n"
    if args.write:
        GOLDEN.write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
