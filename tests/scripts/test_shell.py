"""The shell scripts and the guide's original entry, run as a user runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import (
    MODEL,
    QUICK,
    ROOT,
    flags,
    help_of,
    in_another_training,
    run_script,
    run_shell,
    wait_for,
)

import ensemble_5class_trainer
import evaluate_ensemble
import train_ovo
from common.result_dir.paths import ResultDir

SCRIPTS = [
    str(path.relative_to(ROOT)) for end in ("*.sh", "slurm/*.sbatch") for path in ROOT.glob(end)
]
BACKBONES = {
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


@pytest.mark.parametrize("script", [*SCRIPTS, ".ci/run"])
def test_a_script_parses_and_can_be_run(script):
    assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0
    sourced_or_copied = script == "setup_env.sh" or script.endswith(".sbatch")
    assert sourced_or_copied or os.access(ROOT / script, os.X_OK)


@pytest.fixture
def show_flags(tmp_path):
    """Run a script with a stand-in for train_logged.sh that shows its words."""
    for script in ("train_guide.sh", *(f"train_{name}.sh" for name in BACKBONES)):
        shutil.copy(ROOT / script, tmp_path)
    (tmp_path / "train_logged.sh").write_text('#!/bin/sh\necho "$@"')
    (tmp_path / "train_logged.sh").chmod(0o755)
    return lambda name, *words: run_shell(tmp_path / f"train_{name}.sh", tmp_path, *words).stdout


@pytest.mark.parametrize("name", BACKBONES)
def test_the_scripts_carry_the_guide_s_numbers(name, show_flags):
    said = show_flags(name, "--further", "flags")
    found = dict(re.findall(r"--(\w+)(?: +(?!-)(\S+))?(?=\s)", said))
    model, size = BACKBONES[name]
    expected = GUIDE | {
        "base_models": model,
        "img_size": str(size),
        "output_dir": f"./{name}_5class_results",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert said.startswith(f"{name}_training_log.txt ") and said.endswith(" --further flags\n")


def test_the_guide_s_settings_are_for_all_seven_backbones_and_any_other(show_flags, tmp_path):
    listed = run_shell(tmp_path / "train_guide.sh", tmp_path, "--list").stdout.split()
    assert listed[:4] == [*BACKBONES, "densenet121"]
    assert listed[4:] == ["efficientnetb2", "resnet50", "seresnext50"]
    for name in (*listed[3:], "tf_efficientnet_lite0"):
        said = run_shell(tmp_path / "train_guide.sh", tmp_path, name).stdout
        assert said.startswith(f"{name}_training_log.txt --base_models {name} --num_classes 5 ")
        assert f"--img_size {224 if name in listed else 0} --epochs 100" in said
    assert run_shell(tmp_path / "train_guide.sh", tmp_path).returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--head_lr_factor 5",
        "--seed 7",
        "--seed 7 --epochs 2",
        "--seed 7 8",
        "--recipe small_data",
        "--recipe=small_data --epochs 7",
        "--head=shared",
        "--num_classes 3",
    ],
)
def test_a_recipe_takes_the_place_of_the_guide_s_numbers(show_flags, words):
    said = show_flags("swinv2", *words.split())
    assert said.rstrip().endswith(words) and "--num_classes 5" in said
    assert ("--ovo_dropout 0.28" in said) == ("--recipe" not in words)
    own = "--output_dir ./swinv2_5class_results" in said
    ones = ("", "--head_lr_factor 5", "--seed 7", "--seed 7 --epochs 2")
    assert own == (words in ones), "other heads, and several seeds, have directories of their own"


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_script_plans_the_training_of_its_backbone(name, demo, tmp_path, monkeypatch, capsys):
    for script in (f"train_{name}.sh", "train_guide.sh", "train_logged.sh"):
        shutil.copy(ROOT / script, tmp_path)
    trainer = "import json, sys; print(json.dumps(sys.argv[1:]))"
    (tmp_path / "train_ovo.py").write_text(trainer)
    place = tmp_path / "here"
    place.mkdir()
    words = flags(no_pretrained=None, dry_run=None, batch_size=1, gradient_accumulation_steps=2)
    started = run_shell(tmp_path / f"train_{name}.sh", place, *words)
    monkeypatch.setenv("DATASET_PATH", str(demo))
    monkeypatch.chdir(place)
    assert train_ovo.main(json.loads(started.stdout)) == 0
    model, size = BACKBONES[name]
    said = capsys.readouterr().out
    assert f"plan: {model} at {size} px into ./{name}_5class_results" in said
    assert "effective batch 2" in said, "further flags win"
    assert not list(place.iterdir()), "a plan is no training"


# -- the quick start ---------------------------------------------------------------------------


@pytest.fixture
def quick_start(tmp_path):
    """The quick start in a folder with a space, where each Python command is only written down.

    Its commands fail if they hold the words of FAIL.
    """
    root = tmp_path / "a folder"
    (root / "quickstart_results/tf_efficientnet_lite0_shared_5class_results").mkdir(parents=True)
    for name in ("0/a.jpg", "0/b.jpg", "1/c.jpg"):
        picture = root / "demo_photographs" / "test" / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
    shutil.copy(ROOT / "quickstart.sh", root)
    (root / "setup_env.sh").write_text('echo "list $1" > commands; python=./python\n')
    (root / "python").write_text(
        "#!/usr/bin/env bash\n"
        'echo "$*" >> commands\n'
        'if [ -n "$FAIL" ] && [[ "$*" == *"$FAIL"* ]]; then exit 2; fi\n'
        'echo "hub ${HF_HUB_OFFLINE:-on}"\n'
    )
    (root / "python").chmod(0o755)
    return root


def test_the_quick_start_audits_trains_evaluates_and_sums_up_from_anywhere(quick_start, tmp_path):
    done = run_shell(quick_start / "quickstart.sh", tmp_path, FAIL="")
    assert done.returncode == 0, done.stderr
    first, *commands = (quick_start / "commands").read_text().splitlines()
    assert first == "list requirements-quickstart.txt" and (ROOT / first.split()[1]).is_file()
    scripts = [tuple(line.replace("-u ", "").split()[:2]) for line in commands]
    assert [words[0] for words in scripts] == [
        *("prepare_dataset.py", "train_ovo.py", "evaluate_ensemble.py", "predict.py", "explain.py"),
        "-m",
    ]
    for words, line in zip(scripts, commands):
        script = words if words[0] in ("prepare_dataset.py", "-m") else words[:1]
        assert all(flag in help_of(*script) for flag in re.findall(r" (--\w+)", line))
    new = quick_start / "quickstart_results" / "new_photographs"
    assert {path.name for path in new.iterdir()} == {"a.jpg", "c.jpg"}, "one of each grade, unnamed"
    assert "hub 1" in done.stdout, "no hub is asked"
    assert str(quick_start / "quickstart_results/ensemble/results/report.html") in done.stdout


def test_the_quick_start_ends_at_a_step_that_fails(quick_start, tmp_path):
    assert run_shell(quick_start / "quickstart.sh", tmp_path, FAIL="audit").returncode == 2
    assert "train_ovo" not in (quick_start / "commands").read_text(), "nothing learns from a leak"
    done = run_shell(quick_start / "quickstart.sh", tmp_path, FAIL="train_ovo")
    assert done.returncode == 2
    assert f'to begin anew: rm -r "{quick_start}/quickstart_results"' in done.stderr


# -- what the log holds ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_script_trains_resumes_and_keeps_bars_out_of_the_log(demo, shared_cache, tmp_path):
    values = {**QUICK, "pairs": "0-1", "dataset_path": demo, "cache_dir": shared_cache}
    words = flags(**values)
    assert run_shell("train_logged.sh", tmp_path, "log.txt", *words).returncode == 0
    first = (tmp_path / "log.txt").read_text()
    assert len(re.findall(r"Z  pair 0-1  epoch", first)) == 2
    assert "\r" not in first and "it/s" not in first and "%|" not in first
    again = run_shell("train_logged.sh", tmp_path, "log.txt", *words)
    assert again.returncode == 0, "run again it resumes"
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith(first) and len(log) > len(first)
    assert len(re.findall(r"Z  pair 0-1  epoch", log)) == 2, "and has nothing left to do"


@pytest.fixture
def stand_in(tmp_path):
    """Write the scripts of a backbone beside a trainer that is a few lines of Python."""

    def write(program: str) -> Path:
        for name in ("train_coatnet.sh", "train_guide.sh", "train_logged.sh"):
            shutil.copy(ROOT / name, tmp_path)
        (tmp_path / "train_ovo.py").write_text(program)
        return tmp_path

    return write


def test_help_goes_to_the_terminal_and_not_into_the_log(stand_in, tmp_path):
    folder = stand_in("import sys; print(sys.argv[1:])")
    (tmp_path / "here").mkdir()
    done = run_shell(folder / "train_coatnet.sh", tmp_path / "here", "--epochs", 3, "--help")
    assert (done.returncode, done.stdout) == (0, "['--help']\n")
    assert "--learning_rate" in help_of("train_ovo.py")
    assert not list((tmp_path / "here").iterdir())


def test_a_refused_command_leaves_its_error_on_the_terminal_alone(stand_in, tmp_path, capsys):
    assert train_ovo.main(["--base_models", MODEL, "--dataset_path", "/nope"]) == 2
    out, error = capsys.readouterr()
    assert "error: expected a dataset in '/nope'" in error and not begins_a_log(out + error)
    folder = stand_in(f"print({(out + error)!r}, end=''); raise SystemExit(2)")
    log = tmp_path / "coatnet_training_log.txt"
    log.write_text("an earlier training\n")
    done = run_shell(folder / "train_coatnet.sh", tmp_path, "--dataset_path", "/nope")
    assert done.returncode == 2 and "error: expected a dataset in '/nope'" in done.stdout
    assert log.read_text() == "an earlier training\n"


def test_a_refused_command_leaves_no_new_log(stand_in, tmp_path):
    script = stand_in("print('error: no'); raise SystemExit(2)") / "train_logged.sh"
    (tmp_path / "empty.txt").touch()
    for name in ("new.txt", "empty.txt"):
        done = run_shell(script, tmp_path, name)
        assert done.returncode == 2 and done.stdout == "error: no\n"
    assert not (tmp_path / "new.txt").exists()
    assert (tmp_path / "empty.txt").is_file(), "one that was there stays"


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    done = run_shell("train_logged.sh", tmp_path, "no/log.txt")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "error: cannot write no/log.txt; choose another folder\n"


def begins_a_log(said: str) -> bool:
    """Tell whether train_logged.sh takes what a trainer says for the beginning of a training."""
    return re.search(r"^\d{4}-\d\d-\d\d [\d:]{8}Z ", said, re.MULTILINE) is not None


def test_a_mistyped_flag_begins_no_log(capsys):
    with pytest.raises(SystemExit, match="2"):
        train_ovo.main(["--base_models", MODEL, "--epoch", "3"])
    said = capsys.readouterr().err
    assert "error: unrecognized arguments: --epoch 3" in said and not begins_a_log(said)


def test_a_refused_resume_begins_no_log(quick_train, trained_copy, tmp_path, capsys):
    values = {"learning_rate": 2e-3, "cache_dir": tmp_path / "c", "resume": None}
    assert quick_train(trained_copy, **values) == 2
    out, error = capsys.readouterr()
    assert "was trained differently" in error and not begins_a_log(out + error)
    assert not (tmp_path / "c").exists()


def test_a_second_training_begins_no_log_and_the_first_one_does(quick_train, tmp_path, capsys):
    directory = ResultDir(tmp_path / "r")
    with in_another_training(directory):
        assert quick_train(directory.root, resume=None) == 2
    out, error = capsys.readouterr()
    assert "is being trained by process" in error and not begins_a_log(out + error)
    assert quick_train(directory.root, resume=None, pairs="0-1", epochs=1) == 0
    assert begins_a_log(capsys.readouterr().out)


def test_what_a_library_says_before_training_begins_is_in_the_log_too(stand_in, tmp_path):
    lines = ["a warning", "2026-01-01 00:00:00Z  training", "error: late"]
    folder = stand_in("\n".join([*(f"print({line!r})" for line in lines), "raise SystemExit(1)"]))
    assert run_shell(folder / "train_logged.sh", tmp_path, "log.txt").returncode == 1
    log = tmp_path / "log.txt"
    wait_for(lambda: log.read_text().splitlines() == lines, 10)


# -- the guide's original entry ----------------------------------------------------------------


@pytest.fixture
def original_entry(monkeypatch):
    """Call the guide's original entry; returns the script that it hands over to, and its flags."""
    commands = []
    monkeypatch.setattr(os, "execv", lambda program, command: commands.append((program, command)))

    def run(*words):
        commands.clear()
        ensemble_5class_trainer.main([str(word) for word in words])
        [(program, [python, unbuffered, script, *rest])] = commands
        assert program == python == sys.executable and unbuffered == "-u"
        return Path(script), rest

    return run


