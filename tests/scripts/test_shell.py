"""The shell scripts and the guide's original entry, run as a user runs them."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODELS = {
    "coatnet": ("coatnet_0_rw_224", 224),
    "convnext": ("convnext_tiny", 224),
    "swinv2": ("swinv2_tiny_window8_256", 256),
}
GUIDE = {
    "epochs": "100",
    "batch_size": "2",
    "learning_rate": "5e-5",
    "weight_decay": "0.00025",
    "gradient_accumulation_steps": "4",
    "scheduler": "cosine",
    "warmup_epochs": "10",
    "patience": "28",
    "enable_focal_loss": "",
    "focal_loss_gamma": "3.0",
    "focal_loss_alpha": "2.5",
    "enable_class_weights": "",
    "label_smoothing": "0.1",
    "enable_clahe": "",
    "rotation_range": "25",
    "brightness_range": "0.2",
    "contrast_range": "0.2",
    "ovo_dropout": "0.28",
    "num_classes": "5",
}


def run(command, folder, **environment):
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
    )


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("name", MODELS)
def test_the_scripts_carry_the_guide_s_numbers(name):
    text = (ROOT / f"train_{name}.sh").read_text().replace("\\\n", " ")
    found = dict(re.findall(r"--(\w+)(?: +(?!-)(\S+))?(?= )", text.split("exec", 1)[1]))
    expected = {
        **GUIDE,
        "base_models": MODELS[name][0],
        "img_size": str(MODELS[name][1]),
        "output_dir": f"./{name}_5class_results",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert text.rstrip().endswith('"$@"') and f"{name}_training_log.txt" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_script_plans_the_training_of_its_backbone(name, demo, tmp_path):
    done = run(
        [
            ROOT / f"train_{name}.sh",
            "--no_pretrained",
            "--dry_run",
            "--batch_size",
            1,
            "--gradient_accumulation_steps",
            8,
        ],
        tmp_path,
        DATASET_PATH=str(demo),
    )
    assert done.returncode == 0, done.stderr
    model, size = MODELS[name]
    assert f"plan: {model} at {size} px into ./{name}_5class_results" in done.stdout
    assert "effective batch 8" in done.stdout
    assert not (tmp_path / f"{name}_training_log.txt").read_text(), "a plan is no training"


def test_help_goes_to_the_terminal_and_not_into_the_log(tmp_path):
    done = run([ROOT / "train_coatnet.sh", "--epochs", 3, "--help"], tmp_path)
    assert done.returncode == 0 and "--learning_rate" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--dataset_path", "/nope"], "error: expected the folder /nope/train"),
        (["--epoch", "3"], "error: unrecognized arguments: --epoch 3"),
    ],
)
def test_a_refused_command_leaves_its_error_on_the_terminal_alone(tmp_path, words, error):
    log = tmp_path / "coatnet_training_log.txt"
    log.write_text("an earlier training\n")
    done = run([ROOT / "train_coatnet.sh", *words], tmp_path)
    assert done.returncode == 2 and error in done.stdout
    assert log.read_text() == "an earlier training\n"


def test_what_a_library_says_before_training_begins_is_in_the_log_too(tmp_path):
    stand_in = tmp_path / "train_ovo.py"
    stand_in.write_text(
        "print('a warning')\nprint('2026-01-01 00:00:00Z  training')\nprint('error: late')\n"
        "raise SystemExit(1)\n"
    )
    shutil.copy(ROOT / "train_logged.sh", tmp_path)
    done = run([tmp_path / "train_logged.sh", "log.txt"], tmp_path)
    assert done.returncode == 1
    wait_for(lambda: "error: late" in (tmp_path / "log.txt").read_text())
    assert (tmp_path / "log.txt").read_text().startswith("a warning\n2026-01-01 00:00:00Z  train")


def test_a_script_trains_resumes_and_keeps_bars_out_of_the_log(demo, tmp_path):
    command = [
        ROOT / "train_logged.sh",
        "log.txt",
        "--base_models",
        "demo_convnext",
        "--no_pretrained",
        "--epochs",
        2,
        "--pairs",
        "0-1",
        "--dataset_path",
        demo,
        "--device",
        "cpu",
    ]
    assert run(command, tmp_path).returncode == 0
    first = (tmp_path / "log.txt").read_text()
    assert len(re.findall(r"Z  pair 0-1  epoch", first)) == 2
    assert "\r" not in first and "it/s" not in first and "%|" not in first
    assert run(command, tmp_path).returncode == 0, "run again it resumes"
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith(first) and len(log) > len(first)
    assert len(re.findall(r"Z  pair 0-1  epoch", log)) == 2, "and has nothing left to do"


def test_the_guide_s_original_entry_trains_and_evaluates(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "dataset")
    entry = [sys.executable, ROOT / "ensemble_5class_trainer.py"]
    common = [
        "--base_models",
        "demo_convnext",
        "--dataset_path",
        "./dataset",
        "--output_dir",
        "./out",
        "--device",
        "cpu",
    ]
    train = run([*entry, "--mode", "train", *common, "--no_pretrained", "--epochs", 1], tmp_path)
    assert train.returncode == 0, train.stderr
    done = run([*entry, "--mode", "evaluate", *common], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results" / "metrics_test.json").is_file()
    assert run([*entry, "--mode", "dance"], tmp_path).returncode == 2


@pytest.mark.parametrize("script", [*sorted(path.name for path in ROOT.glob("*.sh")), ".ci/run"])
def test_scripts_parse_and_can_be_run(script):
    path = ROOT / script
    assert run(["bash", "-n", path], ROOT).returncode == 0
    assert script == "setup_env.sh" or os.access(path, os.X_OK)
