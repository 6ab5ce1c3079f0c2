"""The commands of prepare_dataset.py: demo, cache, audit and split."""

import json
import shutil
from pathlib import Path

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


def test_audit_prints_writes_and_is_strict_about_leaks(demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shortcuts, "PERMUTATIONS", 5)
    words = ["audit", str(demo), "--output_dir", str(tmp_path / "a"), "--num_workers", "2"]
    words += ["--cache_dir", str(tmp_path / "c")]
    assert prepare_dataset.main([*words, "--strict"]) == 0
    said = capsys.readouterr().out
    assert "no leakage across splits" in said and "can the grade be recognised" in said
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
