"""train_ovo.py as a user calls it: flags, files, messages, exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, flags, in_another_training, same_weights

import evaluate_ensemble
import train_ovo
from common.flags.finding import find_runs
from common.joint_runs.finish import evaluation_of
from common.models import timm_patches
from common.models.checkpoint import load_pair
from common.models.checkpoint_file import load_checkpoint, save_checkpoint
from common.pairs import heads_of_model, pair_head
from common.result_dir.paths import ResultDir
from common.system.errors import InputError
from dev.kill_training import Trainer


def test_writes_the_documented_directory(trained):
    found = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    models = {f"models/best_demo_convnext_{a}_{b}.pth" for a in range(5) for b in range(a + 1, 5)}
    assert models | {"config.json", "logs/history.csv"} <= found
    assert any(name.startswith("logs/tensorboard/events") for name in found)
    assert not any(name.startswith("checkpoints") for name in found)
    config = json.loads((trained / "config.json").read_text())
    assert config["config"]["learning_rate"] == 1e-3 and config["seed"] == 42
    assert {"torch", "timm", "python"} <= set(config["versions"])
    assert len(config["data"]["train"]) == 16
    assert config["images"] == {"train": [7, 10, 10, 10, 10], "val": [4] * 5}
    card = (trained / "MODEL_CARD.md").read_text()
    assert "**Not evaluated**" in card and "| demo | train | 47 | 7 | 10 | 10 | 10 | 10 |" in card


def test_tensorboard_holds_each_pair_s_curves(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "logs" / "tensorboard"))
    events.Reload()
    assert {"0-1/train_loss", "3-4/val_auc"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("0-1/train_loss")] == [1, 2]


def test_a_used_directory_needs_resume(quick_train, trained, tmp_path, capsys):
    output = shutil.copytree(trained, tmp_path / "r")
    assert quick_train(output) == 2
    said = capsys.readouterr()
    assert "pass --resume" in said.err and not said.out, "refused before anything else is done"
    before = {path: path.read_bytes() for path in (output / "models").iterdir()}
    assert quick_train(output, resume=None) == 0
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 2e-3}, "learning_rate: 0.001 -> 0.002"),
        ({"enable_clahe": "false"}, "enable_clahe: True -> False"),
        ({"precision": "bf16"}, "precision: "),
    ],
)
def test_resuming_with_other_settings_is_refused_with_the_difference(
    quick_train, trained, tmp_path, capsys, change, said
):
    output = shutil.copytree(trained, tmp_path / "r")
    assert quick_train(output, resume=None, **change) == 2
    captured = capsys.readouterr()
    assert captured.err.count(said) == 1 and "data check" not in captured.out


def test_resuming_on_other_images_is_refused(quick_train, trained, tmp_path, demo, capsys):
    output, images = (shutil.copytree(s, tmp_path / n) for s, n in ((trained, "r"), (demo, "i")))
    next((images / "train" / "3").iterdir()).unlink()
    assert quick_train(output, resume=None, dataset_path=images) == 2
    assert "data: " in capsys.readouterr().err


def test_several_backbones_one_after_the_other(quick_train, tmp_path, capsys):
    models = ["demo_convnext", "demo_coatnet"]
    assert quick_train(tmp_path / "r", base_models=models, pairs="2-3", warmup_epochs=3) == 0
    assert capsys.readouterr().out.count("warning: --warmup_epochs 3 is longer than") == 2
    for model in models:
        folder = tmp_path / "r" / f"{model}_5class_results"
        assert (folder / "models" / f"best_{model}_2_3.pth").is_file()


def test_the_threads_that_a_run_began_with_are_recorded(quick_train, tmp_path, set_threads, capsys):
    set_threads(1)
    assert quick_train(tmp_path, pairs="2-3", epochs=1, threads=2) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["threads"] == "2"
    said = capsys.readouterr().out
    assert said.count("threads: 2 (as --threads says") == 1 and "began with" not in said


def test_several_seeds_are_trained_as_each_alone_and_named_together(quick_train, tmp_path, capsys):
    folder, asked = tmp_path / "r", {"head": "softmax", "epochs": 1}
    assert quick_train(folder, seed=["3", "4"], **asked) == 0
    places = [folder / f"demo_convnext_softmax_seed{seed}_5class_results" for seed in (3, 4)]
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"all 2 together: {evaluation_of(places, 'D').removesuffix('D --split test')}" in last
    runs = find_runs([], ["demo_convnext_softmax"], folder, None)
    assert [run.directory.root for run in runs] == places

    assert quick_train(tmp_path / "alone", seed=4, **asked) == 0
    softmax = heads_of_model(5, "softmax")[0]
    assert same_weights(places[1], tmp_path / "alone", softmax)
    assert not same_weights(*places, softmax)

    assert quick_train(tmp_path / "dry", seed=["3", "4"], **asked, dry_run=None) == 0
    assert quick_train(tmp_path / "part", epochs=1, seed=["3", "4"], pairs="2-3") == 0
    assert "together:" not in capsys.readouterr().out  # nothing is trained, or not all pairs


def test_what_is_in_the_way_of_a_later_seed_is_refused_before_the_first(
    quick_train, tmp_path, capsys
):
    asked = {"head": "softmax", "epochs": 1}
    first, second = (
        tmp_path / f"demo_convnext_softmax_seed{seed}_5class_results" for seed in (3, 4)
    )
    assert quick_train(second, seed=4, **asked) == 0
    asked["seed"] = ["3", "4"]
    for changes, said in (
        ({}, f"{second} already holds a run"),
        ({"dry_run": None}, f"{second} already holds a run"),
        ({"resume": None, "epochs": 2}, "epochs: 1 -> 2"),
    ):
        capsys.readouterr()
        assert quick_train(tmp_path, **{**asked, **changes}) == 2
        shown = capsys.readouterr()
        assert said in shown.err and not shown.out
    shutil.rmtree(second)
    second.touch()
    assert quick_train(tmp_path, **asked) == 2
    assert f"{second} cannot be written" in capsys.readouterr().err
    assert not first.exists()


def test_what_was_not_begun_after_a_failure_is_named(quick_train, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise InputError("the images are gone")

    monkeypatch.setattr(train_ovo, "run", fail)
    assert quick_train(tmp_path, head="softmax", seed=["3", "4", "5"]) == 2
    shown = capsys.readouterr()
    later = [tmp_path / f"demo_convnext_softmax_seed{seed}_5class_results" for seed in (4, 5)]
    assert f"not begun: {later[0]}, {later[1]}" in shown.out
    assert shown.err.count("the images are gone") == 1


def test_a_seed_that_another_process_trains_is_named_at_the_end_and_must_have_these_settings(
    quick_train, tmp_path, capsys
):
    asked = {"head": "softmax", "epochs": 1, "seed": ["3", "4"], "resume": None}
    folder = tmp_path / "demo_convnext_softmax_seed4_5class_results"
    assert quick_train(folder, head="softmax", epochs=1, seed=4) == 0
    with in_another_training(ResultDir(folder), *heads_of_model(5, "softmax")):
        assert quick_train(tmp_path, **asked) == 0
        shown = capsys.readouterr().out
        assert f"not all is trained: {folder} is being trained by" in shown.splitlines()[-1]
        assert quick_train(tmp_path, **{**asked, "epochs": 2}) == 2
        assert "epochs: 1 -> 2" in capsys.readouterr().err
    assert quick_train(tmp_path, **asked) == 0
    assert "all 2 together:" in capsys.readouterr().out.splitlines()[-1]


def test_of_several_processes_the_last_one_names_the_whole_ensemble(
    quick_train, tmp_path, capsys, monkeypatch
):
    asked = {"head": "softmax", "epochs": 1, "seed": ["3", "4"]}
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, named in ((0, False), (1, True)):
        monkeypatch.setenv("RANK", str(rank))
        assert quick_train(tmp_path, **asked) == 0
        assert ("all 2 together:" in capsys.readouterr().out) == named


REFUSED = {
    "already holds a run": {},
    "horizontal_flip: False -> True": {"resume": None, "horizontal_flip": "true"},
    "no --override can change that": {"resume": None, "head": "softmax"},
    "/proc/x": {"output": Path("/proc/x")},
    "needs the statistics of a batch": {
        "output": Path("new"),
        "base_models": "demo_coatnet",
        "freeze_weights": "false",
        "batch_size": 1,
        "gradient_accumulation_steps": 1,
    },
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_dry_run_refuses_what_the_training_refuses(
    quick_train, trained_copy, tmp_path, capsys, monkeypatch, reason
):
    monkeypatch.chdir(tmp_path)
    words = {"output": trained_copy, **REFUSED[reason]}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert quick_train(**words, dry_run=None) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert quick_train(**words) == 2
    assert reason in capsys.readouterr().err
    assert not Path("new", "config.json").exists(), "the next command would meet a run"


def test_a_dry_run_says_where_a_run_goes_on_and_that_nothing_is_left(quick_train, trained, capsys):
    capsys.readouterr()
    assert quick_train(trained, dry_run=None, resume=None) == 0
    said = capsys.readouterr().out
    assert "pair 0-1: 17 images, 4 steps/epoch, finished after epoch 2, 0 steps at most" in said
    assert "nothing is left to train" in said and "time: about" not in said


def test_dry_run_prints_the_plan_and_writes_nothing(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", dry_run=None, cache_dir=tmp_path / "c", warmup_epochs=3) == 0
    said = capsys.readouterr().out
    for part in (
        "learning rate: warm-up over 3 epochs, longer than the run, 0.001, then cosine",
        "the learning rate reaches 0.000667, never 0.001; set --warmup_epochs 0",
        "pair 0-1: 17 images, 4 steps/epoch, 8 steps at most",
        "trained, ",
        "frozen",
        "cache: ",
        "memory: about",
        "time: about",
        "[7, 10, 10, 10, 10]",
    ):
        assert part in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset_path": "/nope"}, "check --dataset_path"),
        ({"base_models": "no_such_net"}, "unknown model"),
        ({"device": "cuda:9"}, "CUDA devices"),
        ({"epochs": 0}, "--epochs: expected 1 or more, found 0"),
        ({"weights": "/nope.pth", "no_pretrained": False}, "no such file"),
        ({"weights": "/proc", "no_pretrained": False}, "/proc: expected a file, found a folder"),
        ({"weights": "resnet50=/nope", "no_pretrained": False}, "for each of demo_convnext, found"),
        ({"precision": "fp16"}, "needs a GPU"),
        ({"num_classes": 4}, "expected the class folders"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(quick_train, tmp_path, capsys, change, said):
    if "num_classes" in change:
        change = {"num_classes": 6}
    assert quick_train(tmp_path / "r", **change) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "r" / "models").exists()


def test_an_output_that_cannot_be_written_is_one_line(quick_train, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert quick_train(tmp_path / "file" / "r", pairs="0-1") == 2
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.slow
def test_sigkill_in_mid_epoch_then_resume_gives_the_same_bits(demo, shared_cache, tmp_path):
    """A real process, killed three times while it works, against one left in peace."""

    values = {"base_models": "demo_coatnet", "no_pretrained": None, "freeze_weights": "false"}
    values |= {"epochs": 6, "device": "cpu", "pairs": ["0-1", "2-4"], "resume": None}
    values |= {"dataset_path": demo, "cache_dir": shared_cache}

    with Trainer() as trainer:

        def train(name, mark=""):
            words = flags(**values, output_dir=tmp_path / name)
            return trainer.run(words, tmp_path / "log.txt", mark, 0.05)  # into the next epoch

        assert train("whole") == 0
        for epoch in (1, 2, 4):
            assert train("killed", rf"pair 2-4 .* epoch +{epoch}/6") == -signal.SIGKILL
        assert train("killed") == 0
    for pair in [(0, 1), (2, 4)]:
        head = pair_head(pair)
        assert same_weights(tmp_path / "whole", tmp_path / "killed", head, "demo_coatnet")


def read_env_file(tmp_path, program):
    environment = {k: v for k, v in os.environ.items() if k not in ("DATASET_PATH", "CACHE_DIR")}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_env_file_sets_paths(tmp_path):
    program = "import common, os; print(os.environ['DATASET_PATH'], os.environ['CACHE_DIR'])"
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / ".env").write_text("DATASET_PATH=/data\nCACHE_DIR=./from_env\n", encoding)
        done = read_env_file(tmp_path, program)
        assert done.stdout.split() == ["/data", "./from_env"], done.stderr


def test_variables_in_an_env_file_are_expanded_and_a_missing_one_is_named(tmp_path):
    (tmp_path / ".env").write_text("ROOT=/data\nDATASET_PATH=${ROOT}/eyes\nCACHE_DIR=$NOPE/c\n")
    program = (
        "from common.flags.training import parse_training as parse; "
        "words = ['--base_models', 'coatnet']; "
        "print(parse([*words, '--cache_dir', 'c'], '').configs[0].dataset_path, flush=True); "
        "parse(words, '')"
    )
    done = read_env_file(tmp_path, program)
    assert done.stdout.split() == ["/data/eyes"] and done.returncode == 2
    assert "NOPE is not set" in done.stderr and "Traceback" not in done.stderr


def test_an_env_file_that_is_no_text_is_named_in_one_line(tmp_path):
    (tmp_path / ".env").write_text("DATASET_PATH=/data\n", "utf-16")
    done = read_env_file(tmp_path, "import common")
    assert done.returncode == 1 and ".env: expected readable UTF-8 text" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_warns_of_copies_across_splits_and_trains_all_the_same(
    quick_train, demo, tmp_path, capsys
):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    shutil.copy(next((root / "train" / "1").iterdir()), root / "test" / "1")
    assert quick_train(tmp_path / "r", dataset_path=root, pairs="0-1", epochs=1) == 0
    assert "data check: 1 groups of byte-identical files in two splits" in capsys.readouterr().out


def test_pictures_that_are_not_used_are_named_and_the_data_check_is_not_clean(
    quick_train, demo, tmp_path, capsys
):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    (root / "extra" / "0").mkdir(parents=True)
    shutil.copy(next((root / "train" / "1").iterdir()), root / "extra" / "0" / "a.jpg")
    for changes in ({"dry_run": None}, {"pairs": "0-1", "epochs": 1}):
        assert quick_train(tmp_path / "r", dataset_path=root, **changes) == 0
        said = capsys.readouterr().out
        assert "not used: 1 picture (1 .jpg) in extra/: no split has that name" in said
    assert "data check: 1 picture in the dataset not used" in said
    assert "grades balanced" not in said


def test_a_dataset_with_other_usual_names_trains_and_is_evaluated_whole(
    quick_train, demo, tmp_path, capsys
):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    for name, other in (("train", "Training"), ("val", "Valid"), ("test", "Test Set")):
        (root / name).rename(root / other)
    inner = root / "Valid" / "3" / "clinic"
    inner.mkdir()
    next((root / "Valid" / "3").glob("*.jpg")).rename(inner / "a.jpg")
    cache = {"dataset_path": root, "cache_dir": tmp_path / "c"}
    assert quick_train(tmp_path / "r", **cache) == 0
    said = capsys.readouterr().out
    assert "val: 20 images, per grade [4, 4, 4, 4, 4]" in said and "grades balanced" in said
    words = {**cache, "results_dirs": tmp_path / "r", "device": "cpu", "resamples": 20}
    assert evaluate_ensemble.main(flags(**words)) == 0
    predictions = {path.name for path in (tmp_path / "r" / "results").glob("predictions_*")}
    assert predictions == {"predictions_test.npz", "predictions_val.npz"}
    with np.load(tmp_path / "r" / "results" / "predictions_val.npz") as file:
        assert "Valid/3/clinic/a.jpg" in file["ids"] and len(file["ids"]) == 20


def test_training_does_not_look_at_cal(quick_train, demo, tmp_path, capsys):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    values = {"dataset_path": root, "cache_dir": tmp_path / "c", "pairs": "0-1", "epochs": 1}
    assert quick_train(tmp_path / "without", **values) == 0
    shutil.copytree(root / "test", root / "Calibration_Set")
    capsys.readouterr()
    assert quick_train(tmp_path / "with", **values) == 0
    said = capsys.readouterr().out
    assert "20 groups of byte-identical files in two splits" in said
    assert "cache: decoding" not in said, "all that it needs is there"
    assert same_weights(tmp_path / "without", tmp_path / "with")
    assert quick_train(tmp_path / "without", **values, resume=None) == 0, "the same images"


@pytest.mark.parametrize(
    "precision, version, widened", [("bf16", 3, True), ("bf16", 2, False), ("fp32", 4, False)]
)
def test_a_run_goes_on_with_the_kernels_that_it_began_with(
    quick_train, tmp_path, monkeypatch, precision, version, widened
):
    given, versions = [], []
    monkeypatch.setattr(timm_patches, "patch_depthwise", lambda *args: given.append(args[2]) or 0)
    monkeypatch.setattr(timm_patches, "compute_as", lambda net, asked: versions.append(asked))
    assert quick_train(tmp_path, pairs="0-1", precision=precision) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "kernel_version": version}))
    assert quick_train(tmp_path, pairs=["0-1", "0-2"], precision=precision, resume=None) == 0
    assert given == [precision == "bf16", widened]
    assert versions == [4, 4, version, version], "of the trunk and the stages"


def test_a_run_of_an_earlier_release_goes_on_with_its_own_pixels(
    quick_train, tmp_path, capsys, monkeypatch
):
    output, faster = tmp_path / "r", []
    monkeypatch.setattr(timm_patches, "patch_depthwise", lambda *given: faster.append(given) or 0)
    assert quick_train(output, pairs="0-1") == 0
    assert len(faster) == 1
    config = json.loads((output / "config.json").read_text())
    assert (config.pop("pixel_version"), config.pop("kernel_version")) == (2, 4)
    del config["skipped"], config["config"]["skip_unreadable"]  # as before there were any
    config["versions"]["threads"] = "5"
    (output / "config.json").write_text(json.dumps(config))
    path = next((output / "models").glob("*.pth"))
    content = load_checkpoint(path)
    assert content["preprocessing"].pop("version") == 2
    save_checkpoint(path, content)
    capsys.readouterr()
    assert quick_train(output, resume=None, threads=1) == 0
    said = capsys.readouterr().out
    assert "threads: 1 (as --threads says" in said
    assert "began with 5 threads and goes on with 1" in said and "--threads 5 avoids" in said
    versions = {load_pair(p).preprocessing.version for p in (output / "models").glob("*.pth")}
    assert versions == {1}, "of the pair that was there and of the nine others"
    assert len(faster) == 1

    (output / "config.json").write_text(json.dumps({**config, "pixel_version": 9}))
    capsys.readouterr()
    assert quick_train(output, resume=None) == 2
    assert "pixel_version 9; this release knows 1 to 2" in capsys.readouterr().err
