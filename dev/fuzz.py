#!/usr/bin/env python3
"""Feed mutated files and flags to everything that reads what strangers have made.

    python -m dev.fuzz --count 20000

A valid seed is flipped, cut, spliced or grown, or hypothesis makes the value. Whatever is tried
must end within seconds in a result or in the error that its reader promises, and must write
nothing outside its folder. Prints inputs, refusals and failures of each target; exit 1 on any
failure, whose input is kept in --keep. With --atheris TARGET that target runs under atheris
instead, where it is installed.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from PIL import Image

import analyze_ensemble_diversity
import compare_models
import evaluate_ensemble
import model_analyzer
import prepare_dataset
from common import cli, result_dir
from common.config import TrainConfig
from common.data.preprocessing import ImageError, Preprocessing, load_pixels
from common.data.synthetic import draw_fundus
from common.models import checkpoint, checkpoint_file
from common.models.checkpoint import HISTORY_COLUMNS, load_pair, restore_pair
from common.prediction import predictions, verification
from common.result_dir import ResultDir
from common.system.errors import InputError
from common.training.context import Fingerprints
from common.training.resume import start_or_continue

SECONDS = 20  # a single input may take, on a machine that does other things as well
Attack = Callable[[random.Random], bytes]
_DETAILS = {
    "model": "resnet50",
    "class_names": list("01234"),
    "head": "ovo",
    "cost": {"parameters": 1, "gflops": 1.0, "images_per_second": 1.0, "device": "cpu"},
    "origin": {"checkpoints": "x", "data": "y", "precision": "fp32"},
    "vote": "soft",
    "temperature": 1.5,
    "weights": [1.0],
}
REFUSED = (InputError, ImageError, SystemExit)


class Hang(BaseException):
    """An input took too long."""


# -- mutations ---------------------------------------------------------------------------------


def mutate(seeds: list[bytes], rng: random.Random) -> bytes:
    """Change a seed in one to four ways."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, at = rng.randrange(8), rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 16, 64, 500))
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        elif kind == 5:
            data[at:at] = rng.randbytes(length)
        elif kind == 6:
            data[at:at] = data[at : at + length] * rng.randrange(1, 4)
        else:
            number = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63))
            data[at : at + 8] = number.to_bytes(8, rng.choice(("little", "big")))
    return bytes(data)


# -- targets: each maker returns seeds and what reads one input in a folder --------------------

SETTINGS = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def image_target(_: Path) -> tuple[list[bytes], Callable[[bytes, Path], None]]:
    """Small pictures of every kind that is read."""
    seeds = []
    eye = Image.fromarray(draw_fundus(3, np.random.default_rng(0), 64))
    for mode, kind, options in (
        ("RGB", "JPEG", {}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {"progressive": True}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("I;16", "PNG", {}),
        ("1", "PNG", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "jpeg"}),
        ("L", "BMP", {}),
        ("RGB", "BMP", {}),
    ):
        grey = np.asarray(eye.convert("L")).astype(np.uint16) * 257
        picture = Image.fromarray(grey) if mode == "I;16" else eye.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options, **({"exif": exif} if kind == "JPEG" else {}))
        seeds.append(buffer.getvalue())

    def read(data: bytes, folder: Path) -> None:
        (folder / "eye.png").write_bytes(data)
        pixels = load_pixels(folder / "eye.png", SETTINGS)
        assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8

    return seeds, read


