"""Whether test images are independent of those of the training: bytes, looks, eyes and patients."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.audit import holdout, shared_pictures
from common.audit.holdout import HoldoutConfig
from common.data.folders import scan_dataset, scan_split
from common.data.metadata import read_metadata
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS
from common.fitting.sources import find_training, plan_fitting
from common.preparation.folds import fold_names, plan_folds, write_folds
from common.preparation.shares import Shares
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run


def trained_on(root, fingerprint, path=None, label="resnet50"):
    run = Run(ResultDir(Path(label)), label, "ovo", 5, (), str(path or root), fingerprint, ())
    return label, run


def fingerprint(root):
    return scan_split(root, "train").fingerprint()


@pytest.fixture
def findings(shared_cache):
    """Look at a dataset that a model was trained on: findings(root, split="test", **config)."""

    def run(root, split="test", runs=None, **changes):
        config = HoldoutConfig(cache_dir=shared_cache, num_workers=2, **changes)
        dataset = scan_dataset(root)
        models = find_training(runs or [trained_on(root, fingerprint(root))], dataset)
        images, metadata = dataset.split(split), read_metadata(root)
        return holdout.check_holdout(images, dataset, models, metadata, config)

    return run


@pytest.fixture
def check(findings):
    """Check whether the evaluated images are independent: check(root, split="test", **config)."""
    return lambda *inputs, **changes: findings(*inputs, **changes).evaluated


@pytest.fixture
def root(demo, tmp_path):
    return Path(shutil.copytree(demo, tmp_path / "images"))


def test_a_clean_test_set_passes_and_it_is_said_by_what_and_that_patients_are_not_known(
    demo, check
):
    found = check(demo)
    assert found.status == PASS
    assert found.reason == (
        "none of 20 images is, by bytes, pixels, near-duplicates, names of copies or eye, among 67 "
        "of train and val; patients are not known (no patient recognised in 87 names)"
    )
    assert check(demo, "val").status == FAIL, "choices are made on it"


def test_a_file_of_the_training_fails_the_holdout(root, check):
    copied = next((root / "train" / "2").iterdir())
    shutil.copy(copied, root / "test" / "3" / "again.jpg")
    for pictures in (True, False):
        found = check(root, pictures=pictures)
        assert found.status == FAIL
        assert found.reason == (
            "1 of 21 images is byte for byte in training or validation, such as "
            f"test/3/again.jpg = train/2/{copied.name}"
        )


def test_newly_saved_and_turned_copies_fail_the_holdout(root, check):
    first, second = sorted((root / "train" / "2").iterdir())[:2]
    picture = cv2.imread(str(first))
    cv2.imwrite(str(root / "test" / "2" / "new.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 70])
    cv2.imwrite(str(root / "test" / "2" / "same.png"), cv2.imread(str(second)))
    found = check(root)
    assert found.status == FAIL
    assert f"such as test/2/same.png = train/2/{second.name}" in found.reason
    assert "1 of 22 images is pixel for pixel in training or validation" in found.reason
    assert (
        "1 of 22 images is edited or saved anew from training or validation, such "
        f"as test/2/new.jpg = train/2/{first.name}" in found.reason
    )


def test_patients_of_the_training_fail_the_holdout(root, check):
    for grade in range(5):
        for eye, split in (("left", "test"), ("right", "train")):
            for n, path in enumerate(sorted((root / split / str(grade)).iterdir())[:4]):
                path.rename(path.with_name(f"{10 * grade + n}_{eye}.jpg"))
    found = check(root)
    assert found.status == FAIL and found.reason == (
        "20 patients of test have images in train or val, such as test/0/0_left.jpg and "
        "train/0/0_right.jpg (20 patients in 40 of 87 names by 'n_left/n_right')"
    )
    assert check(root, patient_regex="(synthetic_.*)").status == PASS, "it names nobody twice"
    assert check(root, pictures=False).status == FAIL


def test_a_table_tells_the_patients_too(root, check):
    one, other = (next((root / split / "0").iterdir()) for split in ("test", "val"))
    (root / "metadata.csv").write_text(
        f"image,patient\ntest/0/{one.name},A\nval/0/{other.name},A\n"
    )
    found = check(root)
    assert found.status == FAIL and "1 patient of test has images in train or val" in found.reason
    assert "(1 patient in 2 of 87 names by metadata.csv)" in found.reason


def test_names_and_bytes_alone_do_not_pass(demo, check, monkeypatch):
    monkeypatch.setattr(shared_pictures, "inspect_files", None)  # no picture is opened
    found = check(demo, pictures=False)
    assert found.status == NOT_MEASURED
    assert found.reason.startswith("the pictures were not compared (--holdout_check names)")
    assert "none of 20 images is, by bytes, among 67" in found.reason


def test_the_holdout_is_not_measured_where_the_training_images_are_not_known(demo, tmp_path, check):
    outside = shutil.copytree(demo / "test", tmp_path / "hospital")
    known = trained_on(demo, fingerprint(demo))
    found = check(outside, runs=[known])
    assert found.status == PASS
    assert "patients were not compared: the training images are of another dataset" in found.reason
    gone = trained_on(demo, fingerprint(demo), "/gone")
    earlier = trained_on("", "")
    again = partial(check, outside)
    for runs in ([gone], [known, gone], [earlier], [trained_on(demo, "other")]):
        found = again(runs=runs)
        assert found.status == NOT_MEASURED and "resnet50" in found.reason


def test_a_leak_without_the_top_grades_is_found(demo, tmp_path, check):
    leak = tmp_path / "leak"
    for grade in range(5):
        (leak / str(grade)).mkdir(parents=True)
    shutil.copytree(demo / "train" / "0", leak / "0", dirs_exist_ok=True)
    assert check(leak, runs=[trained_on(demo, fingerprint(demo))]).status == FAIL


def test_another_photograph_of_an_eye_of_the_training_fails_the_holdout(demo, check, monkeypatch):
    def one_eye_twice(ids, *rest, **named):
        found = relate(ids, *rest, **named)
        eyes = np.arange(len(ids))
        eyes[ids.index(test.ids[0])] = eyes[ids.index(val.ids[-1])]
        return dataclasses.replace(found, groups={**found.groups, "same_eye": eyes})

    relate = shared_pictures.relate
    monkeypatch.setattr(shared_pictures, "relate", one_eye_twice)
    test, val = scan_split(demo, "test"), scan_split(demo, "val")
    found = check(demo)
    assert found.status == FAIL and found.reason == (
        "1 of 20 images is of an eye that is in training or validation, such as "
        f"{test.ids[0]} = {val.ids[-1]}"
    )


# -- what things are fitted on -----------------------------------------------------------------


@pytest.fixture
def with_cal(root):
    """A dataset with a cal that has nothing in common with the others: half of test."""
    for grade in range(5):
        (root / "cal" / str(grade)).mkdir(parents=True)
        for path in sorted((root / "test" / str(grade)).iterdir())[:2]:
            path.rename(root / "cal" / str(grade) / path.name)
    return root


def test_a_clean_cal_is_among_what_test_was_compared_with(with_cal, findings):
    found = findings(with_cal)
    assert not found.overlaps and found.evaluated.status == PASS
    assert "none of 10 images is, by bytes" in found.evaluated.reason
    assert "among 77 of train, val and cal; patients are not known" in found.evaluated.reason
    of_cal = findings(with_cal, "cal").evaluated
    assert of_cal.status == FAIL and of_cal.reason == "cal is not held out: choices are made on it"


@pytest.mark.parametrize("pictures", [True, False])
def test_an_image_of_cal_in_test_fails_the_holdout(with_cal, check, pictures):
    copied = next((with_cal / "cal" / "2").iterdir())
    shutil.copy(copied, with_cal / "test" / "3" / "again.jpg")
    found = check(with_cal, pictures=pictures)
    assert found.status == FAIL and found.reason == (
        "1 of 11 images is byte for byte in training, validation or calibration, such as "
        f"test/3/again.jpg = cal/2/{copied.name}"
    )


def test_what_a_model_has_seen_of_cal_is_named_by_bytes_looks_and_patients(with_cal, findings):
    learned, chosen = (next((with_cal / part / "2").iterdir()) for part in ("train", "val"))
    shutil.copy(learned, with_cal / "cal" / "2" / "same.jpg")
    picture = cv2.imread(str(chosen))
    cv2.imwrite(str(with_cal / "cal" / "2" / "new.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 70])
    one, other = (next((with_cal / part / "0").iterdir()) for part in ("train", "cal"))
    (with_cal / "metadata.csv").write_text(
        f"image,patient\ntrain/0/{one.name},A\ncal/0/{other.name},A\n"
    )
    found = findings(with_cal)
    assert found.evaluated.status == PASS, "test itself is new"
    by_training, by_choosing = found.overlaps
    assert (by_training.split, by_training.model, by_training.seen_as) == (
        "cal",
        "resnet50",
        "train",
    )
    assert (by_training.images, by_training.of) == (1, 12)
    assert by_training.found == (
        "1 of 12 images is byte for byte in what it learned from, such as cal/2/same.jpg = "
        f"train/2/{learned.name}; 1 patient of cal has images in what it learned from, such as "
        f"cal/0/{other.name} and train/0/{one.name} (1 patient in 2 of 89 names by metadata.csv)"
    )
    assert by_choosing.seen_as == "val" and by_choosing.found == (
        "1 of 12 images is edited or saved anew from what its epochs were chosen on, such as "
        f"cal/2/new.jpg = val/2/{chosen.name}"
    )
    assert not found.learned(), "a single picture is said, and no reason to fit on others"
    [line] = found.remarks("test", "cal")
    assert line.startswith("cal is not new to all models: resnet50: 1 of 12 images is byte")
    assert line.endswith(
        "What is fitted on it (temperatures, weights, thresholds) may look better than it is"
    )


def test_the_folds_whose_models_learned_from_val_are_named_and_test_passes(
    audited, findings, tmp_path
):
    plan = plan_folds(audited, 3, Shares(test=0.2), 0)
    write_folds(audited, plan, 3, tmp_path / "f", "copy")
    roots = [tmp_path / "f" / name for name in fold_names(3)]
    models = [trained_on(root, fingerprint(root), label=root.name) for root in roots]
    found = findings(roots[0], runs=models)
    assert found.evaluated.status == PASS, "it is new to all three"
    val = scan_split(roots[0], "val")
    assert [(o.split, o.model, o.seen_as) for o in found.overlaps] == [
        ("val", "fold_2", "train"),
        ("val", "fold_3", "train"),
    ]
    assert all(overlap.images == overlap.of == len(val) for overlap in found.overlaps)
    name = val.ids[0].removeprefix("val/")
    assert f"such as val/{name} = train/{name}" in found.overlaps[0].found
    seen = {path.read_bytes() for path in (*val.paths, *scan_split(roots[0], "train").paths)}
    assert f"among {len(seen)} of train and val; no patient" in found.evaluated.reason
    assert "another dataset" not in found.evaluated.reason
    assert [seen.model for seen in found.learned()] == ["fold_2", "fold_3"]
    [line] = found.remarks("test", "val of 3 folds, out of fold")
    assert line.endswith("Nothing is fitted on it, but on val of 3 folds, out of fold")
    assert found.to_json()["holdout_overlaps"][1]["model"] == "fold_3"
    [line] = findings(roots[0], "val", runs=models).remarks("val", "")
    assert line.endswith("Results on these images are better than the models are")


def test_copies_in_folds_are_opened_once(audited, findings, tmp_path, monkeypatch):
    plan = plan_folds(audited, 2, Shares(test=0.2), 0)
    write_folds(audited, plan, 2, tmp_path / "f", "hardlink")
    roots = [tmp_path / "f" / name for name in fold_names(2)]
    opened, inspect = [], shared_pictures.inspect_files

    def counted(paths, *rest):
        opened.extend(paths)
        return inspect(paths, *rest)

    monkeypatch.setattr(shared_pictures, "inspect_files", counted)
    findings(roots[0], runs=[trained_on(root, fingerprint(root)) for root in roots])
    assert len(opened) == len({path.read_bytes() for path in roots[0].rglob("*.jpg")})


def test_a_training_folder_that_was_changed_is_compared_all_the_same(
    root, demo, findings, tmp_path
):
    outside = Path(shutil.copytree(root / "test", tmp_path / "hospital"))
    leak = next((root / "train" / "1").iterdir())
    shutil.copy(leak, outside / "1" / "leak.jpg")
    before = fingerprint(root)
    next((root / "train" / "0").iterdir()).unlink()
    found = findings(outside, runs=[trained_on(root, before)]).evaluated
    assert found.status == FAIL and f"1/leak.jpg = train/1/{leak.name}" in found.reason


def test_val_saved_anew_from_what_was_learned_is_not_fitted_on(with_cal, findings, tmp_path):
    models = [trained_on(with_cal, fingerprint(with_cal))]
    pictures = sorted((with_cal / "train").rglob("*.jpg"))
    for source in pictures[:2]:
        target = with_cal / "cal" / source.parent.name / f"new_{source.name}"
        cv2.imwrite(str(target), cv2.imread(str(source)), [cv2.IMWRITE_JPEG_QUALITY, 70])
    dataset, learned = scan_dataset(with_cal), findings(with_cal, runs=models).learned()
    trained = find_training(models, dataset)
    assert plan_fitting(dataset, dataset.split("test"), trained, learned).name == "val"
    plan = plan_fitting(dataset, dataset.split("val"), trained, learned)
    assert "has learned from 2 of 12 images of cal: 2 of 12 images are edited" in plan.why_not
