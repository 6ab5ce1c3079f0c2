import prepare_dataset


def test_demo_writes_a_dataset_and_repeats_itself(tmp_path, capsys):
    words = ["demo", str(tmp_path / "d"), "--train", "2", "--val", "1", "--test", "1", "--size",
             "64"]  # fmt: skip
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
    words = ["cache", str(demo), "--base_models", "demo_convnext", "--cache_dir",
             str(tmp_path / "c")]  # fmt: skip
    assert prepare_dataset.main(words) == 0
    said = capsys.readouterr().out
    assert "decoding 47 of 47" in said and "test is cached, 20 images" in said
    assert quick_train(tmp_path / "r", cache_dir=tmp_path / "c", pairs="0-1", epochs=1) == 0
    assert "cache: decoding" not in capsys.readouterr().out
    assert prepare_dataset.main([*words, "--enable_clahe", "false"]) == 0
    assert "decoding 47 of 47" in capsys.readouterr().out
    assert prepare_dataset.main(["cache", str(tmp_path), "--base_models", "convnext"]) == 2
