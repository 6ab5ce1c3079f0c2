"""How far trainings are, from the files of their directories alone."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from helpers import MODEL

import model_analyzer
from common.history import EpochRow
from common.locks.holder import this_process
from common.pairs import heads_of_model
from common.result_dir.paths import ResultDir
from common.result_dir.stored import write_history
from common.watching.screen import screen
from common.watching.standing import DONE, NEW, RUNNING, SILENT, STOPPED, standing_of

HEADS = heads_of_model(5, "ovo")


def rows_of(head, epochs, seconds=60.0):
    return [
        EpochRow(head.name, e, 0.5, 0.5, None, 1e-3, 9.0, seconds) for e in range(1, epochs + 1)
    ]


@pytest.fixture
def half_way(tmp_path):
    """A directory with two pairs done, three trained by this process, one killed, four to come."""
    directory = ResultDir(tmp_path / "demo_5class_results")
    settings = {"model": MODEL, "epochs": 50, "num_classes": 5, "head": "ovo"}
    for folder in (directory.models, directory.checkpoints, directory.history.parent):
        folder.mkdir(parents=True)
    directory.config.write_text(json.dumps({"config": settings}))
    rows = []
    for place, head in enumerate(HEADS[:6]):
        directory.best(MODEL, head).touch()
        rows += rows_of(head, 50 if place < 2 else 12)
        if place >= 2:
            directory.last(MODEL, head).touch()
            holder = this_process()
            if place == 5:
                ended = subprocess.Popen(["true"])
                ended.wait()
                holder = replace(holder, pid=ended.pid)
            directory.head_lock(MODEL, head).write_bytes(holder.to_bytes())
    write_history(directory.history, rows, HEADS)
    return directory


def test_it_tells_what_is_done_running_stopped_and_not_begun(half_way):
    standing = standing_of(half_way)
    states = [each.state for each in standing.heads]
    assert states == [DONE] * 2 + [RUNNING] * 3 + [STOPPED] + [NEW] * 4
    running = standing.heads[2]
    assert (running.epoch, running.epochs, running.left) == (12, 50, 38 * 60)
    lines = screen([standing]).splitlines()
    assert "10 classifiers: 2 done, 3 running, 1 stopped, 4 not begun" in lines[0]
    assert lines[1] == "demo_5class_results: 2 of 10 done"
    assert "0-3 0-4 1-2" in lines[2] and "epoch 12/50, ETA 38 min, " in lines[2]
    assert lines[2].endswith(f"pid {os.getpid()}")
    assert "stopped    1-3" in lines[3] and lines[3].endswith("is gone")
    assert lines[4] == "  not begun  1-4 2-3 2-4 3-4"


def test_a_pair_that_ended_early_waits_for_the_others_of_its_process(half_way):
    os.utime(half_way.last(MODEL, HEADS[2]), (1, 1))
    standing = standing_of(half_way)
    assert [each.waits for each in standing.heads[2:5]] == [True, False, False]
    assert standing.heads[2].left == 0.0
    assert "0-3                  epoch 12/50, ended, " in screen([standing])


def test_ten_pairs_of_seven_backbones_fit_a_screen_of_80_columns(half_way, tmp_path):
    runs = []
    for number in range(7):
        copy = shutil.copytree(half_way.root, tmp_path / f"{'long' * 15}_{number}")
        runs.append(standing_of(ResultDir(copy)))
    lines = screen(runs).splitlines()
    assert len(lines) == 1 + 7 * 4 and max(map(len, lines)) <= 80


def on_another_host(directory, hours):
    """Let the running pairs be of another host, and have been written some hours ago."""
    holder = replace(this_process(), host="gpu01", pid=4711)
    then = time.time() - hours * 3600
    for place, head in enumerate(HEADS[2:5]):  # a process takes its locks one after the other
        lock = directory.head_lock(MODEL, head)
        lock.write_bytes(replace(holder, since=f"2026-11-26T12:00:0{place}+00:00").to_bytes())
        for path in (lock, directory.best(MODEL, head), directory.last(MODEL, head)):
            os.utime(path, (then, then))


def test_the_end_of_a_long_name_which_tells_the_seed_is_kept(half_way, tmp_path):
    root = half_way.root
    for seed in (0, 1):
        name = f"tf_efficientnetv2_s.in21k_ft_in1k_softmax_seed{seed}_5class_results"
        shutil.copytree(root, tmp_path / name)
    runs = [standing_of(ResultDir(path)) for path in sorted(tmp_path.glob("*_seed?_*"))]
    text = screen(runs)
    assert all(f"_softmax_seed{seed}_5class_results: " in text for seed in (0, 1))
    assert max(map(len, text.splitlines())) <= 80


def test_of_another_host_the_last_sign_of_life_is_said_and_a_silent_one_has_no_eta(half_way):
    on_another_host(half_way, hours=1 / 30)
    standing = standing_of(half_way)
    assert [each.state for each in standing.heads[2:5]] == [RUNNING] * 3
    wide, narrow = (screen([standing], width).splitlines() for width in (120, 80))
    assert wide[2].endswith("epoch 12/50, ETA 38 min, gpu01 pid 4711, last sign 2 min ago")
    assert f"{wide[2]}".startswith(narrow[2]) and narrow[3].strip() == "last sign 2 min ago"
    on_another_host(half_way, hours=3)
    standing = standing_of(half_way)
    assert [each.state for each in standing.heads[2:5]] == [SILENT] * 3
    lines = screen([standing], 120).splitlines()
    assert "2 done, 3 silent, 1 stopped, 4 not begun" in lines[0]
    assert lines[2] == (
        "  silent     0-3 0-4 1-2          after epoch 12/50, gpu01 pid 4711, "
        "last sign 3 h 00 min ago"
    )


def test_a_process_is_silent_only_after_three_epochs_of_its_own_time(half_way):
    rows = [row for head in HEADS[2:5] for row in rows_of(head, 12, seconds=7200.0)]
    write_history(half_way.history, rows, HEADS[2:5])
    on_another_host(half_way, hours=3)
    assert standing_of(half_way).heads[2].state == RUNNING, "less than two epochs"
    on_another_host(half_way, hours=7)
    lone = half_way.last(MODEL, HEADS[4])
    assert standing_of(half_way).heads[2].state == SILENT
    lone.touch()  # a pair of the same process
    assert [each.state for each in standing_of(half_way).heads[2:5]] == [RUNNING] * 3
    half_way.history.unlink()  # nothing says how long an epoch takes
    on_another_host(half_way, hours=5)
    assert standing_of(half_way).heads[2].state == RUNNING


def test_the_files_of_the_earlier_trainer_are_counted_by_their_names(tmp_path, capsys, monkeypatch):
    directory = ResultDir(tmp_path / "all" / "old_5class_results")
    directory.models.mkdir(parents=True)
    for head in HEADS:
        directory.best(MODEL, head).touch()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)  # it ends, as all is done
    for place in (directory.root, directory.root.parent):
        assert model_analyzer.main(["--watch", str(place)]) == 0
        assert "10 classifiers: 10 done\nold_5class_results: 10 of 10 done\n" in (
            capsys.readouterr().out
        )
    directory.best(MODEL, HEADS[4]).unlink()
    assert [each.head for each in standing_of(directory).of(NEW)] == [HEADS[4]]
    (directory.models / "best_other_0_1.pth").touch()
    assert "does not hold the pairs of one model" in standing_of(directory).problem


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"config": {}}', b"\xff", b'{"config": 3}'])
def test_what_cannot_be_read_is_said_in_a_line(half_way, text):
    half_way.config.write_bytes(text)
    standing = standing_of(half_way)
    assert standing.problem and not standing.heads
    assert screen([standing]).count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_classes", 100_000, "num_classes 100000; expected 2 to 100"),
        ("num_classes", 1, "num_classes 1; expected 2 to 100"),
        ("epochs", 10**400, "; expected 1 to 1,000,000,000"),
        ("model", "a\0b", "expected the name of one"),
        ("model", "a" * 5000, "its files cannot be understood (OSError: "),
    ],
)
def test_settings_that_cannot_be_are_a_line_and_hide_nobody_else(
    half_way, name, value, said, capsys
):
    other = shutil.copytree(half_way.root, half_way.root.parent / "other_5class_results")
    content = json.loads(half_way.config.read_text())
    content["config"][name] = value
    half_way.config.write_text(json.dumps(content))
    assert model_analyzer.main(["--watch", str(half_way.root.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert said in standing_of(half_way).problem and lines[1].startswith("demo_5class_results: ")
    assert lines[2] == f"{other.name}: 2 of 10 done"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(half_way, make):
    make(half_way.head_lock(MODEL, HEADS[9]))
    assert [each.state for each in standing_of(half_way).heads][:3] == [DONE, DONE, RUNNING]
    for path in (half_way.history, half_way.config):
        path.unlink()
        make(path)
        assert standing_of(half_way).problem.startswith(f"{path}: expected a file, found a folder")
    with open(half_way.root / "large", "wb") as file:
        file.truncate(2**29)
    half_way.config.rmdir() if half_way.config.is_dir() else half_way.config.unlink()
    (half_way.root / "large").rename(half_way.config)
    assert ": 537 MB; expected 268 at most" in standing_of(half_way).problem
    shutil.rmtree(half_way.root)
    assert "not there any more" in screen([standing_of(half_way)])


def test_classifiers_whose_history_is_lost_are_done(half_way):
    half_way.history.unlink()
    states = [each.state for each in standing_of(half_way).heads]
    assert states == [DONE] * 2 + [RUNNING] * 3 + [STOPPED] + [NEW] * 4


def test_times_that_cannot_be_are_not_counted(half_way):
    rows = [row for head in HEADS[2:5] for row in rows_of(head, 12, 1e308)]
    write_history(half_way.history, rows, HEADS[2:5])
    assert "ETA not known" in screen([standing_of(half_way)])


@pytest.mark.parametrize("text", [b"", b"{}", b'{"pid": "x"}', b'{"pid": Infinity}', b"\xff\x00"])
def test_damaged_locks_and_histories_do_not_end_it(half_way, text):
    half_way.history.write_bytes(text)
    half_way.head_lock(MODEL, HEADS[2]).write_bytes(text)
    states = {each.state for each in standing_of(half_way).heads}
    assert states <= {DONE, RUNNING, STOPPED, NEW}


def test_a_complete_directory_is_done_and_nothing_is_written(trained, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "x" / "demo_5class_results")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    for place in (copy, copy.parent):  # a directory, or the folder that it is in
        assert model_analyzer.main(["--watch", str(place)]) == 0
        assert "10 classifiers: 10 done\n" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch", "nowhere"], "--watch nowhere: expected a folder, found none"),
        (["--watch", ".", "--output_dir", "o"], "--output_dir has no effect with --watch"),
        (["--watch", ".", "--figure_format", "pdf"], "--figure_format has no effect with --watch"),
        (["--model", ".", "--watch_every", "3"], "--watch_every has no effect with --model"),
    ],
)
def test_what_has_no_effect_is_refused(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_analyzer.main(words) == 2
    assert said in capsys.readouterr().err


def test_on_a_terminal_it_looks_again_until_all_is_done(half_way, monkeypatch, capsys):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(model_analyzer.time, "sleep", sleep)
    assert model_analyzer.main(["--watch", str(half_way.root), "--watch_every", "0.5"]) == 0
    assert looks == [0.5, 0.5] and capsys.readouterr().out.count("4 not begun") == 2
