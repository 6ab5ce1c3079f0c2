"""SIGKILL, SIGTERM and Ctrl-C at any moment lose no finished epoch."""

import os
import signal
import subprocess

import pytest
from helpers import (
    FOUR_EPOCHS,
    HEAD,
    MODEL,
    ROOT,
    at_step,
    flags,
    history_of,
    same_weights,
    wait_for,
)

from common.models import checkpoint_file
from common.pixel_store import filling
from common.pixels.preprocessing import load_picture
from common.result_dir.paths import ResultDir
from dev import kill_training


@pytest.mark.slow
def test_random_sigkills_and_resumes_give_the_same_bits(tmp_path):
    kills, identical = kill_training.joint_campaign(tmp_path, 2, 6, 1, hosts=False)
    assert kills and identical, "of two processes in one directory; a fast one may end unharmed"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("frequency", [1, 3])
def test_a_signal_ends_after_the_step_and_loses_no_epoch(
    quick_train, undisturbed, tmp_path, monkeypatch, capfd, number, status, frequency
):
    output = tmp_path / "r"
    with monkeypatch.context() as patch:
        steps = at_step(patch, 11, lambda: os.kill(os.getpid(), number))  # the 3rd of epoch 3
        assert quick_train(output, checkpoint_frequency=frequency, **FOUR_EPOCHS) == status
    said = capfd.readouterr().err
    assert len(steps) == 11, "the step is finished, no other begun"
    assert "stopping after this step" in said and "--resume" in said
    state = checkpoint_file.load_checkpoint(ResultDir(output).last(MODEL, HEAD))
    assert state["epoch"] == 2 and len(history_of(output)) == 2, "whatever the frequency"
    assert not list(output.glob(".lock*"))
    assert quick_train(output, resume=None, checkpoint_frequency=frequency, **FOUR_EPOCHS) == 0
    assert same_weights(output, undisturbed) and history_of(output) == history_of(undisturbed)


def test_a_second_ctrl_c_ends_at_once(quick_train, undisturbed, tmp_path, monkeypatch, capfd):
    output, after = tmp_path / "r", []

    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        after.append("not reached")

    with monkeypatch.context() as patch:
        at_step(patch, 8, twice)
        assert quick_train(output, **FOUR_EPOCHS) == 130
    assert not after and "interrupted; what was complete is kept" in capfd.readouterr().err
    assert quick_train(output, resume=None, **FOUR_EPOCHS) == 0
    assert same_weights(output, undisturbed)


def test_sigterm_while_decoding_is_one_line(quick_train, tmp_path, monkeypatch, capfd):
    def ends(path, preprocessing):
        os.kill(os.getpid(), signal.SIGTERM)
        return load_picture(path, preprocessing)

    monkeypatch.setattr(filling, "load_picture", ends)
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR_EPOCHS) == 143
    assert "stopped by SIGTERM; what was complete is kept" in capfd.readouterr().err
    assert not (tmp_path / "r" / "config.json").exists(), "no run has begun"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_log_script_passes_signal_status_and_hint_on(demo, tmp_path, number, status):
    values = {"base_models": MODEL, "no_pretrained": None, "epochs": 500, "patience": 500}
    words = flags(**values, pairs="0-1", dataset_path=demo, device="cpu", output_dir="r")
    process = subprocess.Popen(
        [ROOT / "train_logged.sh", "log.txt", *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = tmp_path / "log.txt"
    wait_for(lambda: log.is_file() and "  epoch   1/500" in log.read_text(), 120)
    if number == signal.SIGINT:  # a terminal sends it to the undisturbed group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(60) == status
    wait_for(lambda: "again with --resume" in log.read_text(), 10)
