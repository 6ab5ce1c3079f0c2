"""Ctrl-C and SIGTERM end a program without a traceback, also while it imports its libraries."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.system import signals

ROOT = Path(__file__).resolve().parents[2]
HANDS_OVER = "ensemble_5class_trainer.py"  # at once, without importing a library
SCRIPTS = sorted({path.name for path in ROOT.glob("*.py")} - {HANDS_OVER})
MODULES = [
    "benchmarks.accuracy",
    "benchmarks.run",
    "dev.ablation",
    "dev.bf16_vs_fp32",
    "dev.golden",
]
MODULES += ["dev.kill_training", "dev.profile_step"]


def signalled_while_importing(words: list[str], number: int) -> subprocess.CompletedProcess[str]:
    """Start Python and send it a signal when NumPy, which these scripts import, begins to load."""
    process = subprocess.Popen(
        [sys.executable, "-v", *words, "--help"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("import 'numpy._globals'"):
            process.send_signal(number)
            break
    said = [line for line in process.stderr if not line.startswith(("import ", "#"))]
    return subprocess.CompletedProcess(words, process.wait(), None, "".join(said))


@pytest.mark.parametrize(
    "words",
    [
        *([script] for script in SCRIPTS),
        *(pytest.param(["-m", module], marks=pytest.mark.slow) for module in MODULES),
    ],
    ids="".join,
)
def test_ctrl_c_during_imports_ends_without_a_traceback(words):
    ended = signalled_while_importing(words, signal.SIGINT)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == -signal.SIGINT, "which a shell shows as 130"


def test_sigterm_during_imports_ends_without_a_traceback():
    ended = signalled_while_importing(["train_ovo.py"], signal.SIGTERM)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == -signal.SIGTERM, "which a shell shows as 143"


def test_ctrl_c_is_an_exception_again_once_a_script_has_started():
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with signals.ending_at_once(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_to_be_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.ending_at_once():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_next_check_and_a_second_one_does_not(capfd):
    with signals.ending_at_once(), signals.waiting_for_check():
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGTERM: stopping after this step" in capfd.readouterr().err
        with pytest.raises(signals.Stopped, match="15"):
            signals.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_sigterm_that_comes_twice_at_once_is_one_and_a_later_one_ends(monkeypatch):
    with signals.ending_at_once(), signals.waiting_for_check():
        for _ in range(2):  # of a batch system to all processes, and of the script above us
            os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(signals, "_SAME", 0.0)
        with pytest.raises(signals.Stopped):
            os.kill(os.getpid(), signal.SIGTERM)


def test_importing_the_library_elsewhere_leaves_ctrl_c_alone():
    code = "import signal, common; print(signal.getsignal(2) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n"
