"""The measurement of how many altered copies are found."""

import cv2
import numpy as np
import pytest

from benchmarks import near_duplicates
from benchmarks.copies.changes import CHANGES
from common.data.synthetic import write_dataset


def test_every_change_gives_a_picture_and_leaves_its_source_alone():
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    before = picture.copy()
    for name, (change, quality) in CHANGES.items():
        changed = change(picture)
        assert changed.dtype == np.uint8 and changed.ndim == 3 and min(changed.shape) > 0, name
        assert cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, quality])[0]
    assert (picture == before).all()


@pytest.mark.slow
def test_recall_is_measured_on_any_folder_of_pictures(tmp_path, capsys, monkeypatch):
    write_dataset(tmp_path, {"train": 1}, 0, 384)
    kept = {name: CHANGES[name] for name in ("turned by 10 degrees", "mirrored")}
    monkeypatch.setattr(near_duplicates, "CHANGES", kept)
    flags = ["--dataset_path", str(tmp_path), "--photographs", "3", "--mixed", "30"]
    assert near_duplicates.main(flags) == 0
    shown = capsys.readouterr().out
    assert "turned by 10 degrees | 0 | 3 | 0" in shown and "mirrored | 3 | 3 | 0" in shown
    assert "30 signatures of points mixed by lot: 0 pairs" in shown
    assert near_duplicates.main(["--dataset_path", str(tmp_path / "none")]) == 2