def tiny_pair() -> dict[str, Any]:
    """The content of a pair's file with a few weights."""
    numbers = dict.fromkeys(set(HISTORY_COLUMNS) - {"pair", "epoch"}, 0.9)
    row = {"pair": "0-1", "epoch": 1, **numbers}
    return {
        "format": "ovo-pair-1",
        "model": "demo_convnext",
        "pair": [0, 1],
        "preprocessing": {"img_size": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
        "trunk": {"stem.weight": torch.arange(8.0)},
        "top": {"norm.bias": torch.ones(3)},
        "classifier": {"weight": torch.ones(1, 4), "bias": torch.zeros(1)},
        "parameters": {"frozen": 8, "trainable": 8},
        "class_names": list("01234"),
        "best_epoch": 1,
        "complete": True,
        "metrics": row,
        "history": [row],
    }


def checkpoint_target(_: Path) -> tuple[list[bytes], Callable[[bytes, Path], None]]:
    """Pair files with and without checksum, of the earlier trainer, and in the old container."""
    content = tiny_pair()
    earlier = {
        "model_state_dict": {"backbone.w": torch.ones(2), "classifier.1.w": torch.ones(2)},
        "class_pair": (0, 1),
        "model_name": "resnet50",
        "best_val_accuracy": 91.0,
        "config": {"data": {"img_size": 224}},
    }
    seeds = [bytes(checkpoint_file.pack_checkpoint(content))]
    for item, new in ((content, True), (content, False), (earlier, True), (earlier, False)):
        buffer = io.BytesIO()
        torch.save(item, buffer, _use_new_zipfile_serialization=new)
        seeds.append(buffer.getvalue())

    def read(data: bytes, folder: Path) -> None:
        path = folder / "best_demo_convnext_0_1.pth"
        path.write_bytes(data)
        model_analyzer.analyse(path)
        loaded = load_pair(path)
        if not loaded.of_earlier_trainer:  # building a large network takes too long here
            restore_pair(loaded, "x")

    return seeds, read


def config_target(folder: Path) -> tuple[list[bytes], Callable[[bytes, Path], None]]:
    """config.json, as evaluation finds a run by it and as training continues it."""
    config = TrainConfig(model="demo_convnext", class_names=("a", "b", "c", "d", "e"))
    content = {
        "config": config.to_dict(),
        "data": {"train": "0", "val": "1"},
        "seed": 42,
        "initial_weights": "x",
        "precision": "fp32",
        "synthetic": False,
    }
    seeds = [
        json.dumps(content).encode(),
        json.dumps(content, indent=2).encode(),
        b'{"config": {"num_classes": 1e999, "class_names": ["../../x", null]}}',
        b'{"config": {"num_classes": -5, "head": [], "dataset_path": "/no"}}',
    ]
    fingerprints = Fingerprints({"train": "a", "val": "b"}, "c", "fp32", synthetic=False)
    models = folder / "seeds" / "models"
    models.mkdir(parents=True)
    for a in range(5):
        for b in range(a + 1, 5):
            (models / f"best_demo_convnext_{a}_{b}.pth").write_bytes(b"")

    def read(data: bytes, folder: Path) -> None:
        directory = ResultDir(folder)
        if not directory.models.exists():
            shutil.copytree(models, directory.models)
        directory.config.write_bytes(data)
        with contextlib.suppress(InputError):
            result_dir.find_run(directory)
        start_or_continue(directory, config, fingerprints, True, False)

    return seeds, read


def predictions_target(_: Path) -> tuple[list[bytes], Callable[[bytes, Path], None]]:
    """Stored predictions, packed and plain."""
    rng = np.random.default_rng(0)
    arrays = {
        "ids": np.array([f"{i}.jpg" for i in range(6)]),
        "targets": np.arange(6) % 5,
        "pair_probabilities": rng.random((6, 10)),
        "pair_val_accuracies": np.ones(10),
        "class_probabilities": rng.random((6, 5)),
        "predictions": np.arange(6),
    }
    seeds = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, details=np.array(json.dumps(_DETAILS)), **arrays)
        seeds.append(buffer.getvalue())

    def read(data: bytes, folder: Path) -> None:
        path = folder / "predictions_test.npz"
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            result_dir.read_predictions(path)
        found = predictions.load_predictions(path)
        if found is None:
            raise InputError("not usable")
        file = verification.PredictionsFile.read(path)
        verification.compare(file, found, found)
        verification.compare_ensemble(file, [file])

    return seeds, read


