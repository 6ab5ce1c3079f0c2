"""The drawn photographs: repeatable, marked as synthetic, with lesions that follow the grade."""

import numpy as np
import pytest

from common.data.synthetic import draw_fundus, write_dataset


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
