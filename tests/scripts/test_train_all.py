"""train_all.sh: several backbones unattended, each as its own script would train it."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from helpers import ROOT, run_shell, wait_for

# stands in for train_ovo.py: says what an environment variable of its backbone's name asks for
TRAINER = """
import os, signal, sys, time
name = sys.argv[sys.argv.index("--base_models") + 1]
gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "-")

def note(word):
    with open("calls.txt", "a") as file:
        file.write(f"{word} {name} {gpu} {' '.join(sys.argv)}\\n")

def stop(*_):
    print("error: stopped, saved", flush=True)
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
note("begin")
if "--dry_run" in sys.argv and os.environ.get(name) != "refused":
    print(open("plan.txt").read())
    sys.exit()
if os.environ.get(name) == "refused":
    print("error: expected something else")
    sys.exit(2)
if os.environ.get(name) == "left":
    print("error: left to others: ./r: 0-1 by process 7", flush=True)
    sys.exit(3)
print("2026-01-01 00:00:00Z  training", flush=True)
time.sleep(float(os.environ.get("TAKES", "0")))
note("end")
"""
TWO_GPUS = """
import os
asked = set(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","))
class cuda:
    device_count = lambda: len(asked & {"0", "1"})
"""


@pytest.fixture
def folder(tmp_path):
    """The scripts beside a stand-in for the trainer, and a PyTorch that knows two GPUs."""
    for name in ("train_all.sh", "train_guide.sh", "train_logged.sh"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "train_ovo.py").write_text(TRAINER)
    (tmp_path / "torch.py").write_text(TWO_GPUS)
    return tmp_path


def calls(folder, word: str) -> list[list[str]]:
    """List the stand-in's words that begin or end a training: backbone, GPU, flags."""
    lines = [line.split() for line in (folder / "calls.txt").read_text().splitlines()]
    return [line[1:] for line in lines if line[0] == word]


def table(said: str) -> dict[str, str]:
    """Read the rows of the last table."""
    rows = said.split("\nbackbone ")[1].splitlines()[1:]
    return {row.split()[0]: " ".join(row.split()[1:]) for row in rows if row.startswith(("c", "s"))}


def test_it_goes_on_after_a_failure_and_says_so_at_the_end(folder):
    words = [
        "--backbones",
        "coatnet",
        "convnext",
        "swinv2",
        "--weights",
        "swinv2=a.pth",
        "--epochs",
        "3",
    ]
    done = run_shell(folder / "train_all.sh", folder, *words, convnext_tiny="refused")
    assert done.returncode == 1 and "error: some have failed" in done.stderr
    rows = table(done.stdout)
    assert re.fullmatch(r"complete 0:00:\d\d coatnet_training_log.txt", rows["coatnet"])
    assert re.fullmatch(r"FAILED \(2\) 0:00:\d\d error: expected something else", rows["convnext"])
    assert "complete" in rows["swinv2"]
    begun = calls(folder, "begin")
    assert [line[0] for line in begun] == [
        *("coatnet_0_rw_224", "convnext_tiny", "swinv2_tiny_window8_256")
    ]
    assert all(line[-2:] == ["--epochs", "3"] and "--resume" in line for line in begun)
    assert ["--weights" in line for line in begun] == [False, False, True]
    assert "training" in (folder / "swinv2_training_log.txt").read_text()


def test_what_was_left_to_others_is_not_complete(folder):
    words = ["--backbones", "coatnet", "convnext", "--pairs", "0-1"]
    done = run_shell(folder / "train_all.sh", folder, *words, convnext_tiny="left")
    assert done.returncode == 1 and done.stderr.startswith("error: other processes had a part")
    rows = table(done.stdout)
    assert rows["coatnet"].startswith("complete, its pairs 0:00:")
    assert "convnext is complete" not in done.stdout
    assert rows["convnext"].endswith(" left to others: ./r: 0-1 by process 7")
    assert rows["convnext"].startswith("ended 0:00:")
    assert all("--require_trained" in line for line in calls(folder, "begin"))


def test_each_gpu_takes_the_next_one_when_it_is_free(folder):
    names = ["--backbones=coatnet", "--backbones", "convnext", "swinv2"]
    words = ["--gpus", "1,0", *names]
    done = run_shell(folder / "train_all.sh", folder, *words, TAKES="0.8")
    assert done.returncode == 0, done.stderr
    gpus = [line[1] for line in calls(folder, "begin")]
    assert sorted(gpus[:2]) == ["0", "1"] and len(gpus) == 3
    order = [line.split()[0] for line in (folder / "calls.txt").read_text().splitlines()]
    assert order[:3] == ["begin", "begin", "end"], "one training to a GPU"
    assert all(line[-2:] == ["--device", "cuda"] for line in calls(folder, "begin"))


