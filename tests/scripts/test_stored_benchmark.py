"""The benchmark of what reads stored predictions: what it writes is used, and laid out."""

import numpy as np

import compare_models
from benchmarks import report, results
from benchmarks.results import Spent, StoredSection
from benchmarks.stored_predictions import write_dataset_and_models
from common.prediction.predictions import load_predictions
from common.result_dir import ResultDir


def test_stored_predictions_are_drawn_for_models_that_differ(tmp_path):
    models = write_dataset_and_models(tmp_path, 200, 2)
    words = ["--results_dirs", *map(str, models), "--resamples", "20"]
    assert compare_models.main([*words, "--output_dir", str(tmp_path / "compared")]) == 0
    first, other = (load_predictions(ResultDir(each).predictions("test")) for each in models)
    assert len(first.ids) == 200 and np.array_equal(first.targets, other.targets)
    assert not np.array_equal(first.pair_probabilities, other.pair_probabilities)


def test_what_was_measured_is_kept_and_held_against_its_goals(tmp_path):
    spent = {"predict.py": Spent(0.4, 0.5)}
    evaluated = {"evaluate_ensemble.py": Spent(31.0, 40.0), "compare_models.py": Spent(50.0, 60.0)}
    section = StoredSection("command", "processor", 10_000, 7, 1000, spent, evaluated)
    results.store(tmp_path, results.STORED, section)
    text = report.write(tmp_path, results.load(tmp_path))
    assert "| --help of each script, processor time | CPU | < 1.5 s | 0.4 s | met |" in text
    assert "seven models, processor time | CPU | < 30 s | 31.0 s | missed |" in text
    assert "7 models on 10,000 images" in text
