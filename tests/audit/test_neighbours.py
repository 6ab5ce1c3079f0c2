"""Neighbouring names that may be of one patient are noticed; what else resembles is not."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from common.audit.dataset import ALIKE, AuditConfig, audit, summarise
from common.audit.holdout import HoldoutConfig, check_holdout
from common.audit.neighbours import compare_neighbours, name_order, neighbours_note
from common.audit.report import audit_text, write_audit
from common.data.folders import scan_dataset
from common.data.patients import recognise_patients
from common.evaluation.gates import FAIL, NOT_MEASURED
from common.fitting.sources import find_training
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run

NAMES = [f"train/0/eye_{number:03d}.jpg" for number in range(1, 201)]


def backgrounds(of_image: np.ndarray, noise: float = 0.02) -> dict[str, np.ndarray]:
    """Draw three statistics of each image (N,), which are nearly equal where the number is."""
    generator = np.random.default_rng(0)
    drawn = generator.normal(size=(3, of_image.max() + 1))[:, of_image]
    noisy = drawn + generator.normal(scale=noise, size=drawn.shape)
    return dict(zip(("red", "green", "blue"), noisy))


PATIENTS = np.arange(200) // 2  # two images each, one after the other


def test_patients_whose_images_follow_one_another_are_noticed():
    found = compare_neighbours(NAMES, backgrounds(PATIENTS))
    assert found.surprising and found.p_value < 1e-12
    assert len(found.neighbours) > 80 and found.expected < 3
    assert (0, 1) in found.neighbours and (1, 2) not in found.neighbours


def test_neighbours_may_lie_in_several_folders():
    names = [f"{'train' if n % 2 else 'test'}/{n % 5}/eye_{n:03d}.jpg" for n in range(200)]
    assert compare_neighbours(names, backgrounds(PATIENTS)).surprising


def test_the_order_of_names_is_that_of_their_numbers_not_of_their_letters():
    names = [name.replace("_0", "_").replace("_0", "_") for name in NAMES]
    assert names[1] == "train/0/eye_2.jpg"
    first, again = (compare_neighbours(each, backgrounds(PATIENTS)) for each in (NAMES, names))
    assert first == again
    assert name_order(["b_10", "b_9.JPG", "b_11.jpg"]).tolist() == [1, 0, 2]


def test_few_patients_among_many_images_are_noticed():
    of_image = np.arange(200)
    of_image[1:40:2] = of_image[0:40:2]
    assert compare_neighbours(NAMES, backgrounds(of_image)).surprising


@pytest.mark.parametrize(
    "of_image",
    [
        np.random.default_rng(1).permutation(PATIENTS),
        np.arange(200),
        np.arange(200) // 100,  # sorted by grade or camera
        np.arange(200) // 40,  # by day
    ],
    ids=["patients in any order", "all alone", "two cameras", "five days"],
)
def test_what_resembles_images_far_away_as_well_is_not_noticed(of_image):
    found = compare_neighbours(NAMES, backgrounds(of_image))
    assert found.pairs and not found.surprising
    assert neighbours_note(found, NAMES, ["train"] * 200) == []


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_not_noticed(seed):
    generator = np.random.default_rng(seed)
    order = generator.permutation(200)
    assert not compare_neighbours([NAMES[i] for i in order], backgrounds(PATIENTS)).surprising


def test_names_without_an_order_say_nothing():
    names = [f"train/0/{chr(97 + n // 26)}{chr(97 + n % 26)}.jpg" for n in range(200)]
    found = compare_neighbours(names, backgrounds(PATIENTS))
    assert found.pairs > 80 and found.neighbours == () and not found.surprising


def test_numbers_that_start_anew_in_each_folder_are_compared_within_it():
    names = [f"train/{n // 40}/eye_{n % 40}.jpg" for n in range(200)]
    assert compare_neighbours(names, backgrounds(PATIENTS)).surprising
    between = [f"train/{n % 2}/eye_{n // 2}.jpg" for n in range(200)]
    assert not compare_neighbours(between, backgrounds(PATIENTS)).surprising


def test_equal_numbers_of_two_splits_are_no_neighbours():
    names = [f"train/{n % 2}/eye_{n}.jpg" for n in range(160)]
    names += [f"test/{n % 2}/eye_{n}.jpg" for n in range(40)]  # the same numbers, other patients
    found = compare_neighbours(names, backgrounds(PATIENTS))
    assert found.surprising and len(found.neighbours) > 80
    assert all(abs(first - second) == 1 for first, second in found.neighbours)
    strangers = np.r_[np.arange(160), np.arange(40)]  # each number looks like its namesake
    assert not compare_neighbours(names, backgrounds(strangers)).neighbours


def test_backgrounds_that_are_equal_to_the_last_bit_are_found():
    found = compare_neighbours(NAMES, backgrounds(PATIENTS, noise=0))
    assert found.pairs == len(found.neighbours) == 100


def test_what_is_kept_together_or_told_apart_does_not_count():
    statistics, told = backgrounds(PATIENTS), np.ones(200, dtype=bool)
    assert not compare_neighbours(NAMES, statistics, units=PATIENTS).surprising
    assert compare_neighbours(NAMES, statistics, told=told).pairs == 0
    told[:40] = False  # of twenty patients nobody knows
    found = compare_neighbours(NAMES, statistics, told=told)
    assert found.surprising and max(map(max, found.neighbours)) < 41
    tens = np.arange(1, 201) // 10  # cuts some patients
    cut = compare_neighbours(NAMES, statistics, units=tens).neighbours
    assert cut and all((first + 2) % 10 == 0 for first, _ in cut)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_images_say_nothing(count):
    columns = {name: values[:count] for name, values in backgrounds(PATIENTS).items()}
    assert not compare_neighbours(NAMES[:count], columns).surprising


def test_equal_statistics_say_nothing():
    same = {"red": np.ones(200), "green": np.ones(200)}
    assert compare_neighbours(NAMES, same).pairs == 0


@pytest.fixture
def numbered(tmp_path):
    """Sixty patients, each with two discs of one colour in a row, half of them in test."""
    generator = np.random.default_rng(0)
    colours = generator.uniform(60, 220, size=(60, 3))
    for number in range(120):
        picture = np.zeros((128, 128, 3), np.uint8)
        colour = colours[number // 2] + generator.normal(scale=1, size=3)
        cv2.circle(picture, (64, 64), 60, colour.tolist(), -1)
        picture[0, 0] = number  # no two files are equal
        split = "train" if number % 2 else "test"
        file = tmp_path / "d" / split / str(number % 4 // 2) / f"eye_{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), picture)
    return tmp_path / "d"


def test_an_audit_says_so_until_it_knows_the_patients(numbered, tmp_path):
    config = AuditConfig(num_classes=2, num_workers=2, shortcuts=False)
    found = audit(numbered, config)
    notes = [note for note in found.notes if "neighbouring names" in note]
    assert summarise(found)[ALIKE]["across_splits"] == summarise(found)[ALIKE]["found"] > 20
    assert not found.leaks and "alike_neighbours" in audit_text(found)
    written = write_audit(found, tmp_path / "audit", {})
    assert any(path.name == "alike_neighbours_sheet_1.png" for path in written)
    assert len(notes) == 1 and "such as test/0/eye_000.png and train/0/eye_001.png" in notes[0]
    assert " lie in two splits, such as" in notes[0] and r"--patient_regex '(.*)\d'" in notes[0]
    for regex, is_told in ((r"(.*)\d", True), (r"(.*)\.", False)):  # the latter: each is alone
        told = AuditConfig(num_classes=2, num_workers=2, shortcuts=False, patient_regex=regex)
        assert any("neighbouring" in n for n in audit(numbered, told).notes) != is_told


def test_the_holdout_does_not_pass_until_it_knows_the_patients(numbered, tmp_path):
    dataset = scan_dataset(numbered, 2)
    test, known = dataset.split("test"), dataset.split("train").fingerprint()
    run = Run(ResultDir(tmp_path), "resnet50", "ovo", 2, (), str(numbered), known, ())
    models = find_training([("resnet50", run)], dataset)
    config = HoldoutConfig(num_workers=2)
    found = check_holdout(test, dataset, models, None, config).evaluated
    assert found.status == NOT_MEASURED
    assert found.reason.startswith("a patient may be in test and in train or val: ")
    assert "lie in both, as test/0/eye_000.png and train/0/eye_001.png;" in found.reason
    told = check_holdout(test, dataset, models, None, replace(config, patient_regex=r"(.*)\d"))
    assert told.evaluated.status == FAIL and "12 patients of test" in told.evaluated.reason
    alone = check_holdout(test, dataset, models, None, replace(config, patient_regex=r"(.*)\."))
    assert alone.evaluated.status == NOT_MEASURED, "a pattern that groups nothing tells nothing"
    for number, path in enumerate(sorted((numbered / "train").rglob("*.png"))):
        path.rename(path.with_name(f"other_{number:03d}.png"))  # an order that says nothing
    dataset = scan_dataset(numbered, 2)
    models = find_training([("resnet50", run)], dataset)
    assert (
        "a patient may" not in check_holdout(test, dataset, models, None, config).evaluated.reason
    )


@pytest.mark.parametrize(
    "name",
    [
        "eye_{:03d}.jpg",
        "eye_{}.jpg",
        "eye_{:03d}.jp2",
        "eye_{}0.jpg",
        "eye_{}_512px.jpg",
        "img{:04d}-v2.png",
        "{:03d} Q90.jpg",
        "Fundus ({}).jpg",
        "20190101_09{:04d}.png",
    ],
)
def test_the_pattern_that_is_advised_keeps_most_neighbours_together(name):
    ids = [f"train/0/{name.format(number)}" for number in range(1, 201)]
    found = compare_neighbours(ids, backgrounds(PATIENTS))
    (note,) = neighbours_note(found, ids, ["train"] * 200)
    groups = recognise_patients(ids, note.split("'")[1]).groups
    together = [groups[first] == groups[second] for first, second in found.neighbours]
    assert np.mean(together) > 0.5 and np.bincount(groups).max() <= 20


def test_no_pattern_is_advised_where_none_keeps_neighbours_together():
    numbers = np.sort(np.random.default_rng(0).choice(10**9, 200, replace=False))
    ids = [f"train/0/{number}.jpg" for number in numbers]
    found = compare_neighbours(ids, backgrounds(PATIENTS))
    (note,) = neighbours_note(found, ids, ["train"] * 200)
    assert "--patient_regex" not in note and note.endswith("keeps patients together")
