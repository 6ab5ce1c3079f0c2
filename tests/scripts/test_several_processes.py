"""The scripts as torchrun starts them: several processes, and the outcome of one."""

import json
import shutil

import numpy as np
from helpers import flags, run_ranks

import evaluate_ensemble
from common.result_dir import ResultDir


def evaluation(trained, folder, demo, cache):
    """Return the work of evaluating a copy of a model in a folder, on its way to be the same."""
    copy = shutil.copytree(trained, folder / "demo_5class_results")
    values = {"results_dirs": copy, "dataset_path": demo, "cache_dir": cache, "device": "cpu"}
    values |= {"resamples": 20, "evidence_maps": 0, "holdout_check": "names", "num_workers": 1}
    values |= {"figure_format": "none", "precision": "fp32"}
    return lambda rank: evaluate_ensemble.main(flags(**values))


def test_an_evaluation_by_three_processes_is_that_of_one(trained, demo, shared_cache, tmp_path):
    found = {}
    for name, size in (("one", 1), ("three", 3)):
        work = evaluation(trained, tmp_path / name, demo, shared_cache)
        assert run_ranks(size, work, tmp_path / f"{name}.txt") == [0] * size
        place = ResultDir(tmp_path / name / "demo_5class_results")
        arrays = [np.load(place.predictions(split)) for split in ("test", "val")]
        metrics = json.loads(place.metrics("test").read_text())
        del metrics["cost"]["images_per_second"]
        tables = {p.name: p.read_bytes() for p in place.tables.iterdir() if "cost" not in p.name}
        found[name] = arrays, metrics, tables
        assert not (place.results / ".parts").exists()
    for one, three in zip(found["one"][0], found["three"][0], strict=True):
        for key in set(one.files) - {"details"}:
            assert np.array_equal(one[key], three[key]), key
    assert found["one"][1:] == found["three"][1:]
    said = (tmp_path / "three.txt").read_text()
    assert "without rows" not in said and "note: this command" not in said