@pytest.mark.slow
def test_the_guide_s_original_entry_trains_and_evaluates(
    original_entry, demo, shared_cache, trained_copy, tmp_path, monkeypatch
):
    (tmp_path / "dataset").symlink_to(demo)
    values = {"base_models": MODEL, "dataset_path": "./dataset", "output_dir": "./out"}
    common = flags(**values, cache_dir=shared_cache, device="cpu")
    words = [*common, "--no_pretrained", "--epochs", 1, "--pairs", "0-1"]
    train = run_script("ensemble_5class_trainer.py", "--mode", "train", *words, cwd=tmp_path)
    assert train.returncode == 0, train.stderr
    assert [path.name for path in (tmp_path / "out" / "models").iterdir()] == [
        f"best_{MODEL}_0_1.pth"
    ]

    assert original_entry("--mode", "train", *words) == (ROOT / "train_ovo.py", [*map(str, words)])
    script, rest = original_entry("--mode", "evaluate", *common)
    assert script == ROOT / "evaluate_ensemble.py"
    shutil.rmtree(tmp_path / "out")
    trained_copy.rename(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert evaluate_ensemble.main(rest) == 0
    assert (tmp_path / "out" / "results" / "metrics_test.json").is_file()


def test_the_guide_s_original_entry_refuses_other_modes(original_entry, capsys):
    with pytest.raises(SystemExit, match="2"):
        original_entry("--mode", "dance")
    assert "invalid choice: 'dance'" in capsys.readouterr().err
