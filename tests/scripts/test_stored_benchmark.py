"""The benchmark of what reads stored predictions: what it writes is used, and laid out."""

import numpy as np
import torch

from benchmarks.many_images.stored_predictions import store_predictions
from benchmarks.speed import report, results
from benchmarks.speed.results import Spent, StoredSection
from common.data.folders import scan_dataset
from common.prediction.predict import PredictionConfig, predict_run
from common.prediction.predictions import load_predictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run


def test_stored_predictions_are_drawn_and_used_as_if_the_model_had_made_them(trained_copy, demo):
    run, split = find_run(ResultDir(trained_copy)), scan_dataset(demo).split("test")
    store_predictions(run, split, 0)
    stored = load_predictions(run.directory.predictions("test"))
    config = PredictionConfig(trained_copy / "cache", 1, torch.device("cpu"), "fp32")
    found = predict_run(run, split, config, run.directory.predictions("test"))
    assert np.array_equal(found.pair_probabilities, stored.pair_probabilities)
    store_predictions(run, split, 1)
    other = load_predictions(run.directory.predictions("test"))
    assert not np.array_equal(other.pair_probabilities, stored.pair_probabilities)


def test_what_was_measured_is_kept_and_held_against_its_goals(tmp_path):
    spent = {"predict.py": Spent(0.4, 0.5)}
    evaluated = {"evaluate_ensemble.py": Spent(31.0, 40.0), "compare_models.py": Spent(50.0, 60.0)}
    section = StoredSection("command", "processor", 10_000, 7, 1000, spent, evaluated)
    results.store(tmp_path, results.STORED, section)
    text = report.write(tmp_path, results.load(tmp_path))
    assert "of each command, processor time | CPU | the slowest | < 1.5 s | 0.4 s | met |" in text
    assert "| < 30.0 s | 31.0 s | missed |" in text
    assert "| the slowest | < 1.5 s | not measured | `python -m benchmarks.stored` |" in text
    assert "7 models on 10,000 images" in text
