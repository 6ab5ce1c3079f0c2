"""The pixel cache: what preprocessing makes, each image decoded once, mended where damaged."""

import json
import multiprocessing
import os
import shutil
import signal
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from common.data.folders import scan_split
from common.pixel_store import claims, filling, pixel_cache, records, shard
from common.pixel_store.lookup import MISSING, Lookup, digests
from common.pixel_store.pixel_cache import open_cache
from common.pixels.preprocessing import Preprocessing, load_picture, load_pixels
from common.system.errors import InputError

SETTINGS = Preprocessing(48, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def images(demo, tmp_path):
    """A copy of the demo dataset that a test may spoil."""
    return shutil.copytree(demo, tmp_path / "images")


def recorded(folder):
    """Count the records of all shards."""
    return sum(path.stat().st_size // 32 - 1 for path in folder.rglob("*.rows"))


def test_the_cache_holds_what_preprocessing_makes(demo, tmp_path):
    split = scan_split(demo, "val")
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    pixels = cache.read(np.array([3, 0, 19]))
    expected = [load_pixels(split.paths[i], SETTINGS) for i in (3, 0, 19)]
    assert np.array_equal(pixels, np.stack(expected))


def test_each_image_is_decoded_once_ever(images, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        filling, "load_picture", lambda path, s: calls.append(path) or load_picture(path, s)
    )
    for _ in range(3):
        open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2).read(np.arange(20))
    assert len(calls) == 20
    Image.new("RGB", (70, 70), "red").save(images / "val" / "1" / "new.png")
    open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2)
    assert [path.name for path in calls[20:]] == ["new.png"]


def test_a_changed_or_removed_image_is_noticed(images, tmp_path):
    split = scan_split(images, "val")
    open_cache(split, SETTINGS, tmp_path / "c", 2)
    split.paths[0].write_bytes(split.paths[-1].read_bytes())
    split.paths[1].unlink()
    changed = scan_split(images, "val")
    assert changed.fingerprint() != split.fingerprint()
    cache = open_cache(changed, SETTINGS, tmp_path / "c", 2)
    assert len(cache) == 19
    expected = [load_pixels(path, SETTINGS) for path in changed.paths]
    assert np.array_equal(cache.read(np.arange(19)), np.stack(expected))


def test_unreadable_images_are_named_and_the_rest_is_kept(images, tmp_path):
    split = scan_split(images, "val")
    split.paths[2].write_bytes(b"")
    split.paths[5].write_bytes(b"nothing")
    with pytest.raises(InputError, match="2 of 20 images of val cannot be used") as error:
        open_cache(scan_split(images, "val"), SETTINGS, tmp_path / "c", 2)
    assert split.paths[2].name in str(error.value) and "empty file" in str(error.value)
    assert recorded(tmp_path / "c") == 18


