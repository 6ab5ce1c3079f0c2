"""Auditing a whole dataset: leaks, copies, hostile files, notes and shortcuts."""

import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import GRADES
from PIL import Image

import prepare_dataset
from common.audit import shortcuts
from common.audit.dataset import ALIKE, EYEPACS_COUNTS, AuditConfig, _count_notes, audit, summarise
from common.audit.report import audit_text
from common.data.synthetic import write_dataset
from common.duplicates.signatures import EMPTY
from common.inspection import file_checks, many_files
from common.pixels.preprocessing import apply_clahe
from common.system.errors import InputError

IDRID = Path(__file__).parents[3] / "shared" / "data" / "idrid"
QUICK = AuditConfig(num_workers=2, shortcuts=False)


def pictures(root, split, grade):
    return sorted((root / split / str(grade)).iterdir())


@pytest.fixture
def leaky(demo, tmp_path):
    """The demo dataset with one leak of each kind."""
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    one, two, three, four, five, six = pictures(root, "train", 1)[:6]
    shutil.copy(one, root / "test" / "1" / "bytes.jpg")
    with Image.open(two) as image:
        image.save(root / "val" / "1" / "pixels.png")
    picture = cv2.imread(str(three))
    turned = cv2.resize(np.rot90(picture), (200, 200))
    cv2.imwrite(str(root / "test" / "2" / "turned.jpg"), turned)
    four.rename(four.with_name("12_left.jpg"))
    five.rename(root / "val" / "1" / "12_right.jpg")
    six.rename(six.with_name("x.jpg"))
    noisy = cv2.imread(str(six.with_name("x.jpg"))).astype(float)
    noisy += np.random.default_rng(0).normal(0, 25, noisy.shape)
    cv2.imwrite(str(root / "test" / "1" / "x_aug1.jpg"), noisy.clip(0, 255).astype(np.uint8))
    return root


def test_each_leak_is_found_and_nothing_else(leaky, demo):
    found = audit(leaky, QUICK)
    across = {kind: row["across_splits"] for kind, row in summarise(found).items()}
    assert across == {
        "tiny": 0,
        "identical_files": 1,
        "identical_pixels": 1,
        "near_duplicates": 2,
        "augmented_copies": 1,
        "patient": 1,
        "different_grades": 1,
    }
    assert len(found.leaks) == 6
    clean = audit(demo, QUICK)
    assert not clean.leaks and set(summarise(clean)) == {"tiny"}


def test_units_hold_copies_and_patients_together(leaky):
    found = audit(leaky, QUICK)
    unit = {
        Path(entry.id).name: number for entry, number in zip(found.entries, found.related.units)
    }
    assert unit["12_left.jpg"] == unit["12_right.jpg"] != unit["turned.jpg"]
    assert unit["x.jpg"] == unit["x_aug1.jpg"]


def test_graded_folders_and_missing_splits_will_do(demo, tmp_path):
    assert set(audit(demo / "train", QUICK).counts) == {"all"}
    shutil.copytree(demo / "val", tmp_path / "val")
    found = audit(tmp_path, QUICK)
    assert found.counts == {"val": [4] * 5}
    for place in (tmp_path / "val" / "0", tmp_path / "nowhere"):
        with pytest.raises(InputError):
            audit(place, QUICK)


