"""What several test modules need: flags of a quick training, its outcome, and injected faults."""

import contextlib
import csv
import dataclasses
import errno
import functools
import importlib
import io
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from common.audit.dataset import AuditConfig
from common.config import PixelOptions, TrainConfig
from common.fitting.calibration import Temperature
from common.fitting.ensemble import ModelResult, apply_vote
from common.fitting.grader import Grader, Sample
from common.fitting.images import fitting_images
from common.grading.loading import LoadedGrader
from common.grading.stored_grader import StoredGrader, StoredMember, unevaluated
from common.grading.torch_networks import TorchModel, TorchNetworks
from common.history import EpochRow
from common.joint_runs.heads import hold_heads
from common.locks.holder import this_process
from common.metrics.intervals import BootstrapConfig
from common.models import checkpoint_file
from common.models.backbones import build, preprocessing_for, resolve
from common.models.ovo import build_branch
from common.pairs import Head, class_pairs, heads_of_model, pair_head
from common.pixels.preprocessing import Preprocessing
from common.prediction.altered import AlteredPixels
from common.prediction.classes import Classes, classes_of, scored_classes
from common.prediction.predictions import Cost, Origin, PairPredictions
from common.prediction.voting import VOTES, ClassPredictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run
from common.result_dir.stored import read_history
from common.system import files
from common.trained_networks.loading import Columns, LoadedModel, TrunkGroup
from common.trained_networks.outputs import pair_probabilities
from common.training import loop

ROOT = Path(__file__).parents[1]
MODEL = "demo_convnext"
HEAD = pair_head((0, 1))
GRADES = classes_of("01234")  # the five, as tables and metrics take them
SMALL_PIXELS = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# a training that takes a second
QUICK = {
    "base_models": MODEL,
    "no_pretrained": None,
    "freeze_weights": "true",
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}
QUICK_AUDIT = AuditConfig(num_workers=2, shortcuts=False)
# an evaluation without what takes its time: maps, figures twice, a look at every picture
FEW_FILES = {"evidence_maps": 0, "figure_format": "none", "holdout_check": "names"}
THREE = {"num_classes": 3, "epochs": 2}  # of three classes, with three pairs
FOUR_EPOCHS = {"pairs": "0-1", "epochs": 4, "min_delta": 0}  # of one pair


class Bomb:
    """Run a command when it is unpickled: leave a file "exploded" where the process works."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def flags(**values) -> list[str]:
    """Write keyword arguments as flags; None is a flag without a value, False leaves it out."""
    words = []
    for name, value in ((name, value) for name, value in values.items() if value is not False):
        words.append(f"--{name}")
        items = value if isinstance(value, list) else [value]
        words += [str(item) for item in items if item is not None]
    return words


def run_script(name: str, *words, **options) -> subprocess.CompletedProcess:
    """Run a script of the repository in a process of its own; starting one takes seconds."""
    command = [sys.executable, str(ROOT / name), *map(str, words)]
    return subprocess.run(command, **{"capture_output": True, "text": True, **options})


def run_shell(script: str | Path, folder: Path, *words, **environment):
    """Run a shell script in a folder, with this Python as the one that it finds."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [str(word) for word in (ROOT / script, *words)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **environment},
    )


@functools.cache
def help_of(*words: str) -> str:
    """Return the help of ("train_ovo.py",), ("prepare_dataset.py", "split") or ("-m", "dev.fuzz").

    The script runs in this process: to start one takes seconds.
    """
    name, rest = (words[1], words[2:]) if words[0] == "-m" else (words[0][:-3], words[1:])
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main([*rest, "--help"])
    assert not ended.value.code
    return shown.getvalue()


def manifest_of(folder: Path) -> list[dict[str, str]]:
    """Read the manifest of a dataset that was written."""
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def run_ranks(
    size: int,
    work: Callable[[int], int],
    log: Path,
    kill: Callable[[list[int]], None] = lambda _: None,
) -> list[int]:
    """Do some work as each of several ranks, in processes that are forked; returns their statuses.

    To start Python takes seconds. work: is given the rank. What they say is appended to a log.
    kill: is given the processes while they work.
    """
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            status = 70
            with contextlib.suppress(BaseException):
                handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
                try:
                    status = work(rank)
                except BaseException:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
        children.append(child)
    kill(children)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@contextlib.contextmanager
