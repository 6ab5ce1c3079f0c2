"""What `dev.fuzz` attacks: everything that reads what strangers have made.

A target has valid inputs to start from, and a function that reads one input in a folder.
"""

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

import analyze_ensemble_diversity
import compare_models
import evaluate_ensemble
import model_analyzer
import prepare_dataset
from common.config import TrainConfig
from common.data.metadata import read_metadata
from common.data.synthetic import draw_fundus
from common.evaluation import verification
from common.flags.training import parse_training
from common.history import HISTORY_COLUMNS
from common.metrics.grade_mix import parse_prevalence
from common.models import checkpoint_file
from common.models.backbones import build, resolve
from common.models.checkpoint import load_pair, restore_pair
from common.pairs import HEADS
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.prediction import predictions
from common.preparation.import_table import ImportConfig, LabelSource, plan_import
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.result_dir.stored import read_predictions
from common.system.errors import InputError
from common.training.context import Fingerprints
from common.training.resume import check_continuation

Reader = Callable[[bytes, Path], object]  # returns an exit status where a script has one
_PIXELS = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DETAILS = {
    "model": "resnet50",
    "class_names": list("01234"),
    "head": "ovo",
    "cost": {"parameters": 1, "gflops": 1.0, "images_per_second": 1.0, "device": "cpu"},
    "origin": {"checkpoints": "x", "data": "y", "precision": "fp32", "tta": "flips"},
    "vote": "soft",
    "temperature": 1.5,
    "weights": [1.0],
}


@dataclass(frozen=True)
class Target:
    """Valid inputs, and what reads one in a folder."""

    seeds: list[bytes]
    read: Reader


def image_target(_: Path) -> Target:
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
        pixels = load_pixels(folder / "eye.png", _PIXELS)
        assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8

    return Target(seeds, read)


def tiny_pair() -> dict[str, Any]:
    """The content of a pair's file with a few weights."""
    numbers = dict.fromkeys(set(HISTORY_COLUMNS) - {"pair", "epoch"}, 0.9)
    row = {"pair": "0-1", "epoch": 1, **numbers, "val_pair_accuracies": [0.9]}
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


def checkpoint_target(_: Path) -> Target:
    """Files of one pair and of all, with and without checksum, and of the earlier trainer."""
    content = tiny_pair()
    earlier = {
        "model_state_dict": {"backbone.w": torch.ones(2), "classifier.1.w": torch.ones(2)},
        "class_pair": (0, 1),
        "model_name": "resnet50",
        "best_val_accuracy": 91.0,
        "config": {"data": {"img_size": 224}},
    }
    metrics = {**content["metrics"], "pair": "shared", "val_pair_accuracies": [0.9] * 3}
    shared = {"head": "shared", "pair": [0, 1, 2], "metrics": metrics}
    seeds = [bytes(checkpoint_file.pack_checkpoint(c)) for c in (content, {**content, **shared})]
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

    return Target(seeds, read)


def config_target(folder: Path) -> Target:
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
    backbone = build(resolve("demo_convnext"), 64, False, "", True, 0)
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
            find_run(directory)
        check_continuation(directory, config, backbone, fingerprints, (), True, False)

    return Target(seeds, read)


def predictions_target(_: Path) -> Target:
    """Stored predictions, packed and plain."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
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
            read_predictions(path)
        found = predictions.load_predictions(path)
        if found is None:
            raise InputError("not usable")
        file = verification.PredictionsFile.read(path)
        verification.compare(file, found, found)
        verification.compare_ensemble(file, [file])

    return Target(seeds, read)


def table_target(folder: Path) -> Target:
    """Label tables, imported, as a population's grade mix, and as metadata.csv."""
    seeds = [
        "id_code,diagnosis\na,2\nb.jpg,0.0\n",
        'sep=;\r\nImage Name ;DR grade;Patient ID;age\r\n"a";1;7;61,5\r\nB;No_DR;8;\r\n',
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\na,3,0,1\nc,,,0\n",
        "train/a.jpg 0\nb.jpg 5\n",
        "image\tsplit\tgrade\na\ttrain\t1\nb\tvalid\t2\n",
    ]
    for name in ("train/0/a.jpg", "train/1/b.jpg", "val/2/c.png"):
        path = folder / "seeds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def read(data: bytes, here: Path) -> None:
        path = here / "labels.csv"
        path.write_bytes(data)
        (here / "a.jpg").touch()
        (here / "metadata.csv").write_bytes(data)
        with contextlib.suppress(InputError):
            parse_prevalence(str(path), 5)
        with contextlib.suppress(InputError):
            read_metadata(here)
        plan_import([LabelSource(path)], [folder / "seeds"], ImportConfig())

    return Target([*map(str.encode, seeds), *(seed.encode("utf-16") for seed in seeds)], read)


def flags_target(_: Path) -> Target:
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
        "prepare import train=a.csv images out --more val=b.csv --keep patient=who --num_classes 3",
    ]
    scripts: dict[str, Callable[[list[str]], object]] = {
        "train": lambda words: parse_training(words, "x"),
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

    return Target([line.encode() for line in lines], read)


MAKERS: dict[str, Callable[[Path], Target]] = {
    "images": image_target,
    "checkpoints": checkpoint_target,
    "config": config_target,
    "predictions": predictions_target,
    "tables": table_target,
    "flags": flags_target,
}


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
        kinds = st.fixed_dictionaries({"head": st.sampled_from(HEADS) | _JSON, "pair": _JSON})
        odd = st.dictionaries(keys, _JSON, min_size=1, max_size=3) | pixels | kinds
        return odd.map(_odd_pair)
    if name == "predictions":
        keys = st.sampled_from(["model", "class_names", "head", "cost", "origin", "ids"])
        return st.dictionaries(keys, _JSON, min_size=1, max_size=3).map(_odd_predictions)
    return None


def _odd_pair(changes: dict[str, Any]) -> bytes:
    return bytes(checkpoint_file.pack_checkpoint({**tiny_pair(), **changes}))


def _odd_predictions(changes: dict[str, Any]) -> bytes:
    arrays: dict[str, Any] = {
        "ids": np.array(["a"]),
        "targets": np.array([0]),
        "pair_probabilities": np.full((1, 10), 0.5),
        "pair_val_accuracies": np.ones(10),
    }
    buffer = io.BytesIO()
    np.savez(buffer, details=np.array(json.dumps({**_DETAILS, **changes})), **arrays)
    return buffer.getvalue()