def test_hostile_files_and_names_end_in_findings(demo, tmp_path):
    root = Path(shutil.copytree(demo, tmp_path / "d"))
    folder = root / "train" / "0"
    source = pictures(root, "train", 0)[0].read_bytes()
    names = [b"new\nline.jpg", b"\xff\xfe.jpg", b"<script>alert(1)</script>.jpg".replace(b"/", b"")]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(source)
    (folder / "empty.jpg").write_bytes(b"")
    (root / "test" / "0" / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(source[:700])
    (folder / "notes.txt").write_text("x")
    (folder / "notes.png").write_text("x")
    (folder / "more").mkdir()
    (folder / "gone.jpg").symlink_to("nowhere")
    found = audit(root, QUICK)
    assert not found.leaks, "two empty files are no copies of a picture"
    kinds = summarise(found)
    assert kinds["identical_files"]["files"] == 4
    assert kinds["unreadable"]["found"] == 1 and kinds["empty"]["found"] == 2
    assert kinds["truncated"]["found"] == kinds["not_image"]["found"] == 1
    assert [file.id for file in found.dataset.unused] == ["train/0/notes.txt"]


def test_a_worker_that_is_killed_ends_the_audit_in_one_line(demo, monkeypatch, tmp_path, capsys):
    def dies(data, name):
        if name.endswith("3.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)  # the others have more to do
        return decode(data, name)

    decode = file_checks.decode_picture
    monkeypatch.setattr(file_checks, "decode_picture", dies)
    monkeypatch.setattr(many_files, "worker_count", lambda _: 2)  # on one core it would be us
    words = ["--output_dir", str(tmp_path / "a"), "--cache_dir", str(tmp_path / "c")]
    assert prepare_dataset.main(["audit", str(demo), *words]) == 2
    assert "a process that reads pictures died" in capsys.readouterr().err


def test_a_split_without_any_image_is_noted(demo, tmp_path):
    copy = shutil.copytree(demo, tmp_path / "d")
    for path in (copy / "val").rglob("*.jpg"):
        path.unlink()
    found = audit(copy, AuditConfig(num_workers=2, shortcuts=False))
    assert found.counts["val"] == [0] * 5
    assert any(
        note.startswith("val has no usable image of grade 0, grade 1") for note in found.notes
    )


def test_more_images_than_eyepacs_has_are_noted():
    counts = {"train": [10, 10, 10, 873, 709]}
    said = " ".join(_count_notes(counts, GRADES.titles))
    assert "grade 4 has 709" in said and "grade 3" not in said and EYEPACS_COUNTS[4] == 708


@pytest.mark.slow
def test_grades_that_were_enhanced_apart_alarm_and_a_clean_set_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(shortcuts, "PERMUTATIONS", 50)  # the fewest that can alarm
    monkeypatch.setattr(file_checks, "signature_of", lambda _: EMPTY)  # no copies are looked for
    write_dataset(tmp_path, {"train": 16}, seed=5, size=160)
    clean = audit(tmp_path, AuditConfig(num_workers=2))
    assert [probe.kind for probe in clean.probes] == ["file", "background", "image"]
    assert "alarming" not in {probe.verdict for probe in clean.probes}
    for path in (tmp_path / "train").rglob("*.jpg"):
        grade, picture = int(path.parent.name), cv2.imread(str(path))
        soft = cv2.GaussianBlur(picture, (0, 0), 1.5)
        if grade in (1, 3):
            picture = cv2.addWeighted(picture, 1 + grade / 2, soft, -grade / 2, 0)
        elif grade:
            picture = apply_clahe(picture, grade / 1.5, 8)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    verdicts = {p.kind: p for p in audit(tmp_path, AuditConfig(num_workers=2)).probes}
    assert verdicts["background"].verdict == "alarming" and verdicts["background"].p_value < 0.02
    assert verdicts["file"].verdict != "alarming"
    for path in (tmp_path / "train" / "4").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 70])
    file = audit(tmp_path, AuditConfig(num_workers=2)).probes[0]
    assert file.verdict == "alarming" and "table" in next(iter(file.top_features))


@pytest.mark.slow
@pytest.mark.skipif(not IDRID.is_dir(), reason="the photographs are not here")
def test_what_is_in_the_photographs_is_found():
    """Those found were looked at; of neighbours each pair shows two eyes that look alike."""
    twins = [("045", "333"), ("079", "279"), ("073", "375"), ("327", "028"), ("021", "391")]
    eyes = [("404", "046"), ("038", "126"), ("319", "338"), ("043", "401"), ("133", "282")]
    eyes.append(("354", "339"))
    exposures, blurred = ("013", "397"), "081"
    firsts = [150, 249, 316, 39, 170, 218, 79, 301, 134, 231, 236, 363, 308, 262]
    found = audit(IDRID, QUICK)
    members = [
        (f.kind, frozenset(Path(found.entries[i].id).stem[-3:] for i in f.members))
        for f in found.findings
    ]
    neighbours = [numbers for kind, numbers in members if kind == ALIKE]
    assert neighbours == [{f"{n:03d}", f"{n + 1:03d}"} for n in firsts], "the likest first"
    assert any(note.startswith("14 of the 102 pairs of images") for note in found.notes)
    groups = {group for group in members if group[0] != ALIKE}
    expected = {("identical_files", frozenset(pair)) for pair in twins}
    expected |= {("near_duplicates", frozenset(exposures)), ("blurred", frozenset((blurred,)))}
    expected |= {("same_eye", frozenset(pair)) for pair in eyes}
    conflicts = [twins[3], twins[4], exposures]
    assert groups == expected | {("different_grades", frozenset(pair)) for pair in conflicts}
    assert {f.kind for f in found.leaks} == {"near_duplicates", "same_eye"}
    doubted = [note for note in found.notes if "photographs of different grades" in note]
    assert len(doubted) == 1 and doubted[0].startswith("1 eye ") and "grades 2 and 4" in doubted[0]


def test_classes_are_called_by_their_folders(demo, tmp_path):
    for split in ("train", "val"):
        for grade, name in enumerate(("No_DR", "DR", "DR")):
            place = tmp_path / "set" / split / name
            shutil.copytree(demo / split / str(grade), place, dirs_exist_ok=True)
    for path in (tmp_path / "set" / "val" / "DR").iterdir():
        path.unlink()
    found = audit(tmp_path / "set", AuditConfig(num_classes=2, shortcuts=False))
    assert "val has no usable image of DR" in found.notes
    header = audit_text(found).splitlines()[0]
    assert "No_DR" in header and "DR" in header and "grade" not in header
