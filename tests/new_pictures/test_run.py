"""Pictures are graded chunk by chunk, each once, however often the run is killed."""

import errno
import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
from new_pictures.quick_networks import QuickNetworks

from common.new_pictures import run as run_module
from common.new_pictures.rows import GRADED, UNREADABLE
from common.pixels.preprocessing import load_picture, load_squares
from common.system.errors import InputError


def timeless(rows):
    return [replace(row, time="") for row in rows]


def test_rows_come_in_the_order_of_the_pictures_with_the_bad_ones_among_them(run, photos):
    networks = QuickNetworks()
    rows = run("a", networks)
    assert [row.image for row in rows] == sorted(str(path) for path in photos.iterdir())
    bad = [row for row in rows if row.outcome == UNREADABLE]
    assert [row.image[-6:] for row in bad] == ["2x.png", "6x.png"]
    assert "empty file" in bad[0].reason and "no format that is read" in bad[1].reason
    assert all(row.review and not row.probabilities and row.grade is None for row in bad)
    assert networks.seen == [4, 4, 2], "chunks of readable pictures"
    assert all(sum(row.probabilities) == pytest.approx(1) for row in rows if row.outcome == GRADED)


class Interrupted(BaseException):
    """Ends a run in the middle."""


def test_a_run_that_ended_at_any_chunk_goes_on_to_the_same_rows(run):
    whole = timeless(run("whole", QuickNetworks()))

    def stop_at(number):
        calls = []

        def count():
            calls.append(1)
            if len(calls) == number:
                raise Interrupted

        return count

    for number in (1, 2, 3):
        with pytest.raises(Interrupted):
            run(f"at{number}", QuickNetworks(before=stop_at(number)))
        assert timeless(run(f"at{number}", QuickNetworks())) == whole


@pytest.mark.parametrize("size", [4, 16])
def test_a_run_cut_off_at_any_row_shows_only_the_pictures_that_are_left(run, tmp_path, size):
    whole = timeless(run("whole", QuickNetworks(size)))
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    settings = (tmp_path / "whole.run.json").read_bytes()
    for kept in range(len(lines) + 1):
        (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:kept]))
        (tmp_path / "cut.run.json").write_bytes(settings)
        networks = QuickNetworks(size)
        assert timeless(run("cut", networks)) == whole
        bad = sum(row.outcome == UNREADABLE for row in whole[:kept])
        assert sum(networks.seen) == 10 - (kept - bad)
        assert (tmp_path / "cut.csv").read_text().count("\n") == len(lines) + 1


