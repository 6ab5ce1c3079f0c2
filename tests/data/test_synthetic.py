"""The drawn photographs: repeatable, marked as synthetic, with lesions that follow the grade."""

import csv

import numpy as np
import pytest

from common.data.synthetic import draw_fundus, draw_with_findings, write_dataset


@pytest.mark.parametrize("grade", range(5))
def test_draws_a_disc_on_black_and_repeats_itself(grade):
    one = draw_fundus(grade, np.random.default_rng(4), 128)
    assert one.shape == (128, 128, 3) and one.dtype == np.uint8
    assert one[:4, :4].max() == 0 and one[50:78, 50:78].mean() > 40
    assert np.array_equal(one, draw_fundus(grade, np.random.default_rng(4), 128))
    assert not np.array_equal(one, draw_fundus(grade, np.random.default_rng(5), 128))


def test_exudates_and_haemorrhages_follow_the_grade():
    def share(grade, test):
        images = [draw_fundus(grade, np.random.default_rng(i), 256).astype(int) for i in range(6)]
        return np.mean([test(image[..., 0], image[..., 1], image[..., 2]) for image in images])

    yellow = [share(g, lambda r, g_, b: ((g_ > 190) & (b < 170)).mean()) for g in range(5)]
    blood = [share(g, lambda r, g_, b: ((r > 85) & (r < 125) & (g_ < 30)).mean()) for g in range(5)]
    assert yellow[2] > 3 * max(yellow[:2])
    assert blood[3] > 1.5 * max(blood[:3]) and blood[1] > 5 * blood[0]


def test_every_file_says_that_it_is_synthetic(tmp_path):
    assert write_dataset(tmp_path, {"train": 2, "test": 1}, seed=0, size=64) == 15
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 15 and all("synthetic" in file.name for file in files)
    assert "drawn by a program" in (tmp_path / "SYNTHETIC.md").read_text()
    assert (tmp_path / "train" / "4" / "synthetic_train_4_0001.jpg").is_file()


@pytest.mark.parametrize("grade", [2, 3])
def test_what_was_drawn_lies_in_its_box_and_nowhere_else(grade):
    drawn = draw_with_findings(grade, np.random.default_rng(7), 256)
    assert np.array_equal(drawn.picture, draw_fundus(grade, np.random.default_rng(7), 256))
    inside = np.zeros((256, 256), bool)
    for found in drawn.findings:
        left, top, right, bottom = (round(256 * share) for share in found.box)
        assert 1 <= right - left < 100 and 1 <= bottom - top < 100, found.kind
        inside[top:bottom, left:right] = True
    red, green, blue = drawn.picture.astype(int).transpose(2, 0, 1)
    seen = (green > 190) & (blue < 170) if grade == 2 else (red < 110) & (red > 95) & (green < 22)
    assert seen.sum() > 300 and seen[inside].sum() > 0.97 * seen.sum()
    discs = [found for found in drawn.findings if found.kind == "optic_disc"]
    assert len(discs) == 1 and 20 < 256 * (discs[0].box[2] - discs[0].box[0]) < 40


def test_a_drawn_dataset_says_where_its_lesions_are(tmp_path):
    write_dataset(tmp_path, {"val": 1}, seed=0, size=64)
    with open(tmp_path / "lesions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {row["finding"] for row in rows if row["image"] == "synthetic_val_2_0000"}
    assert kinds == {"optic_disc", "microaneurysm", "exudate"}
    assert [row["finding"] for row in rows if "_val_0_" in row["image"]] == ["optic_disc"]
    assert all(0 <= float(row["left"]) < float(row["right"]) <= 1 for row in rows)
