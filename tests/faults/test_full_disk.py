"""A full disk keeps the old files whole and ends in one line that names the file."""

import errno
import os
import resource
import subprocess

import pytest
from helpers import FOUR_EPOCHS, QUICK, ROOT, fill_disk, flags, history_of, run_script, same_weights

import evaluate_ensemble
import train_ovo
from common.data import folders
from common.models import checkpoint_file


@pytest.fixture
def words(demo, shared_cache, tmp_path):
    """Flags of a quick training in a process of its own."""
    values = {**QUICK, **FOUR_EPOCHS, "dataset_path": demo, "cache_dir": shared_cache}
    return flags(**values, output_dir=tmp_path / "r", resume=None)


@pytest.mark.parametrize("name", [".last_", ".best_", ".history.csv", ".config.json"])
def test_a_full_disk_keeps_the_old_files_and_is_one_line(
    quick_train, undisturbed, tmp_path, monkeypatch, capsys, name
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
        assert quick_train(output, **FOUR_EPOCHS) != 0
    error = capsys.readouterr().err
    assert "No space left on device at " in error and name[1:] in error and error.count("\n") == 1
    assert not list(output.rglob("*.part"))
    for path in output.rglob("*.pth"):
        checkpoint_file.load_checkpoint(path)
    assert quick_train(output, resume=None, **FOUR_EPOCHS) == 0
    assert same_weights(output, undisturbed) and history_of(output) == history_of(undisturbed)


def test_a_full_disk_while_decoding_is_one_line(quick_train, tmp_path, monkeypatch, capsys):
    real = os.pwrite

    def pwrite(handle, data, place):
        if len(data) > 5000 and place > 10 * len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data, place)

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "pwrite", pwrite)
        assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", **FOUR_EPOCHS) == 2
    error = capsys.readouterr().err
    assert "No space left on device (shard-" in error and error.count("\n") == 1
    assert f"give another folder with --cache_dir, in place of the one at {tmp_path / 'c'}" in error
    index = next((tmp_path / "c").rglob("*.rows"))
    assert index.stat().st_size > 32, "what was decoded is kept"
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", resume=None, **FOUR_EPOCHS) == 0


def test_a_full_disk_while_writing_metrics_keeps_the_old_ones(
    trained_copy, demo, shared_cache, monkeypatch, capsys
):
    words = flags(
        results_dirs=trained_copy,
        dataset_path=demo,
        cache_dir=shared_cache,
        device="cpu",
        resamples=20,
    )
    assert evaluate_ensemble.main(words) == 0
    metrics = trained_copy / "results" / "metrics_test.json"
    before = metrics.read_bytes()
    fill_disk(monkeypatch, lambda path: "/.metrics_test.json" in path)
    assert evaluate_ensemble.main(words) == 2
    error = capsys.readouterr().err
    assert "No space left on device at " in error and error.count("\n") == 1
    assert metrics.read_bytes() == before


@pytest.mark.slow
def test_a_full_disk_under_the_log_script_is_not_success(words, tmp_path):
    script = ROOT / "train_logged.sh"
    done = subprocess.run([script, "/dev/full", *words], capture_output=True, text=True)
    assert done.returncode not in (0, None)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    missing = [script, tmp_path / "no" / "log.txt", *words]
    assert subprocess.run(missing, capture_output=True).returncode == 2


@pytest.mark.slow
def test_a_log_on_a_full_disk_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = run_script(
            "train_ovo.py", *words, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


def test_curves_on_a_full_disk_are_one_line(quick_train, tmp_path, monkeypatch, capfd):
    """TensorBoard writes from a thread of its own and without care for a full disk."""
    from tensorboard.summary.writer import record_writer

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    assert quick_train(tmp_path / "r", **FOUR_EPOCHS) != 0
    error = capfd.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1


@pytest.mark.usefixtures("trained")  # the pixels are in the cache already
def test_a_real_limit_on_file_size_is_one_line(words, capsys):
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))  # bytes: smaller than a checkpoint
    try:
        assert train_ovo.main(words) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
    error = capsys.readouterr().err
    assert "File too large at " in error and error.count("\n") == 1