def in_another_training(directory: ResultDir, *heads: Head) -> Iterator[None]:
    """Hold heads of the quick training, without any all, as another process would."""
    names = {"num_classes": 5, "model": MODEL}
    with hold_heads(directory, TrainConfig(**names), heads or heads_of_model(5, "ovo")):
        yield


def left_by_another_host(directory: ResultDir, *heads: Head) -> list[Path]:
    """Leave lock files as a killed process of another host does; return them."""
    directory.root.mkdir(parents=True, exist_ok=True)
    locks = [directory.head_lock(MODEL, head) for head in heads]
    for second, lock in enumerate(locks):
        since = f"2026-11-26T12:00:0{second}+00:00"
        holder = dataclasses.replace(this_process(), host="node7", since=since)
        lock.write_bytes(holder.to_bytes())
    return locks


# -- the outcome of a training -----------------------------------------------------------------


def weights_of(
    output: Path, head: Head = HEAD, model: str = MODEL
) -> dict[tuple[str, str], torch.Tensor]:
    """Read all tensors of a classifier's file."""
    content = checkpoint_file.load_checkpoint(ResultDir(output).best(model, head))
    return {
        (part, key): value
        for part in ("trunk", "top", "classifier")
        for key, value in content[part].items()
    }


def same_weights(one: Path, two: Path, head: Head = HEAD, model: str = MODEL) -> bool:
    """Tell whether two trainings made the same classifier, to the last bit."""
    first, other = (weights_of(output, head, model) for output in (one, two))
    return first.keys() == other.keys() and all(torch.equal(first[k], other[k]) for k in first)


def close_weights(
    one: Path, two: Path, tolerance: float, head: Head = HEAD, model: str = MODEL
) -> bool:
    """Tell whether two trainings made the same classifier up to rounding."""
    first, other = (weights_of(output, head, model) for output in (one, two))
    return first.keys() == other.keys() and all(
        torch.allclose(first[key], other[key], atol=tolerance, rtol=1e-3) for key in first
    )


def history_of(output: Path) -> list[EpochRow]:
    """Read the history of a training without its times."""
    rows = read_history(ResultDir(output).history)
    return [dataclasses.replace(row, images_per_second=0.0, seconds=0.0) for row in rows]


# -- predictions -------------------------------------------------------------------------------

TARGETS = np.arange(200) % 5


def predictions(
    skill: float, seed: int, model: str = "demo_convnext", head: str = "ovo"
) -> PairPredictions:
    """Predictions of a model whose softmax logits prefer the truth by `skill`."""
    noise = np.random.default_rng(seed).normal(0, 1, (200, 5))
    pairs = pair_probabilities(noise + skill * np.eye(5)[TARGETS], "softmax")
    return PairPredictions(
        model,
        head,
        list("01234"),
        np.arange(200).astype(str),
        TARGETS,
        pairs,
        np.ones(10),
        Cost(1, 1.0, 1.0, "cpu"),
        Origin("", "", "", "fp32"),
        GRADES,
    )


def member(skill: float, seed: int, val: bool = True, calibrate: bool = False) -> ModelResult:
    """A model of that skill, with predictions on val if asked."""
    found, on_val = predictions(skill, seed), predictions(skill, seed + 100)
    images = fitting_images(on_val, "val") if val else None
    return apply_vote(f"m{seed}", found, "coupling", images, calibrate)


# -- networks with random weights ----------------------------------------------------------------


def random_model(name: str, head: str = "shared", classes: str = "012", **changes) -> LoadedModel:
    """Make a model whose classifiers, and norms after the pooling, are far from their start.

    changes: of `freeze` (true), `img_size` (64), `frozen_stages` (-1) and `pooled_stages` (last).
    """
    options = {
        "freeze": True,
        "img_size": 64,
        "frozen_stages": -1,
        "pooled_stages": "last",
    } | changes
    spec, generator = resolve(name), torch.Generator().manual_seed(1)
    size, freeze = options["img_size"], options["freeze"]
    how = (options["frozen_stages"], options["pooled_stages"])
    backbone = build(spec, size, False, "", freeze, 0, *how)
    branches, column = [], 0
    for own in heads_of_model(len(classes), head):
        branch = build_branch(backbone, own, 0)
        norms = [layer for layer in branch.modules() if isinstance(layer, torch.nn.LayerNorm)]
        with torch.no_grad():
            for layer in (branch.classifier, *norms[-1:]):
                for values in layer.parameters():
                    values.add_(0.3 * torch.randn(values.shape, generator=generator))
        branches.append(Columns(slice(column, column + own.outputs), branch))
        column += own.outputs
    pixels = preprocessing_for(spec, PixelOptions(img_size=size))
    groups = [TrunkGroup(backbone.trunk, branches)]
    return LoadedModel(name, head, list(classes), pixels, groups, np.ones(column))


