"""Faults, each injected; docs/RELIABILITY.md lists them with what happens."""

import errno
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import QUICK, flags

import evaluate_ensemble
from common import result_dir
from common.data import folders, pixel_cache
from common.data.folders import scan_split
from common.data.pixel_cache import open_cache
from common.data.preprocessing import Preprocessing, load_pixels
from common.models import checkpoint
from common.pairs import pair_head
from common.result_dir import ResultDir
from common.system import files, run_lock
from common.system.errors import InputError
from common.training import loop

ROOT = Path(__file__).parents[1]
SETTINGS = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MODEL = "demo_convnext"
PAIR = (0, 1)
FOUR = {"pairs": "0-1", "epochs": 4, "min_delta": 0}  # a training of one pair


def tensors(output, pair=PAIR):
    content = checkpoint.load_pair_content(ResultDir(output).best(MODEL, pair_head(pair)))
    return {
        (part, key): value
        for part in ("trunk", "top", "classifier")
        for key, value in content[part].items()
    }


def same(one, two):
    first, other = tensors(one), tensors(two)
    return first.keys() == other.keys() and all(torch.equal(first[k], other[k]) for k in first)


def rows(output):
    return [
        (r["pair"], r["epoch"], r["train_loss"], r["val_loss"])
        for r in result_dir.read_history(ResultDir(output).history)
    ]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, demo, shared_cache):
    """The training of one pair over four epochs, left in peace."""
    import train_ovo

    output = tmp_path_factory.mktemp("whole") / "r"
    values = {**QUICK, **FOUR, "dataset_path": demo, "cache_dir": shared_cache}
    assert train_ovo.main(flags(**values, output_dir=output)) == 0
    return output


def at_step(monkeypatch, number, action):
    """Do something at a step of the training, counted from 1 over all epochs."""
    step, steps = loop.train_step, []

    def acts(*inputs):
        steps.append(1)
        if len(steps) == number:
            action()
        step(*inputs)

    monkeypatch.setattr(loop, "train_step", acts)
    return steps


