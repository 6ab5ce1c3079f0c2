"""What is kept of predictions that only serve something else, such as fitting."""

from dataclasses import replace

import numpy as np
from helpers import predictions

from common.data.class_names import SetClasses
from common.evaluation_steps.predicting import predict_and_keep
from common.fitting.ensemble import apply_vote
from common.prediction import predict
from common.prediction.classes import classes_of
from common.result_dir.stored import read_predictions


def test_images_in_fewer_classes_leave_the_model_s_own_in_the_file(tmp_path, monkeypatch):
    fine, of_model = predictions(2.0, 0), (0, 0, 1, 1, 1)
    found = replace(
        fine,
        targets=np.array(of_model)[fine.targets],
        scored=classes_of(("no", "yes"), "yes"),
        set_classes=SetClasses(("no", "yes"), of_model),
    )
    monkeypatch.setattr(predict, "predict_run", lambda *given: found)
    path = tmp_path / "predictions_val.npz"
    predict_and_keep(None, "m", None, path, None, "coupling", "")
    arrays, _ = read_predictions(path)
    own = apply_vote("m", fine, "coupling").classes
    assert np.array_equal(arrays["class_probabilities"], own.probabilities)
    assert np.array_equal(arrays["predictions"], np.array(of_model)[own.predicted])