def test_sigkills_at_random_moments_lose_no_row_and_make_none_twice(run, tmp_path):
    whole = timeless(run("whole", QuickNetworks()))
    moments, kills = random.Random(1), 0
    for _ in range(40):
        child = os.fork()
        if not child:
            run("killed", QuickNetworks(chunk=4, before=lambda: time.sleep(0.02)))
            os._exit(0)
        time.sleep(moments.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        if kills == 6:
            break
    assert kills > 1
    assert timeless(run("killed", QuickNetworks())) == whole
    names = [line.split(b'"')[3] for line in (tmp_path / "killed.jsonl").read_bytes().splitlines()]
    assert len(names) == len(set(names)) == len(whole)


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(run, monkeypatch, tmp_path):
    whole = timeless(run("whole", QuickNetworks()))
    networks = QuickNetworks()
    with monkeypatch.context() as patch:
        real = os.write

        def write(handle, data):
            if len(networks.seen) > 1 and len(data) > 100:
                real(handle, data[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(handle, data)

        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match=r"No space left.*full.jsonl"):
            run("full", networks)
    assert timeless(run("full", QuickNetworks())) == whole


def test_a_long_run_says_in_a_log_how_far_it_is(run, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "_SAY_EVERY", 0)
    run("a", QuickNetworks())
    assert "5 of 12 pictures" in capsys.readouterr().out


def test_a_changed_or_mended_picture_is_graded_anew_in_its_place(run, photos):
    before = run("a", QuickNetworks())
    (photos / "2x.png").write_bytes((photos / "9.png").read_bytes())
    (photos / "1.png").write_bytes((photos / "8.png").read_bytes())
    (photos / "99.png").write_bytes((photos / "8.png").read_bytes())
    networks = QuickNetworks()
    after = run("a", networks)
    assert sum(networks.seen) == 3, "the others are not shown again"
    assert [row.image for row in after] == sorted(str(path) for path in photos.iterdir())
    kept = [row for row in after if row in before]
    assert len(kept) == 10
    assert next(row for row in after if row.image.endswith("2x.png")).outcome == GRADED


def test_pictures_are_known_from_any_working_folder_and_by_any_of_their_names(
    run, photos, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    before = run("a", QuickNetworks(), places=["photos"])
    assert before[0].image == "photos/0.png"
    monkeypatch.chdir(photos)
    for place in (".", str(photos), "../photos", "[0-9]*.png"):
        networks = QuickNetworks()
        after = run("a", networks, places=[place])
        assert not networks.seen and [each.time for each in after] == [r.time for r in before]
        assert [os.path.basename(r.image) for r in after] == sorted(os.listdir(photos))
    assert after[0].image == "0.png"
    (photos / "0.png").rename(tmp_path / "0.png")
    (photos / "0.png").symlink_to(tmp_path / "0.png")
    networks = QuickNetworks()
    run("a", networks, places=[".", str(tmp_path / "0.png")])
    assert not networks.seen


def test_rows_that_are_moved_with_or_without_their_pictures_are_known(
    run, photos, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    before = run("a", QuickNetworks(), places=["photos"])
    for ending in ("csv", "jsonl", "run.json"):
        (tmp_path / f"a.{ending}").rename(photos.parent / f"b.{ending}")
    networks = QuickNetworks()
    assert run("b", networks, places=["photos"]) == before and not networks.seen
    (tmp_path / "out").mkdir()
    for ending in ("csv", "jsonl", "run.json"):
        (tmp_path / f"b.{ending}").rename(tmp_path / "out" / f"b.{ending}")
    assert run("out/b", networks, places=["photos"]) == before and not networks.seen
    photos.rename(tmp_path / "out" / "photos")
    for ending in ("csv", "jsonl", "run.json"):
        (tmp_path / "out" / f"b.{ending}").rename(tmp_path / f"c.{ending}")
    (tmp_path / "out" / "photos").rename(photos)
    assert run("c", networks, places=["photos"]) == before and not networks.seen
    (tmp_path / "all").mkdir()
    for path in (photos, *tmp_path.glob("c.*")):
        path.rename(tmp_path / "all" / path.name)
    after = run("all/c", networks, places=["all/photos"])
    assert not networks.seen and after[0].image == "all/photos/0.png" and len(after) == len(before)


def test_equal_names_below_another_folder_are_other_pictures(run, photos, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run("a", QuickNetworks(), places=["photos"])
    shutil.copytree(photos, tmp_path / "other" / "photos")
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match=r"does not list photos/0.png .*of which there is a row"):
        run("a", QuickNetworks(), places=["photos"])


def test_a_table_that_was_doubled_by_an_earlier_release_is_mended(run, photos, tmp_path):
    before = run("a", QuickNetworks())
    path = tmp_path / "a.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("file_path")
    other = [line | {"image": f"{photos}/./{os.path.basename(line['image'])}"} for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines + other))
    networks = QuickNetworks()
    assert run("a", networks) == before and not networks.seen


def test_a_file_that_could_not_be_opened_is_tried_again(run, photos, tmp_path):
    (photos / "a.png").symlink_to(tmp_path / "later.jpg")
    assert next(row for row in run("a", QuickNetworks()) if row.image.endswith("a.png")).review
    (tmp_path / "later.jpg").write_bytes((photos / "9.png").read_bytes())
    found = {os.path.basename(row.image): row for row in run("a", QuickNetworks())}
    assert found["a.png"].outcome == GRADED


def test_a_pipe_is_not_waited_for(run, photos):
    os.mkfifo(photos / "p.png")
    row = next(row for row in run("a", QuickNetworks()) if row.image.endswith("p.png"))
    assert row.outcome == UNREADABLE and "no regular file" in row.reason


def test_an_odd_picture_that_breaks_a_decoder_gets_its_row(run, monkeypatch):
    def fails(path, preprocessings):
        if path.name == "3.png":
            raise ZeroDivisionError("by\nzero")
        return load_squares(path, preprocessings)

    monkeypatch.setattr(run_module, "load_squares", fails)
    row = next(row for row in run("a", QuickNetworks()) if row.image.endswith("3.png"))
    assert row.outcome == UNREADABLE and "ZeroDivisionError: by zero" in row.reason


def test_only_a_few_pictures_are_in_memory_at_a_time(run, photos, monkeypatch):
    for number in range(100, 160):
        (photos / f"{number}.png").write_bytes((photos / "9.png").read_bytes())
    read, shown, most = [], [], []

    def count(path, preprocessings):
        read.append(path)
        return load_squares(path, preprocessings)

    networks = QuickNetworks()
    networks.before = lambda: most.append(len(read) - sum(networks.seen))
    monkeypatch.setattr(run_module, "load_squares", count)
    run("a", networks, workers=1)
    assert len(read) == 72 and max(most) <= 4 + 4 + 2 + 3, shown


def test_pixels_are_those_of_the_evaluation_for_models_of_any_size(photos):
    pixels = QuickNetworks().preprocessings[0]
    several = [pixels, replace(pixels, img_size=31), replace(pixels, enable_clahe=False)]
    several += [replace(pixels, crop_retina=False), replace(pixels, version=1), pixels]
    found = load_squares(photos / "7.png", several)
    for own, square in zip(several, found):
        assert (square.pixels == load_picture(photos / "7.png", own).pixels).all()
