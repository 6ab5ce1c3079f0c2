"""A run of explain.py goes on wherever it was killed, and never mixes maps of other models."""

import os
import re
import shutil
import signal
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import SMALL_PIXELS, flags, stored_grader
from PIL import Image

import explain
from common.evidence.exact import EXACT, Evidence
from common.evidence.explanation import Sources
from common.evidence.maps import COMBINED
from common.explaining import chunks
from common.grading.loading import LoadedGrader
from common.result_dir.paths import EvidenceDir
from common.result_dir.stored import read_predictions

MODEL = LoadedGrader(stored_grader(1), None)


@dataclass
class QuickNetworks:
    """A model whose maps follow from the pixels' mean, and from N as rounding."""

    chunk: int = 3
    preprocessings: tuple = (SMALL_PIXELS,)
    models: tuple = ()


def find_quickly(pixels, models, how):
    means = pixels[0].pixels.mean((1, 2, 3), dtype=np.float32) / 255 + len(pixels[0]) * 1e-4
    falls = np.ones((len(means), 10, 8, 8)) * how.occlusion

    def evidence(side):
        steps = np.linspace(-1, 1, 10 * side * side, dtype=np.float32).reshape(1, 10, side, side)
        maps = 9 * means[:, None, None, None] - 3 + steps
        return Evidence(maps, means[:, None] * steps[:, :, 0, 0], maps.mean((2, 3)), EXACT)

    finer = (evidence(4),) if how.maps == COMBINED else ()
    return Sources((evidence(2),), finer, (falls,) if how.occlusion else ())


@pytest.fixture
def photos(tmp_path):
    """Four pictures of different brightness and a file that is none, among them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for level in range(4):
        colour = (40 + 40 * level, 40 * level, 10)
        Image.new("RGB", (40, 40), colour).save(folder / f"{level}.png")
    (folder / "2x.png").write_bytes(b"nonsense")
    return folder


@pytest.fixture
def run(photos, tmp_path, monkeypatch):
    """Explain the pictures in an empty folder: run(**flags) -> exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chunks, "find_sources", find_quickly)
    model = replace(MODEL, networks=QuickNetworks())
    monkeypatch.setattr(explain, "find_graded_by", lambda *_: None)
    monkeypatch.setattr(explain, "open_grader", lambda *_: model)
    quick = {"results_dirs": "r", "images": "photos", "output_dir": "o", "device": "cpu"}
    quick |= {"precision": "fp32", "num_workers": 1}
    return lambda **values: explain.main(flags(**quick | values))


def outcome(folder):
    """Read all that a run has written, without the times."""
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    times = re.compile(rb'(Written |"begun": ").{19}')
    return {str(path.relative_to(folder)): times.sub(b"", data) for path, data in content.items()}


def kill_at(number, run, **values):
    """Kill a run when a file is written to its end but has not got its name yet."""
    names, rename = [], os.replace

    def stop(one, two):
        names.append(two)
        if len(names) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(one, two)

    child = os.fork()
    if not child:
        os.replace = stop
        run(**values)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_however_it_was_killed_a_run_ends_with_the_same_bytes(run, tmp_path, capsys):
    words = {"maps": COMBINED, "occlusion": None}
    assert run(**words, output_dir="whole") == 0
    whole, folder = outcome(tmp_path / "whole"), tmp_path / "o"
    assert "evidence.run.json" in whole and len([n for n in whole if n.endswith(".npz")]) == 4
    capsys.readouterr()

    kill_at(1, run, **words)  # before what it is made with is written
    kill_at(2, run)  # of other maps, none of which was written
    kill_at(5, run, **words)  # in the second picture of a chunk of three
    assert [path.name[:7] for path in sorted((folder / "maps").iterdir())] == [".00001_", "00000_0"]
    kill_at(3, run, **words)
    kill_at(7, run, **words)  # at a drawing
    assert run(**words) == 0
    out = capsys.readouterr().out
    assert "maps of 4 of them are there" in out and "explained 4 pictures, 1 left out" in out
    assert outcome(folder) == whole

    path = folder / "maps" / "00001_1.npz"
    path.write_bytes(path.read_bytes()[:-9])  # a disk that lost what it said to hold
    assert run(**words) == 0
    assert "1 picture changed, or with damaged maps, come anew" in capsys.readouterr().out
    assert outcome(folder) == whole, "the others of its chunk were shown again, too"