def noise_for(model: LoadedModel, count: int = 2) -> AlteredPixels:
    """Draw pictures of noise as a model takes them."""
    size = model.preprocessing.img_size
    values = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return AlteredPixels(values, model.preprocessing)


def loaded_grader(
    *models: LoadedModel, tta: str = "none", weights: Sequence[float] = ()
) -> LoadedGrader:
    """Make a grader of models that were never evaluated, or given weights and calibrated."""
    runs = [
        Run(
            ResultDir(Path(f"/home/secret/{place}")),
            model.model,
            model.head,
            len(model.class_names),
            tuple(model.class_names),
            "",
            "",
            (Path("x.pth"),) * 99,
        )
        for place, model in enumerate(models)
    ]
    names = runs[0].names
    members = [
        StoredMember(
            label=f"{place}",
            directory=run.directory.root,
            checkpoints=f"{place}",
            model=model.model,
            head=model.head,
            tta=tta,
            vote=VOTES[0],
            pair_accuracies=np.ones(len(class_pairs(len(names)))),
            temperature=Temperature(1.3, 40, 9),
        )
        for place, (run, model) in enumerate(zip(runs, models))
    ]
    grader = unevaluated(members, scored_classes(names, "", None), "it was not evaluated")
    if weights:
        grader = dataclasses.replace(
            grader,
            members=tuple(members),
            weights=np.array(weights),
            temperature=Temperature(0.7, 40, 9),
        )
    networks = [TorchModel(run, model, tta) for run, model in zip(runs, models)]
    return LoadedGrader(grader, TorchNetworks(tuple(networks), torch.device("cpu"), "fp32"))


# -- faults ------------------------------------------------------------------------------------


def at_step(monkeypatch, number: int, action: Callable[[], object]) -> list[int]:
    """Do something at a step of the training, counted from 1 over all epochs; return the steps."""
    step, steps = loop.train_step, []

    def act_and_step(*inputs):
        steps.append(1)
        if len(steps) == number:
            action()
        step(*inputs)

    monkeypatch.setattr(loop, "train_step", act_and_step)
    return steps


def fill_disk(monkeypatch, matches: Callable[[str], bool]) -> None:
    """Let the disk be full for files whose path matches."""
    real = os.fsync

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        if matches(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds; fail when it takes longer than that."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# -- a grader that was made up -----------------------------------------------------------------


def sample_of(targets, probabilities, name: str = "test", groups=None, members=None) -> Sample:
    """Make a sample of which a grader says these probabilities (N, K); members (L, N, K)."""
    targets, probabilities = np.array(targets), np.array(probabilities, dtype=float)
    return Sample(
        name=name,
        ids=np.array([f"{name}/{i:03}.jpg" for i in range(len(targets))]),
        targets=targets,
        classes=ClassPredictions(probabilities, probabilities.argmax(1)),
        members=probabilities[None] if members is None else np.array(members),
        groups=None if groups is None else np.array(groups),
    )


def grader_of(judged: Sample, chosen: Sample | None = None, classes: Classes = GRADES) -> Grader:
    """Make a grader of what it says of the images that it is judged on, and of val if any."""
    why = "" if chosen else "no images to choose on"
    return Grader("model", classes, judged, chosen, why, BootstrapConfig(50, 0, judged.groups))


def probabilities_of(targets, sharpness: float = 3.0, seed: int = 0, classes: int = 5):
    """Draw probabilities (N, K), of near grades alike, that mostly agree with targets (N,)."""
    generator = np.random.default_rng(seed)
    seen = np.array(targets)[:, None] + generator.normal(0, 1 / sharpness**0.5, (len(targets), 1))
    scores = np.exp(-sharpness * (seen - np.arange(classes)) ** 2 / 2)
    return scores / scores.sum(1, keepdims=True)


def stored_grader(models: int = 1) -> StoredGrader:
    """What is known of models of five grades that were never evaluated."""
    rule = {"vote": "coupling", "pair_accuracies": np.ones(10), "temperature": Temperature()}
    members = [
        StoredMember(f"m{n}", Path(f"m{n}"), f"{n}", MODEL, "ovo", "none", **rule)
        for n in range(models)
    ]
    return unevaluated(members, GRADES, "not evaluated")
