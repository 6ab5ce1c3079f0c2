import cv2
import numpy as np

from common.plots import plot_confusion, plot_roc, plot_training


def opened(path):
    return cv2.imread(str(path))


def test_figures_are_pictures_that_show_their_data(tmp_path):
    names = list("01234")
    plot_confusion(np.diag([9, 9, 9, 9, 9]), names, "t", tmp_path / "a.png")
    plot_confusion(np.full((5, 5), 3), names, "t", tmp_path / "b.png")
    curve = (np.array([0, 0.2, 1]), np.array([0, 0.9, 1]))
    plot_roc({"grade 0": curve}, "t", tmp_path / "c.png")
    plot_roc({}, "t", tmp_path / "d.png")
    rows = [{"epoch": e, "train_loss": 1 / e, "val_loss": 1 / e, "train_accuracy": 0.5} for e in
            range(1, 5)]  # fmt: skip
    plot_training({f"pair {i}": rows for i in range(7)}, "t", tmp_path / "e.png")
    images = [opened(tmp_path / f"{name}.png") for name in "abcde"]
    assert all(image.std() > 5 for image in images)
    assert not np.array_equal(images[0], images[1])
    assert (images[2] != 255).sum() > (images[3] != 255).sum()