def test_maps_of_another_model_or_of_other_pictures_are_not_mixed(
    run, photos, tmp_path, capsys, monkeypatch
):
    assert run() == 0
    before = outcome(tmp_path / "o")
    other = replace(MODEL, grader=stored_grader(2), networks=QuickNetworks())
    shutil.copytree(photos, "more")
    strange = {"images": ["more", "photos/1.png"]}
    for values, said in (
        ({"maps": "finer"}, "o holds maps that were made otherwise: maps was exact, is finer; go"),
        ({"occlusion": None}, "occlusion was false, is true"),
        (strange, "--images does not list photos/0.png, whose maps are in o; list the same"),
    ):
        assert run(**values) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert "write elsewhere with --output_dir FOLDER, or start anew with --overwrite" in error
    with monkeypatch.context() as patch:
        patch.setattr(explain, "open_grader", lambda *_: other)
        assert run() == 2
    assert "model was 0, is " in capsys.readouterr().err
    assert outcome(tmp_path / "o") == before

    assert run(scale=0.01) == 0, "the drawings are others, the maps the same"
    assert "maps of 4 of them are there" in capsys.readouterr().out
    after = outcome(tmp_path / "o")
    assert {name for name in before if after[name] == before[name]} == {
        name for name in before if not name.endswith((".png", ".html"))
    }

    kept, photo = (tmp_path / "o" / name for name in ("maps/mine.npz", "pictures/12345_mine.jpg"))
    kept.touch()
    photo.touch()
    (tmp_path / "o" / "evidence.run.json").unlink()
    assert run() == 2
    assert "evidence.run.json, which says what it was made with, is not" in capsys.readouterr().err
    assert run(**strange, overwrite=None) == 0
    assert len(list(kept.parent.iterdir())) == 6 and kept.is_file() and photo.is_file()


def test_maps_are_found_from_any_working_folder(run, photos, tmp_path, capsys, monkeypatch):
    assert run() == 0
    before = outcome(tmp_path / "o")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "o")
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert run(images=photos, output_dir="../link") == 0
    assert "maps of 4 of them are there" in capsys.readouterr().out
    after = outcome(tmp_path / "o")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {
        name
        for name in before
        if name.endswith((".png", ".html"))  # which name the pictures
    }


def test_pictures_may_be_added_changed_and_removed(run, photos, tmp_path, capsys):
    assert run() == 0
    shutil.copy(photos / "3.png", photos / "01.png")
    shutil.copy(photos / "3.png", photos / "1.png")
    os.utime(photos / "1.png", (1, 1))
    (photos / "2.png").unlink()
    assert run() == 0
    out = capsys.readouterr().out
    assert "1 picture changed" in out and "explained 5 pictures" in out
    assert "maps of 1 picture that are not there any more stay" in out
    place = EvidenceDir(tmp_path / "o")
    stems = ["00000_0", "00001_1", "00002_2", "00004_3", "00005_01"]  # 00003 has no maps
    assert sorted(path.stem for path in place.parts[2].iterdir()) == stems
    changed, other, added = (
        read_predictions(place.maps(stem))[0]["logits_0"] for stem in (stems[1], *stems[3:])
    )
    assert np.allclose(changed, other, atol=0.01) and np.allclose(added, other, atol=0.01)
    assert {path.stem.rpartition("_")[0] for path in place.parts[1].iterdir()} == set(stems)
    page = place.page.read_text()
    assert "5 pictures" in page and "photos/2.png" in page


def test_files_of_the_user_are_neither_removed_nor_written_over(run, tmp_path, capsys):
    folder = tmp_path / "o"
    own = [
        "pictures/00000_0.png",
        "pictures/00000_0.txt",
        "overlays/00000_0_mynote.png",
        "maps/00000_0_backup.npz",
    ]
    assert run() == 0
    for name in own:
        (folder / name).write_text("mine")
    for words in ({}, {"scale": 3}, {"overwrite": None}, {"overwrite": None, "maps": COMBINED}):
        assert run(**words) == 0
        assert all((folder / name).read_text() == "mine" for name in own)
    capsys.readouterr()
    for name in ("pictures/00000_0.jpg", "overlays/00001_1_grade.png", "evidence.html"):
        other = tmp_path / name.replace("/", "_")
        (other / name).parent.mkdir(parents=True)
        (other / name).write_text("mine")
        assert run(output_dir=other.name) == 2
        error = capsys.readouterr().err
        assert str(name) in error and error.count("\n") == 1
        assert (other / name).read_text() == "mine"
