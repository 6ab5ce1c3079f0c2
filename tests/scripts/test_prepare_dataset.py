"""The commands of prepare_dataset.py: demo, cache, audit and split."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import prepare_dataset
from common.audit import shortcuts


def test_demo_writes_a_dataset_and_repeats_itself(tmp_path, capsys):
    words = [
        "demo",
        str(tmp_path / "d"),
        "--train",
        "2",
        "--val",
        "1",
        "--test",
        "1",
        "--size",
        "64",
    ]
    assert prepare_dataset.main(words) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "d").rglob("*.jpg")}
    assert len(first) == 20 and "no medical value" in capsys.readouterr().out
    assert prepare_dataset.main(words) == 0
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "d").rglob("*.jpg")}
    assert not (tmp_path / "d" / "cal").exists()
    assert prepare_dataset.main([*words, "--cal", "2"]) == 0
    assert len(list((tmp_path / "d" / "cal").rglob("*.jpg"))) == 10
    assert prepare_dataset.main([*words, "--seed", "1"]) == 0
    assert first != {path.name: path.read_bytes() for path in (tmp_path / "d").rglob("*.jpg")}


def test_synthetic_images_do_not_mix_with_others(tmp_path, capsys):
    (tmp_path / "patient.jpg").write_bytes(b"x")
    assert prepare_dataset.main(["demo", str(tmp_path)]) == 2
    assert "must not mix" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["patient.jpg"]
    assert prepare_dataset.main(["demo", str(tmp_path / "d"), "--train", "0"]) == 2


def test_cache_fills_what_training_will_read(demo, tmp_path, capsys, quick_train):
    words = [
        "cache",
        str(demo),
        "--base_models",
        "demo_convnext",
        "--cache_dir",
        str(tmp_path / "c"),
    ]
    assert prepare_dataset.main(words) == 0
    said = capsys.readouterr().out
    assert "decoding 47 of 47" in said and "test is cached, 20 images" in said
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", pairs="0-1", epochs=1) == 0
    assert "cache: decoding" not in capsys.readouterr().out
    assert prepare_dataset.main([*words, "--enable_clahe", "false"]) == 0
    assert "decoding 47 of 47" in capsys.readouterr().out
    assert prepare_dataset.main(["cache", str(tmp_path), "--base_models", "convnext"]) == 2


def test_audit_prints_writes_and_is_strict_about_leaks(demo, few_permutations, tmp_path, capsys):
    words = ["audit", str(demo), "--output_dir", str(tmp_path / "a"), "--num_workers", "2"]
    words += ["--cache_dir", str(tmp_path / "c")]
    assert prepare_dataset.main([*words, "--strict"]) == 0
    said = capsys.readouterr().out
    assert "can the grade be recognised" in said
    assert (
        "no leakage of these kinds across splits was found: identical files, identical pixels, "
        "near duplicates, same eye, augmented copies; cannot be seen: the other eye of a patient "
        "(no patient recognised in 87 names); a picture cropped or edited so far" in said
    )
    content = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert content["files"] == 87 and not content["leakage"]
    root = tmp_path / "d"
    for split in ("val", "test"):
        shutil.copytree(demo / split, root / split)
    shutil.copy(next((root / "val" / "1").iterdir()), root / "test" / "1")
    words[1] = str(root)
    assert prepare_dataset.main(words) == 0
    assert prepare_dataset.main([*words, "--strict"]) == 1
    assert "LEAKAGE" in capsys.readouterr().out
    assert prepare_dataset.main(["audit", str(tmp_path / "none")]) == 2
    assert prepare_dataset.main([*words, "--patient_regex", "("]) == 2
    assert prepare_dataset.main([*words, "--num_classes", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_split_takes_graded_folders_and_repeats_itself(demo, tmp_path, capsys):
    source = Path(shutil.copytree(demo / "train", tmp_path / "s"))
    words = ["split", str(source), str(tmp_path / "a"), "--val", "0.2", "--test", "0.2"]
    words += ["--cache_dir", str(tmp_path / "cache")]
    assert prepare_dataset.main(words) == 0
    assert "manifest.csv" in capsys.readouterr().out
    words[2] = str(tmp_path / "b")
    assert prepare_dataset.main(words) == 0
    first, second = ((tmp_path / name / "manifest.csv").read_text() for name in "ab")
    assert first == second
    assert prepare_dataset.main(words) == 2, "it is not empty any more"
    assert prepare_dataset.main(["split", str(source), str(source / "x")]) == 2
    assert prepare_dataset.main([*words[:2], str(tmp_path / "c"), "--val", "1"]) == 2
    assert not (tmp_path / "c").exists()


def test_ctrl_c_in_the_audit_does_not_advise_to_resume(demo, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_dataset, "audit", interrupted)
    words = ["audit", str(demo), "--output_dir", str(tmp_path / "a")]
    assert prepare_dataset.main(words) == 130
    said = capsys.readouterr().err
    assert "interrupted" in said and "--resume" not in said


@pytest.fixture
def few_permutations(monkeypatch):
    """Probe for shortcuts quickly, in tests that are about other findings."""
    monkeypatch.setattr(shortcuts, "PERMUTATIONS", 5)


@pytest.fixture
def spoiled(demo, few_permutations, tmp_path):
    """A copy of the demo dataset whose validation folder has another usual name."""
    root = Path(shutil.copytree(demo, tmp_path / "images"))
    (root / "val").rename(root / "valid")
    return root


def test_a_training_file_under_another_grade_in_valid_is_no_clean_audit(spoiled, tmp_path, capsys):
    words = ["audit", str(spoiled), "--strict", "--output_dir", str(tmp_path / "a")]
    assert prepare_dataset.main(words) == 0
    shutil.copy(next((spoiled / "train" / "1").iterdir()), spoiled / "valid" / "3" / "x.jpg")
    assert prepare_dataset.main(words) == 1
    assert "LEAKAGE: 1 group in two splits" in capsys.readouterr().out
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert found["files"] == 88 and set(found["images_per_grade"]) == {"train", "val", "test"}


def test_an_audit_is_not_clean_where_pictures_cannot_be_read(spoiled, tmp_path, capsys):
    whole = next((spoiled / "train" / "1").iterdir()).read_bytes()
    half = whole[: len(whole) // 2]
    (spoiled / "train" / "1" / "half.jpg").write_bytes(half)
    words = ["audit", str(spoiled), "--strict", "--output_dir", str(tmp_path / "a")]
    assert prepare_dataset.main(words) == 1
    said = capsys.readouterr().out
    assert "NOT LOOKED AT: 1 file that cannot be read" in said and "LEAKAGE" not in said
    (spoiled / "test" / "3" / "same.jpg").write_bytes(
        half
    )  # its bytes can be compared all the same
    assert prepare_dataset.main(words) == 1
    assert "LEAKAGE: 1 group in two splits" in capsys.readouterr().out


def test_an_audit_is_not_clean_where_pictures_were_not_looked_at(spoiled, tmp_path, capsys):
    (spoiled / "extra").mkdir()
    for number in range(5):
        shutil.copy(next((spoiled / "train" / "1").iterdir()), spoiled / "extra" / f"{number}.jpg")
    words = ["audit", str(spoiled), "--output_dir", str(tmp_path / "a")]
    assert prepare_dataset.main(words) == 0
    assert prepare_dataset.main([*words, "--strict"]) == 1
    said = capsys.readouterr().out
    assert "not used: 5 pictures (5 .jpg) in extra/: no split has that name" in said
    assert "NOT LOOKED AT: 5 pictures not used" in said
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert found["not_looked_at"] == 5 == len(found["not_used"])
    assert found["not_used"][4]["id"] == "extra/4.jpg"


def test_split_uses_valid_and_subfolders_and_names_the_rest(spoiled, tmp_path, capsys):
    inner = spoiled / "train" / "2" / "left"
    inner.mkdir()
    next((spoiled / "train" / "2").glob("*.jpg")).rename(inner / "a.jpg")
    (spoiled / "loose.jpg").write_bytes(b"x")
    assert prepare_dataset.main(["split", str(spoiled), str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "not used: 1 picture (1 .jpg) in the dataset's own folder: in no class folder" in said
    assert "note: 1 picture in subfolders of class folders" in said
    files = list((tmp_path / "new").rglob("*.jpg"))
    assert len(files) == 87 and {path.parent.name for path in files} == set("01234")


def test_the_cache_takes_usual_names_and_a_dataset_without_splits(spoiled, tmp_path, capsys):
    words = ["--base_models", "demo_convnext", "--cache_dir", str(tmp_path / "c")]
    words += ["--num_workers", "2"]
    assert prepare_dataset.main(["cache", str(spoiled), "--splits", "val", *words]) == 0
    (spoiled / "valid" / "loose.jpg").write_bytes(b"x")
    assert prepare_dataset.main(["cache", str(spoiled / "valid"), *words]) == 0
    said = capsys.readouterr().out
    assert "val is cached, 20 images" in said and "all is cached, 20 images" in said
    assert "not used: 1 picture (1 .jpg) in the dataset's own folder" in said
    assert prepare_dataset.main(["cache", str(spoiled), "--splits", "test", *words]) == 0
    shutil.rmtree(spoiled / "test")
    assert prepare_dataset.main(["cache", str(spoiled), "--splits", "test", *words]) == 2
    assert "expected a folder test or testing in" in capsys.readouterr().err


def test_pictures_of_every_usual_format_are_used(demo, tmp_path, capsys):
    endings = ["jpg", "JPG", "webp", "ppm", "jfif", "gif", "jp2", "jpe"]
    formats = ["JPEG", "JPEG", "WEBP", "PPM", "JPEG", "GIF", "JPEG2000", "JPEG"]
    source = Image.open(next((demo / "train" / "1").iterdir()))
    for grade in range(5):
        (tmp_path / "d" / "train" / str(grade)).mkdir(parents=True)
        for ending, kind in zip(endings, formats):
            file = tmp_path / "d" / "train" / str(grade) / f"{ending}.{ending}"
            source.save(file, kind)
    words = ["cache", str(tmp_path / "d"), "--base_models", "demo_convnext"]
    assert prepare_dataset.main([*words, "--cache_dir", str(tmp_path / "c")]) == 0
    assert "train is cached, 40 images, per grade [8, 8, 8, 8, 8]" in capsys.readouterr().out
