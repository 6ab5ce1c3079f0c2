"""explain.py from its flags to the files it writes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import flags

import explain
import predict

QUICK = {"device": "cpu", "precision": "fp32", "num_workers": 2}


@pytest.fixture(scope="module")
def pictures(demo, tmp_path_factory):
    """Three pictures, one of them with an odd name, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    names = ("b.jpg", "a -'\N{GREEK SMALL LETTER ALPHA}<b>\n.jpg", "--c.jpg")
    for grade, name in zip("024", names):
        shutil.copy(next((demo / "test" / grade).iterdir()), folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xffno picture")
    return folder


@pytest.fixture
def run(pictures, tmp_path, monkeypatch):
    """Run explain.py in an empty folder: run(**flags) -> exit status."""
    monkeypatch.chdir(tmp_path)
    return lambda **values: explain.main(
        flags(**{**QUICK, "images": pictures, "output_dir": "o", **values})
    )


def read_maps(path):
    arrays = dict(np.load(path))
    return arrays, json.loads(str(arrays.pop("details")))


def test_of_an_ensemble_maps_drawings_and_a_page_are_written_and_add_up(
    run, trained, trained_swin, tmp_path, capsys
):
    assert run(results_dirs=[trained, trained_swin], tta="flips") == 0
    out = capsys.readouterr().out
    assert "explained 3 pictures, 1 left out" in out and "broken.jpg: " in out
    found = sorted((tmp_path / "o" / "maps").iterdir())
    assert [path.name for path in found] == ["00000_--c.npz", "00001_a_-_b_.npz", "00002_b.npz"]
    page = (tmp_path / "o" / "evidence.html").read_text()
    assert "not a lesion" in page and "broken.jpg" in page and "<b>\n" not in page
    assert "are turned back and averaged" in page and "weights equal" in page
    for path in found:
        arrays, details = read_maps(path)
        assert details["method"] == ["exact", "exact"] and arrays["pairs"].shape == (10, 2)
        for number in (0, 1):
            sums = arrays[f"maps_{number}"].mean((1, 2)) + arrays[f"constants_{number}"]
            assert np.allclose(sums, arrays[f"logits_{number}"], atol=1e-5)
        for decision in details["decisions"]:
            values = arrays[f"map_{decision['key']}"]
            assert values.mean() + decision["constant"] == pytest.approx(
                decision["score"], abs=1e-5
            )
            drawn = tmp_path / "o" / "overlays" / f"{path.stem}_{decision['key']}.png"
            assert drawn.read_bytes().startswith(b"\x89PNG")
        assert {"referable", "grade"} <= {each["key"] for each in details["decisions"]}
    assert len(list((tmp_path / "o" / "pictures").iterdir())) == 3


def test_pictures_are_graded_as_predict_does_it(run, trained, pictures, tmp_path):
    assert run(results_dirs=trained) == 0
    words = {"results_dirs": trained, "images": pictures, "csv": "p.csv"}
    assert predict.main(flags(**QUICK, **words)) == 0
    with open("p.csv", newline="") as file:
        said = {row["image"]: row for row in csv.DictReader(file)}
    for path in (tmp_path / "o" / "maps").iterdir():
        _, details = read_maps(path)
        row = said[details["image"]]
        expected = [float(row[f"p_{k}"]) for k in range(5)]
        assert details["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_another_run_takes_the_place_of_the_earlier_one_only_if_it_is_asked_to(
    run, trained, pictures, tmp_path, capsys
):
    shutil.copy(pictures / "--c.jpg", tmp_path)
    words = {"results_dirs": trained, "images": "."}
    assert run(**words) == 0
    maps = (tmp_path / "o" / "maps" / "00000_--c.npz").read_bytes()
    other = {"maps": "combined", "occlusion": None}
    assert run(**words, **other) == 2
    error = capsys.readouterr().err
    assert "maps was exact, is combined; occlusion was false, is true" in error
    assert "--output_dir FOLDER, or start anew with --overwrite" in error and error.count("\n") == 1
    assert (tmp_path / "o" / "maps" / "00000_--c.npz").read_bytes() == maps

    kept = tmp_path / "o" / "maps" / "mine.npz"
    kept.touch()
    assert run(**words, **other, overwrite=None) == 0
    assert sorted(path.name for path in kept.parent.iterdir()) == ["00000_--c.npz", "mine.npz"]
    arrays, details = read_maps(kept.parent / "00000_--c.npz")
    assert arrays["occlusion_0"].shape == (10, 8, 8) and arrays["finer_maps_0"].shape[1:] == (4, 4)
    assert arrays["map_referable"].shape == (4, 4) and arrays["maps_0"].shape[1:] == (2, 2)
    assert details["method"][0].startswith("HiResCAM at ")
    assert {each["constant"] for each in details["decisions"]} == {None}
    page = (tmp_path / "o" / "evidence.html").read_text()
    assert "the maps do not add up to the score" in page
    assert "What hiding parts of the picture does" in page


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": -1}, "--scale: expected logits above 0"),
        ({"images": "nowhere"}, "nowhere"),
        ({"results_dirs": "nowhere"}, "expected a result directory"),
        ({"images": "broken.jpg"}, "none can be read: broken.jpg: "),
        ({"output_dir": "broken.jpg"}, "broken.jpg"),
    ],
)
def test_a_mistake_ends_in_one_line(run, trained, capsys, values, message):
    Path("broken.jpg").write_bytes(b"no picture")
    try:
        status = run(**{"results_dirs": trained, **values})
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