@pytest.fixture
def stopped(quick_train, tmp_path, monkeypatch):
    """The same training stopped in its fourth epoch, with two checkpoints on the disk."""
    output = tmp_path / "r"
    with monkeypatch.context() as patch:
        at_step(patch, 14, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert quick_train(output, **FOUR) == 143
    return output


# -- ends that nobody chose --------------------------------------------------------------------


def stress():
    spec = importlib.util.spec_from_file_location("kill", ROOT / "stress" / "kill_training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_random_sigkills_and_resumes_give_the_same_bits(tmp_path):
    kills, identical = stress().campaign(tmp_path, 2, 6, 1)
    assert kills == 2 and identical


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("frequency", [1, 3])
def test_a_signal_ends_after_the_step_and_loses_no_epoch(
    quick_train, whole, tmp_path, monkeypatch, capfd, number, status, frequency
):
    output = tmp_path / "r"
    with monkeypatch.context() as patch:
        steps = at_step(patch, 11, lambda: os.kill(os.getpid(), number))  # the 3rd of epoch 3
        assert quick_train(output, checkpoint_frequency=frequency, **FOUR) == status
    said = capfd.readouterr().err
    assert len(steps) == 11, "the step is finished, no other begun"
    assert "stopping after this step" in said and "--resume" in said
    state = checkpoint.load_checkpoint(ResultDir(output).last(MODEL, pair_head(PAIR)))
    assert state["epoch"] == 2 and len(rows(output)) == 2, "whatever the frequency"
    assert not (output / ".lock").exists()
    assert quick_train(output, resume=None, checkpoint_frequency=frequency, **FOUR) == 0
    assert same(output, whole) and rows(output) == rows(whole)


def test_a_second_ctrl_c_ends_at_once(quick_train, whole, tmp_path, monkeypatch, capfd):
    output, after = tmp_path / "r", []

    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        after.append("not reached")

    with monkeypatch.context() as patch:
        at_step(patch, 8, twice)
        assert quick_train(output, **FOUR) == 130
    assert not after and "interrupted; what was complete is kept" in capfd.readouterr().err
    assert quick_train(output, resume=None, **FOUR) == 0
    assert same(output, whole)


def test_sigterm_while_decoding_is_one_line(quick_train, tmp_path, monkeypatch, capfd):
    def ends(path, preprocessing):
        os.kill(os.getpid(), signal.SIGTERM)
        return load_pixels(path, preprocessing)

    monkeypatch.setattr(pixel_cache, "load_pixels", ends)
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR) == 143
    assert "stopped by SIGTERM; what was complete is kept" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_log_script_passes_signal_status_and_hint_on(demo, tmp_path, number, status):
    words = [
        str(ROOT / "train_logged.sh"),
        "log.txt",
        "--base_models",
        MODEL,
        "--no_pretrained",
        "--epochs",
        "500",
        "--patience",
        "500",
        "--pairs",
        "0-1",
        "--dataset_path",
        str(demo),
        "--device",
        "cpu",
        "--output_dir",
        "r",
    ]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    log = tmp_path / "log.txt"
    wait_for(lambda: log.is_file() and "  epoch   1/500" in log.read_text(), 120)
    if number == signal.SIGINT:  # a terminal sends it to the whole group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(60) == status
    wait_for(lambda: "a training with --resume" in log.read_text(), 10)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# -- two trainings, one directory --------------------------------------------------------------


def test_a_second_training_is_refused_and_names_the_first(quick_train, tmp_path, capsys):
    with run_lock.lock_directory(tmp_path / "r", tmp_path / "r" / ".lock"):
        assert quick_train(tmp_path / "r", **FOUR) == 2
    error = capsys.readouterr().err
    assert f"is being trained by process {os.getpid()} on" in error and error.count("\n") == 1
    assert not (tmp_path / "r" / "models").exists()
    assert quick_train(tmp_path / "r", **FOUR) == 0


def test_the_lock_of_a_dead_process_is_taken_over(quick_train, tmp_path, capsys):
    directory = ResultDir(tmp_path / "r")
    child = os.fork()
    if not child:
        lock = run_lock.lock_directory(directory.root, directory.lock)
        lock.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (directory.root / ".config.json.abc.part").write_bytes(b"half")
    assert directory.lock.is_file()
    assert quick_train(directory.root, **FOUR) == 0
    assert f"left by process {child} on" in capsys.readouterr().out
    assert not directory.lock.exists() and not directory.leftovers()


def test_a_lock_file_of_nonsense_locks_all_the_same(tmp_path):
    directory = ResultDir(tmp_path)
    directory.lock.write_text('{"pid": "<script>"}')
    with (
        run_lock.lock_directory(directory.root, directory.lock),
        pytest.raises(InputError, match="is being trained by process"),
    ):
        run_lock.lock_directory(directory.root, directory.lock).__enter__()


# -- a full disk -------------------------------------------------------------------------------


def fill_disk(monkeypatch, matches):
    """Let the disk be full for files whose path matches."""
    real = os.fsync

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        if matches(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)


@pytest.mark.parametrize("name", [".last_", ".best_", ".history.csv", ".config.json"])
def test_a_full_disk_keeps_the_old_files_and_is_one_line(
    quick_train, whole, tmp_path, monkeypatch, capsys, name
):
    output = tmp_path / "r"
    with monkeypatch.context() as patch:
        seen = []
        fill_disk(
            patch,
            lambda path: f"/{name}" in path
            and not seen.append(1)
            and len(seen) >= {".config.json": 1, ".best_": 2}.get(name, 3),
        )
        assert quick_train(output, **FOUR) != 0
    error = capsys.readouterr().err
    assert "No space left on device at " in error and name[1:] in error and error.count("\n") == 1
    assert not list(output.rglob("*.part"))
    for path in output.rglob("*.pth"):
        checkpoint.load_checkpoint(path)
    assert quick_train(output, resume=None, **FOUR) == 0
    assert same(output, whole) and rows(output) == rows(whole)


def test_a_full_disk_while_decoding_is_one_line(quick_train, tmp_path, monkeypatch, capsys):
    real = os.pwrite

    def pwrite(handle, data, place):
        if len(data) > 5000 and place > 10 * len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data, place)

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "pwrite", pwrite)
        assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR) == 2
    error = capsys.readouterr().err
    assert "No space left on device at " in error and "pixels.u8" in error
    index = next((tmp_path / "c").rglob("index.json"))
    assert json.loads(index.read_text()), "what was decoded is kept"
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", resume=None, **FOUR) == 0