def test_a_damaged_row_is_decoded_again(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    file = next(tmp_path.rglob("*.u8"))
    content = bytearray(file.read_bytes())
    content[7 * 48 * 48 * 3 + 100] ^= 0xFF
    file.write_bytes(content[: 19 * 48 * 48 * 3 + 5])  # the last row is cut short, too
    after = open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    assert np.array_equal(before, after)
    assert capsys.readouterr().out.count("damaged row") == 2
    open_cache(split, SETTINGS, tmp_path, 2).read(np.arange(20))
    assert "damaged row" not in capsys.readouterr().out, "the row was mended"


def test_filling_goes_on_after_being_killed_half_way(demo, tmp_path, monkeypatch):
    split, calls = scan_split(demo, "val"), []

    def dies(path, preprocessing):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(path)
        return load_picture(path, preprocessing)

    monkeypatch.setattr(filling, "_BATCH", 4)
    monkeypatch.setattr(filling, "_PER_THREAD", 4)
    monkeypatch.setattr(filling, "load_picture", dies)
    with pytest.raises(KeyboardInterrupt):
        open_cache(split, SETTINGS, tmp_path, 1)
    monkeypatch.setattr(filling, "load_picture", load_picture)
    assert recorded(tmp_path) >= 4, "what was decoded is kept"
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    assert recorded(tmp_path) == 20
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    assert np.array_equal(cache.read(np.arange(20)), np.stack(expected))


def _fill(root, folder):
    cache = open_cache(scan_split(root, "train"), SETTINGS, folder, 2)
    os._exit(0 if cache.read(np.arange(len(cache))).any() else 1)


def test_two_processes_may_fill_the_same_cache(demo, tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(demo, tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    split = scan_split(demo, "train")
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    found = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(len(split)))
    assert np.array_equal(found, np.stack(expected))
    assert recorded(tmp_path) == len(split), "no image was decoded twice"
    assert not [path for path in tmp_path.rglob("filling/*")], "no claim is left"


def test_names_need_not_be_utf_8(demo, tmp_path):
    root = shutil.copytree(demo, tmp_path / "images")
    odd = os.fsdecode(os.fsencode(root / "val" / "1") + b"/\xff.jpg")
    shutil.copy(next((root / "val" / "1").iterdir()), odd)
    split = scan_split(root, "val")
    assert len(split) == 21 and len(split.fingerprint()) == 16
    assert open_cache(split, SETTINGS, tmp_path / "c", 1).read(np.arange(21)).any((1, 2, 3)).all()


def test_a_damaged_index_is_built_again(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    index = next(tmp_path.rglob("*.rows"))
    good = index.read_bytes()
    capsys.readouterr()
    for number, (bad, lost) in enumerate(
        [
            (b"x" + good[1:], 21),
            (good[:32] + bytes(32) + good[64:], 1),
            (good[:70] + bytes([good[70] ^ 4]) + good[71:], 1),
        ]
    ):
        folder = tmp_path / f"copy{number}" / SETTINGS.cache_key()
        shutil.copytree(tmp_path / SETTINGS.cache_key(), folder)
        (folder / index.name).write_bytes(bad)
        found = open_cache(split, SETTINGS, folder.parent, 1).read(np.arange(20))
        assert np.array_equal(found, before)
        assert f"is damaged; {lost} of its images" in capsys.readouterr().out


def test_a_record_that_a_kill_has_torn_is_decoded_again(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    index = next(tmp_path.rglob("*.rows"))
    content = index.read_bytes()
    for cut in (0, 20, 32, 32 * 6 + 1, len(content) - 1):
        index.write_bytes(content[:cut])
        for path in set(tmp_path.rglob("shard-*")) - {index, index.with_suffix(".u8")}:
            path.unlink()
        capsys.readouterr()
        found = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
        assert np.array_equal(found, before)
        assert f"decoding {20 - max(0, cut // 32 - 1)} of 20" in capsys.readouterr().out


def test_lost_pixels_are_built_again(demo, tmp_path):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    next(tmp_path.rglob("*.u8")).unlink()
    assert np.array_equal(open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20)), before)


def test_folders_and_pipes_where_files_should_be_are_passed_over(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    before = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    folder = tmp_path / SETTINGS.cache_key()
    for ending, make in (("rows", os.mkdir), ("rows", os.mkfifo), ("u8", os.mkdir)):
        path = next(each for each in folder.glob(f"*.{ending}") if each.is_file())
        path.unlink()
        make(path)
        assert np.array_equal(open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20)), before)
        assert f"{path} is no file; its images are decoded again" in capsys.readouterr().out
    with claims.Claims(folder / "filling") as mine:
        (folder / "filling" / "007.claim").mkdir()
        assert mine.take(7), "nobody would ever give it back"


def test_a_cache_that_cannot_be_written_is_named_with_the_flag_that_moves_it(demo, tmp_path):
    (tmp_path / "c" / SETTINGS.cache_key()).mkdir(parents=True)
    (tmp_path / "c" / SETTINGS.cache_key() / "filling").touch()
    with pytest.raises(OSError, match="give another folder with --cache_dir") as found:
        open_cache(scan_split(demo, "val"), SETTINGS, tmp_path / "c", 1)
    assert found.value.filename == str(tmp_path / "c")


def test_shards_stay_below_their_size(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "SHARD_BYTES", 7 * 48 * 48 * 3)
    monkeypatch.setattr(pixel_cache, "_OPEN_FILES", 2)
    split = scan_split(demo, "val")
    cache = open_cache(split, SETTINGS, tmp_path, 2)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.u8")]
    assert len(sizes) >= 3 and max(sizes) <= 7 * 48 * 48 * 3
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    assert np.array_equal(cache.read(np.arange(20)), np.stack(expected))


# -- other processes and machines ----------------------------------------------------------------


def test_a_process_that_was_killed_leaves_work_to_the_others(demo, tmp_path):
    context = multiprocessing.get_context("fork")
    split, rounds = scan_split(demo, "train"), 0
    random = np.random.default_rng(2)
    while recorded(tmp_path) < len(split) and rounds < 6:
        workers = [context.Process(target=_fill, args=(demo, tmp_path)) for _ in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(random.uniform(0.01, 0.15))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
        rounds += 1
    full = recorded(tmp_path) == len(split)
    expected = [load_pixels(path, SETTINGS) for path in split.paths]
    found = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(len(split)))
    assert np.array_equal(found, np.stack(expected))
    left = [path for path in tmp_path.rglob("filling/*") if path.stat().st_size]
    assert full or not left, "who fills the cache next removes what the dead have left"


def test_a_block_is_claimed_once_and_the_dead_s_are_taken_over(tmp_path, monkeypatch):
    with claims.Claims(tmp_path / "f") as mine, claims.Claims(tmp_path / "f") as other:
        assert mine.take(7) and not other.take(7) and other.take(8) and mine.others()
        mine.release()
        assert other.take(7)
        monkeypatch.setattr(claims.socket, "gethostname", lambda: "another-host")
        assert not mine.take(8), "a process of another machine has it"
        for path in (tmp_path / "f").glob("*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
        assert mine.take(8), "without a sign of life for long it is taken for dead"


# -- caches of earlier versions ------------------------------------------------------------------


def _flat(folder, split, known):
    """Write the first images of a split as an earlier version did."""
    folder.mkdir()
    pixels = [load_pixels(path, SETTINGS) for path in split.paths[:known]]
    (folder / "pixels.u8").write_bytes(b"".join(each.tobytes() for each in pixels))
    rows = {
        image.cache_key(): [number, zlib.crc32(each.tobytes())]
        for number, (image, each) in enumerate(zip(split.images, pixels))
    }
    (folder / "index.json").write_text(json.dumps(rows))
    notes = {split.images[0].cache_key(): ["an odd file"]}
    (folder / "notes.json").write_text(json.dumps(notes))


def test_the_cache_of_an_earlier_version_is_read_and_added_to(demo, tmp_path, capsys):
    split = scan_split(demo, "val")
    _flat(tmp_path / SETTINGS.cache_key(), split, 15)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    found = open_cache(split, SETTINGS, tmp_path, 1).read(np.arange(20))
    assert np.array_equal(found, np.stack([load_pixels(p, SETTINGS) for p in split.paths]))
    said = capsys.readouterr().out
    assert "decoding 5 of 20" in said and f"an odd file: {split.ids[0]}" in said
    assert all(path.read_bytes() == content for path, content in files.items())
    open_cache(split, SETTINGS, tmp_path, 1)
    assert "decoding" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ['{"a": "b"}', '{"a": null}', '{"a": ["z", 1]}', "[]", "{"])
def test_the_damaged_index_of_an_earlier_version_is_said_and_not_used(demo, tmp_path, text, capsys):
    split = scan_split(demo, "val")
    _flat(tmp_path / SETTINGS.cache_key(), split, 2)
    (tmp_path / SETTINGS.cache_key() / "index.json").write_text(text)
    open_cache(split, SETTINGS, tmp_path, 2)
    said = capsys.readouterr().out
    assert "index.json is damaged" in said and "decoding 20 of 20" in said


# -- large caches --------------------------------------------------------------------------------


def test_a_few_images_are_found_among_many_without_keeping_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_CHUNK", 2000)
    keys = digests(f"/images/{number}|1|1" for number in range(200_000))
    rows = np.zeros(len(keys), records.RECORD)
    rows["key"], rows["number"] = keys, np.arange(len(keys))
    (tmp_path / "shard-a.u8").touch()
    (tmp_path / "shard-a.rows").write_bytes(
        records.HEADER + records.sealed(rows).tobytes() + b"torn"
    )
    wanted = np.sort(np.append(keys[::50_000], digests(["new"])))
    lookup = Lookup(tmp_path, wanted, np.arange(len(wanted)))
    tracemalloc.start()
    lookup.refresh()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    there = lookup.file != MISSING
    assert there.sum() == 4 and lookup.number[there].tolist() == [
        int(np.flatnonzero(keys == key)[0]) for key in wanted[there]
    ]
    assert peak < 10**6, "whatever the size of the index, here 6 MB"


def test_what_is_odd_about_a_file_is_said_each_time(images, tmp_path, capsys):
    path = scan_split(images, "val").paths[3]
    path.write_bytes(path.read_bytes()[:-2])
    for _ in range(2):
        split = scan_split(images, "val")
        open_cache(split, SETTINGS, tmp_path / "c", 1)
        assert "note: val: cut short" in capsys.readouterr().out