@pytest.mark.parametrize("group", [False, True], ids=["to it alone", "to all processes"])
def test_sigterm_ends_all_with_everything_saved(folder, group):
    words = ["--gpus", "0,1", "--backbones", "coatnet", "convnext", "swinv2"]
    process = subprocess.Popen(
        [folder / "train_all.sh", *words],
        cwd=folder,
        env={
            **os.environ,
            "TAKES": "60",
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    logs = [folder / f"{name}_training_log.txt" for name in ("coatnet", "convnext")]
    wait_for(lambda: all(log.is_file() and "training" in log.read_text() for log in logs), 60)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    rows = table(said)
    assert rows["coatnet"].startswith("stopped, all saved") and rows["swinv2"] == "not begun"
    for log in logs:
        wait_for(lambda log=log: "saved" in log.read_text(), 10)
    assert "run the same command again" in said


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--gpus 0,,1", "--gpus: expected numbers such as 0,1,2,3, found '0,,1'"),
        ("--gpus", "--gpus: expected numbers such as 0,1,2,3, found ''"),
        ("--gpus 0,7", "--gpus 0,7: expected 2 different GPUs of this machine, found 1"),
        ("--gpus 1,1", "--gpus 1,1: expected 2 different GPUs of this machine, found 1"),
        ("--gpus 0 --device cpu", "--gpus and --device exclude each other"),
        ("--backbones coatnet coatnet", "--backbones: coatnet twice"),
        ("--backbones --epochs 3", "--backbones: expected names, found none"),
        ("--weights a.pth", "--weights: expected BACKBONE=PATH for each, found 'a.pth'"),
        ("--weights=coatnet=a.pth", "--weights=coatnet=a.pth: expected --weights BACKBONE=PATH, "),
        ("--weights vgg=a.pth", "--weights: vgg is not among the backbones"),
        ("--output_dir x", "--output_dir: each backbone has its own"),
        ("--base_models coatnet", "--base_models: expected --backbones"),
    ],
)
def test_what_cannot_be_is_one_line(folder, words, error):
    done = run_shell(folder / "train_all.sh", folder, *words.split())
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: {error}") and done.stderr.count("\n") == 1
    assert not (folder / "calls.txt").exists()


def test_an_unknown_backbone_is_one_line(folder):
    for name in ("models", "system"):
        (folder / "common" / name).mkdir(parents=True)
    shutil.copy(ROOT / "common" / "system" / "errors.py", folder / "common" / "system")
    (folder / "common" / "models" / "backbones.py").write_text(  # the real one imports for seconds
        "from common.system.errors import InputError\n"
        "def resolve(name):\n"
        "    raise InputError(f'unknown model {name!r}; did you mean convnext?')\n"
    )
    done = run_shell(folder / "train_all.sh", folder, "--backbones", "coatnet", "convnexxt")
    assert done.returncode == 2 and not done.stdout
    error = "error: --backbones: unknown model 'convnexxt'; did you mean convnext?\n"
    assert done.stderr == error
    assert not (folder / "calls.txt").exists()


def test_the_plan_sums_hours_memory_and_disk(folder, quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", dry_run=None) == 0
    plan = capsys.readouterr().out
    for line, figures in {  # one that train_ovo.py prints, with figures that are easy to add
        r"  cache: \S+ GB in \S+": "  cache: 0.50 GB in /c/a key",
        r"  memory: about \S+": "  memory: about 3.5",
        r"  disk: about \S+ GB in \S+, \S+": "  disk: about 1.25 GB in ./r, 2.50",
        r"  time: about .* an epoch, .* for": "  time: about 12 min an epoch, 3 h 30 min for",
    }.items():
        plan, found = re.subn(line, figures, plan)
        assert found == 1, line
    (folder / "plan.txt").write_text(plan)
    done = run_shell(folder / "train_all.sh", folder, "--dry_run", "--gpus", "0,1", "--epochs", 9)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("1*")), "awk has written no file"
    rows = done.stdout.split("\nbackbone ")[1].splitlines()[1:]
    assert rows[2].split() == ["swinv2", "3.50", "3.5", "1.25", "0"]
    assert rows[7:] == [
        "GPU 0: 14.0 h, at most 3.5 GB of memory",
        "GPU 1: 10.5 h, at most 3.5 GB of memory",
        "all: 24.5 h, done after 14.0 h on 2 workers, without early stopping; at most 3.5 GB of "
        "memory each",
        "disk: 8.75 GB of results, at most 17.50 GB more until all are complete, 0.50 GB of cache",
    ]
    assert len(calls(folder, "begin")) == 7
    (folder / "plan.txt").write_text(2 * plan)  # of two seeds
    done = run_shell(folder / "train_all.sh", folder, "--dry_run", "--seed", 0, 1)
    rows = done.stdout.split("\nbackbone ")[1].splitlines()[1:]
    assert rows[2].split() == ["swinv2", "7.00", "3.5", "2.50", "-"]
    refused = run_shell(folder / "train_all.sh", folder, "--dry_run", resnet50="refused")
    assert refused.returncode == 2 and "error: no plan of resnet50" in refused.stderr
    assert re.search(r"^resnet50 +refused$", refused.stdout, re.MULTILINE)