def test_a_full_disk_while_writing_metrics_keeps_the_old_ones(
    trained, demo, shared_cache, tmp_path, monkeypatch, capsys
):
    copy = shutil.copytree(trained, tmp_path / "r")
    words = flags(
        results_dirs=copy, dataset_path=demo, cache_dir=shared_cache, device="cpu", resamples=20
    )
    assert evaluate_ensemble.main(words) == 0
    before = (copy / "results" / "metrics_test.json").read_bytes()
    fill_disk(monkeypatch, lambda path: "/.metrics_test.json" in path)
    assert evaluate_ensemble.main(words) == 2
    error = capsys.readouterr().err
    assert "No space left on device at " in error and error.count("\n") == 1
    assert (copy / "results" / "metrics_test.json").read_bytes() == before


def test_a_full_disk_under_the_log_script_is_not_success(demo, shared_cache, tmp_path):
    words = train_words(demo, shared_cache, tmp_path / "r")[2:]
    done = subprocess.run(
        [str(ROOT / "train_logged.sh"), "/dev/full", *words], capture_output=True, text=True
    )
    assert done.returncode not in (0, None)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    missing = [str(ROOT / "train_logged.sh"), str(tmp_path / "no" / "log.txt"), *words]
    assert subprocess.run(missing, capture_output=True).returncode == 2


def train_words(demo, shared_cache, output):
    values = {**QUICK, **FOUR, "dataset_path": demo, "cache_dir": shared_cache}
    words = flags(**values, output_dir=output, resume=None)
    return [sys.executable, str(ROOT / "train_ovo.py"), *words]


