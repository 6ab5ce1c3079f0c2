"""Whether test images are independent of those of the training: bytes, looks, eyes and patients."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.audit import holdout
from common.audit.holdout import HoldoutConfig
from common.data.folders import scan_split
from common.evaluation.gates import FAIL, NOT_MEASURED, PASS
from common.result_dir import ResultDir, Run


def trained_on(root, fingerprint, path=None):
    return Run(ResultDir(Path("r")), "resnet50", "ovo", 5, (), str(path or root), fingerprint, ())


def fingerprint(root):
    return scan_split(root, "train").fingerprint()


@pytest.fixture
def check(shared_cache):
    """Check a dataset that a model was trained on: check(root, split="test", **config)."""

    def run(root, split="test", runs=None, **changes):
        config = HoldoutConfig(cache_dir=shared_cache, num_workers=2, **changes)
        runs = runs or [trained_on(root, fingerprint(root))]
        return holdout.check_holdout(scan_split(root, split), root, runs, config)

    return run


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
    monkeypatch.setattr(holdout, "inspect_files", None)  # no picture is opened
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
        eyes[-1] = eyes[0]  # the first image of test and the last of val
        return dataclasses.replace(found, groups={**found.groups, "same_eye": eyes})

    relate = holdout.relate
    monkeypatch.setattr(holdout, "relate", one_eye_twice)
    test, val = scan_split(demo, "test"), scan_split(demo, "val")
    found = check(demo)
    assert found.status == FAIL and found.reason == (
        "1 of 20 images is of an eye that is in training or validation, such as "
        f"{test.ids[0]} = {val.ids[-1]}"
    )