def flags_target(_: Path) -> tuple[list[bytes], Callable[[bytes, Path], None]]:
    """Command lines of the scripts, as far as parsing and finding files goes."""
    lines = [
        "train --base_models convnext --epochs 3 --learning_rate 1e-3 --pairs 0-1 2-3",
        "train --base_models coatnet swinv2 --weights coatnet=a.pth swinv2=b.pth --resume",
        "train --base_models convnext --class_names a b c d e --num_classes 5 --override",
        "train --base_models convnext_tiny./../../x --no_pretrained --seed 1 --img_size 64",
        "evaluate --results_dirs a b --dataset_path x --weights 0.5 0.5 --prevalence 0.2,0.8",
        "evaluate --base_models resnet50 --split val --vote hard --resamples 5 --verify",
        "analyse --model a.pth ../b --output_dir out",
        "compare --models resnet50 --results_dirs a --output_dir out --seed 3",
        "diversity --models coatnet --split val --resamples 10 --patient_regex (",
        "prepare cache data --base_models convnext --splits val --clahe_clip_limit 2",
        "prepare demo out --train -1 --size 64",
    ]
    scripts = {
        "train": lambda words: cli.parse_training(words, "x"),
        "evaluate": evaluate_ensemble.main,
        "analyse": model_analyzer.main,
        "compare": compare_models.main,
        "diversity": analyze_ensemble_diversity.main,
        "prepare": prepare_dataset.main,
    }
    numbers = ("nan", "inf", "-1", "0", "1e999", "9" * 400, "", "../x", "\x00", "é\udcff", "0x10")

    def read(data: bytes, folder: Path) -> None:
        rng = random.Random(data)
        text = data.decode("utf-8", "surrogateescape")
        script, *words = text.split(" ") if " " in text else ("train", text)
        if words and rng.random() < 0.5:
            words[rng.randrange(len(words))] = rng.choice(numbers)
        with contextlib.chdir(folder):
            # a demo of a million images is a fair wish, but not here
            if script == "prepare" and "demo" in words:
                prepare_dataset.parse_args(words)
            else:
                scripts.get(script, scripts["train"])(words)

    return [line.encode() for line in lines], read


TARGETS = {
    "images": image_target,
    "checkpoints": checkpoint_target,
    "config": config_target,
    "predictions": predictions_target,
    "flags": flags_target,
}


# -- structured inputs of hypothesis -----------------------------------------------------------

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def structured(name: str) -> st.SearchStrategy[bytes] | None:
    """Make valid containers with odd values inside, which mutated bytes seldom reach."""
    if name == "config":
        names = st.sampled_from(sorted(TrainConfig().to_dict()))
        configs = st.dictionaries(names, _JSON, max_size=6)
        outer = st.fixed_dictionaries({"config": configs | _JSON}, optional={"data": _JSON})
        return outer.map(lambda value: json.dumps(value).encode())
    if name == "checkpoints":
        keys = st.sampled_from(sorted(tiny_pair()))
        pixels = st.dictionaries(
            st.sampled_from(["img_size", "mean", "std", "clahe_clip_limit", "enable_clahe"]),
            st.integers() | st.floats() | st.lists(st.floats(), min_size=3, max_size=3),
        ).map(lambda value: {"preprocessing": {**tiny_pair()["preprocessing"], **value}})
        odd = st.dictionaries(keys, _JSON, min_size=1, max_size=3) | pixels
        return odd.map(_odd_pair)
    if name == "predictions":
        keys = st.sampled_from(["model", "class_names", "head", "cost", "origin", "ids"])
        return st.dictionaries(keys, _JSON, min_size=1, max_size=3).map(_odd_predictions)
    return None


def _odd_pair(changes: dict[str, Any]) -> bytes:
    return bytes(checkpoint_file.pack_checkpoint({**tiny_pair(), **changes}))


def _odd_predictions(changes: dict[str, Any]) -> bytes:
    arrays = {
        "ids": np.array(["a"]),
        "targets": np.array([0]),
        "pair_probabilities": np.full((1, 10), 0.5),
        "pair_val_accuracies": np.ones(10),
    }
    buffer = io.BytesIO()
    np.savez(buffer, details=np.array(json.dumps({**_DETAILS, **changes})), **arrays)
    return buffer.getvalue()


# -- the campaign ------------------------------------------------------------------------------