def test_a_log_on_a_full_disk_is_one_line(demo, shared_cache, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            train_words(demo, shared_cache, tmp_path / "r"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


def test_curves_on_a_full_disk_are_one_line(quick_train, tmp_path, monkeypatch, capfd):
    """TensorBoard writes from a thread of its own and without care for a full disk."""
    from tensorboard.summary.writer import record_writer

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    assert quick_train(tmp_path / "r", **FOUR) != 0
    error = capfd.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1


@pytest.mark.slow
def test_a_real_limit_on_file_size_is_one_line(demo, shared_cache, tmp_path):
    limit = (20_000, 20_000)  # bytes: smaller than a checkpoint
    done = subprocess.run(
        train_words(demo, shared_cache, tmp_path / "r"),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 2
    assert "File too large at " in done.stderr and done.stderr.count("\n") == 1


# -- damaged files -----------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    quick_train, whole, stopped, capsys, damage
):
    last = ResultDir(stopped).last(MODEL, pair_head(PAIR))
    damage(last)
    assert quick_train(stopped, resume=None, **FOUR) == 0
    said = capsys.readouterr().out
    assert f"pair 0-1: {last}: " in said and "it goes on after epoch 2" in said
    assert same(stopped, whole) and rows(stopped) == rows(whole)
    assert not ResultDir(stopped).unfinished()


def test_where_no_checkpoint_is_good_the_pair_is_trained_from_the_start(
    quick_train, whole, stopped, capsys
):
    flip(ResultDir(stopped).last(MODEL, pair_head(PAIR)))
    flip(ResultDir(stopped).previous(MODEL, pair_head(PAIR)))
    assert quick_train(stopped, resume=None, **FOUR) == 0
    assert capsys.readouterr().out.count("it is trained from the start") == 1
    assert same(stopped, whole) and rows(stopped) == rows(whole)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_classifier_is_named_and_trained_again(
    quick_train, whole, stopped, tmp_path, capsys, finished
):
    output = shutil.copytree(whole, tmp_path / "done") if finished else stopped
    best = ResultDir(output).best(MODEL, pair_head(PAIR))
    flip(best)
    with pytest.raises(checkpoint.DamagedError, match="damaged checkpoint"):
        checkpoint.load_pair_content(best)
    assert quick_train(output, resume=None, **FOUR) == 0
    assert f"pair 0-1: {best}: damaged" in capsys.readouterr().out
    assert same(output, whole) and rows(output) == rows(whole)


def test_files_without_a_checksum_still_load(whole, tmp_path):
    path = ResultDir(whole).best(MODEL, pair_head(PAIR))
    content = torch.load(path, weights_only=True)
    assert len(content.pop("checksum")) == 64
    torch.save(content, tmp_path / "old.pth")
    assert checkpoint.load_pair_content(tmp_path / "old.pth").keys() == content.keys()


def test_another_pair_s_classifier_is_named_and_trained_again(whole, quick_train, tmp_path, capsys):
    output = tmp_path / "r"
    assert quick_train(output, **{**FOUR, "pairs": ["0-1", "2-3"]}) == 0
    files = ResultDir(output)
    shutil.copy(files.best(MODEL, pair_head((2, 3))), files.best(MODEL, pair_head(PAIR)))
    assert quick_train(output, **{**FOUR, "pairs": ["0-1", "2-3"]}, resume=None) == 0
    assert "is the classifier of demo_convnext [2, 3]" in capsys.readouterr().out
    assert same(output, whole)


def test_a_state_newer_than_its_classifier_is_not_trusted(quick_train, whole, stopped, capsys):
    best = ResultDir(stopped).best(MODEL, pair_head(PAIR))
    content = checkpoint.load_pair_content(best)
    checkpoint.save_checkpoint(best, {**content, "best_epoch": 0})
    assert quick_train(stopped, resume=None, **FOUR) == 0
    assert "of another epoch; it is trained from the start" in capsys.readouterr().out
    assert same(stopped, whole)


# -- directories and images --------------------------------------------------------------------


def test_a_directory_that_cannot_be_written_is_refused_before_decoding(
    quick_train, tmp_path, monkeypatch, capsys
):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(run_lock.os, "open", refuse)
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR) == 2
    error = capsys.readouterr().err
    assert "Permission denied at " in error and error.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_a_worker_that_dies_keeps_what_the_others_have_done(demo, tmp_path, monkeypatch):
    def dies(path, preprocessing):
        if path.name.endswith("3_0002.jpg"):
            raise RuntimeError("worker died")
        return load_pixels(path, preprocessing)

    split = scan_split(demo, "val")
    monkeypatch.setattr(pixel_cache, "load_pixels", dies)
    with pytest.raises(InputError, match=r"1 images .*3_0002.jpg: RuntimeError: worker died"):
        open_cache(split, SETTINGS, tmp_path, 2)
    monkeypatch.setattr(pixel_cache, "load_pixels", load_pixels)
    assert len(open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))) == 20


def test_an_image_replaced_while_it_is_decoded_is_named(demo, tmp_path, monkeypatch):
    root = shutil.copytree(demo, tmp_path / "images")
    split = scan_split(root, "val")

    def replaced(path, preprocessing):
        if path == split.paths[4]:
            path.write_bytes(split.paths[5].read_bytes())
        return load_pixels(path, preprocessing)

    monkeypatch.setattr(pixel_cache, "load_pixels", replaced)
    with pytest.raises(InputError, match="was changed while the images were read"):
        open_cache(split, SETTINGS, tmp_path / "c", 1)


def test_images_deleted_in_mid_run_are_not_missed_and_resume_notices(
    quick_train, whole, demo, tmp_path, monkeypatch, capsys
):
    root = shutil.copytree(demo, tmp_path / "images")
    values = {**FOUR, "dataset_path": root, "cache_dir": tmp_path / "c"}
    doomed = next((root / "train" / "1").iterdir())
    with monkeypatch.context() as patch:
        at_step(patch, 3, doomed.unlink)
        assert quick_train(tmp_path / "r", **values) == 0
    assert same(tmp_path / "r", whole), "training reads the cache"
    assert quick_train(tmp_path / "r", resume=None, **values) == 2
    assert "data: " in capsys.readouterr().err


def test_a_class_of_one_image_trains(quick_train, demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    for split in ("train", "val"):
        for path in sorted((root / split / "1").iterdir())[1:]:
            path.unlink()
    for model in (MODEL, "demo_coatnet"):
        values = {"dataset_path": root, "pairs": "0-1", "base_models": model}
        assert quick_train(tmp_path / model, **values) == 0


# -- settings and clocks -----------------------------------------------------------------------


def test_override_accepts_other_settings_and_records_them(quick_train, stopped, capsys):
    changed = {**FOUR, "learning_rate": 2e-3, "weight_decay": 0.01, "batch_size": 4}
    assert quick_train(stopped, resume=None, **changed) == 2
    error = capsys.readouterr().err
    assert "learning_rate: 0.001 -> 0.002" in error and "--override accepts" in error
    before = rows(stopped)
    assert quick_train(stopped, resume=None, override=None, **changed) == 0
    content = json.loads((stopped / "config.json").read_text())
    (entry,) = content["overrides"]
    assert {"name": "learning_rate", "from": 0.001, "to": 0.002} in entry["changes"]
    assert entry["after_epoch"]["0-1"] == 3 and entry["when"].endswith("+00:00")
    assert content["config"]["learning_rate"] == 2e-3
    assert rows(stopped)[:3] == before and len(rows(stopped)) == 4
    assert quick_train(stopped, resume=None, **changed) == 0, "they are the settings now"


@pytest.mark.parametrize("change", [{"img_size": 96}, {"freeze_weights": "false"}])
def test_override_cannot_change_network_or_pixels(quick_train, stopped, capsys, change):
    assert quick_train(stopped, resume=None, override=None, **FOUR, **change) == 2
    assert "no --override can change that" in capsys.readouterr().err


def test_override_needs_resume(quick_train, tmp_path, capsys):
    assert quick_train(tmp_path / "r", override=None, **FOUR) == 2
    assert "add --resume" in capsys.readouterr().err


def test_a_clock_that_goes_backwards_changes_nothing(
    quick_train, whole, tmp_path, monkeypatch, capsys
):
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(loop, "_HEARTBEAT", 0.0)
    assert quick_train(tmp_path / "r", **FOUR) == 0
    said = capsys.readouterr().out
    assert "epoch ends in " in said and "in -" not in said and "ETA -" not in said
    records = result_dir.read_history(ResultDir(tmp_path / "r").history)
    assert all(float(row["seconds"]) > 0 and float(row["images_per_second"]) > 0 for row in records)
    assert same(tmp_path / "r", whole)


# -- reproducibility ---------------------------------------------------------------------------


def test_verify_recomputes_what_is_stored(trained, demo, shared_cache, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "r")
    words = flags(
        results_dirs=copy,
        dataset_path=demo,
        cache_dir=shared_cache,
        device="cpu",
        resamples=20,
        split="val",
        precision="fp32",
    )
    path = copy / "results" / "predictions_val.npz"
    path.unlink(missing_ok=True)
    assert evaluate_ensemble.main([*words, "--verify"]) == 2
    assert "--verify: expected stored predictions" in capsys.readouterr().err
    assert evaluate_ensemble.main(words) == 0
    assert evaluate_ensemble.main([*words, "--verify"]) == 0
    said = capsys.readouterr().out
    assert "difference of a probability 0, tolerance 1e-06: PASS" in said
    with np.load(path, allow_pickle=False) as file:
        good = dict(file)
    scores = good["pair_probabilities"]
    for name, value, said in (
        ("pair_probabilities", np.where(scores == scores[3, 2], 1 - scores, scores), ": FAIL"),
        ("pair_probabilities", np.clip(scores + 1e-4, 0, 1), ": FAIL"),
        ("class_probabilities", np.roll(good["class_probabilities"], 1, axis=1), ": FAIL"),
        ("predictions", (good["predictions"] + 1) % 5, "changed since: predictions: FAIL"),
        ("pair_val_accuracies", good["pair_val_accuracies"] * 0.5, "validation accuracies"),
    ):
        np.savez_compressed(path, **{**good, name: value})
        before = path.read_bytes()
        assert evaluate_ensemble.main([*words, "--verify"]) == 1
        assert said in capsys.readouterr().out and path.read_bytes() == before


def test_config_says_what_a_run_depends_on(whole):
    content = json.loads((whole / "config.json").read_text())
    assert content["seed"] == 42 and {"torch", "numpy", "opencv"} <= set(content["versions"])
    assert len(content["data"]["train"]) == 16 and "git_commit" in content
    assert content["created"].endswith("+00:00")