class Judge:
    """Runs inputs of one target in a folder and counts what became of them."""

    def __init__(self, name: str, folder: Path, keep: Path | None) -> None:
        self.name, self.keep = name, keep
        self.outside, self.inside = folder / name, folder / name / "in"
        self.outside.mkdir(parents=True)
        self.seeds, self.read = TARGETS[name](self.outside)
        self.reset()
        self.known = self.surroundings()
        self.count = self.refused = 0
        self.failures: list[str] = []

    def reset(self) -> None:
        """Start with an empty folder."""
        shutil.rmtree(self.inside, ignore_errors=True)
        self.inside.mkdir()

    def surroundings(self) -> set[str]:
        """List what lies around the folder, two levels up."""
        return {str(p) for p in self.outside.parent.rglob("*") if self.inside not in p.parents}

    def apply_vote(self, data: bytes) -> None:
        """Try one input."""
        self.count += 1
        said = io.StringIO()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with (
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                status = self.read(data, self.inside)
            self.refused += bool(status)
        except REFUSED as error:
            self.refused += 1
            if isinstance(error, InputError | ImageError) and not str(error):
                self.fail(data, "an error without words")
        except (Exception, Hang):
            self.fail(data, traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def fail(self, data: bytes, reason: str) -> None:
        """Record a failure and keep its input."""
        self.failures.append(reason)
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{self.name}_{len(self.failures)}.bin").write_bytes(data)

    def run(self, count: int, number: int) -> None:
        """Try `count` inputs: nine tenths mutated, the rest made by hypothesis where it can."""
        rng = random.Random(f"{self.name} {number}")
        strategy = structured(self.name)
        made = count // 5 if strategy is not None else 0
        for n in range(count - made):
            self.apply_vote(mutate(self.seeds, rng))
            if n % 500 == 499:
                self.look_around()
        if made:
            self.run_hypothesis(strategy, made, number)
        self.look_around()

    def run_hypothesis(self, strategy: Any, count: int, number: int) -> None:
        """Try inputs that hypothesis makes."""

        @hypothesis_seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def attempt(data: bytes) -> None:
            self.apply_vote(data)

        attempt()

    def look_around(self) -> None:
        """Fail if something was written outside the folder."""
        for path in sorted(self.surroundings() - self.known):
            self.failures.append(f"written outside the folder: {path}")
        self.known = self.surroundings()
        self.reset()


def on_alarm(*_: Any) -> None:
    """End an input that takes too long."""
    raise Hang(f"more than {SECONDS} s")


def campaign(
    names: list[str], count: int, number: int, keep: Path | None = None
) -> dict[str, Judge]:
    """Try `count` inputs on each target; returns what became of them."""
    before = signal.signal(signal.SIGALRM, on_alarm)
    judged = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                started = time.monotonic()
                judge = judged[name] = Judge(name, Path(folder), keep)
                judge.run(count, number)
                print(
                    f"{name}: {judge.count} inputs, {judge.refused} refused, "
                    f"{len(judge.failures)} failures, {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                for reason in sorted(set(copy.copy(judge.failures)))[:5]:
                    print(reason, flush=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    return judged


def run_atheris(name: str, count: int) -> None:
    """Let atheris, guided by coverage, choose the inputs of a target."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    seeds, read = TARGETS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    (folder / "in").mkdir()

    def attempt(data: bytes) -> None:
        with contextlib.suppress(*REFUSED), contextlib.redirect_stdout(io.StringIO()):
            read(data, folder / "in")

    for module in (checkpoint, checkpoint_file, predictions, result_dir, model_analyzer):
        for key, value in list(vars(module).items()):
            if (
                callable(value)
                and getattr(value, "__module__", "") == module.__name__
                and (not isinstance(value, type))
            ):
                setattr(module, key, atheris.instrument_func(value))
    atheris.Setup([sys.argv[0], str(corpus), f"-runs={count}", "-max_len=20000"], attempt)
    atheris.Fuzz()


def main(argv: list[str] | None = None) -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="inputs per target")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="folder of failing inputs")
    parser.add_argument("--atheris", choices=TARGETS, default=None, metavar="TARGET")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.atheris:
        run_atheris(args.atheris, args.count)
    judged = campaign(args.targets, args.count, args.seed, args.keep)
    total = sum(judge.count for judge in judged.values())
    failures = sum(len(judge.failures) for judge in judged.values())
    print(f"{total} inputs, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
