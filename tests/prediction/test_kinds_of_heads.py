"""What is asked of a model's pairs: of any model that has learned pairs, in one network or ten."""

import dataclasses
import shutil

import numpy as np
import pytest
from helpers import member, predictions

from analyze_per_class_strengths import rank_pairs
from common.config import TrainConfig
from common.evaluation.findings import measure_model
from common.evaluation.gates import gate_input
from common.fitting.ensemble import apply_vote
from common.fitting.grader import model_grader
from common.flags.finding import default_directory, find_runs
from common.metrics.intervals import BootstrapConfig
from common.pairs import class_pairs, heads_of_model, split_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run
from common.system.errors import InputError
from common.system.files import write_json
from common.trained_networks.outputs import pair_probabilities, probabilities_of

FEW = BootstrapConfig(resamples=20, seed=0)
ACCURACIES = np.linspace(0.5, 1.0, 10)


@pytest.mark.parametrize(("kind", "learned"), [("ovo", True), ("shared", True), ("softmax", False)])
def test_models_that_have_learned_pairs_are_asked_about_them(kind, learned):
    own = dataclasses.replace(predictions(2.0, 0, head=kind), pair_accuracies=ACCURACIES)
    model = dataclasses.replace(member(2.0, 0), pairs=own)
    found = measure_model(model, FEW)
    assert ("hard" in found.compared) == learned == (found.consistency is not None)
    assert gate_input(model, {}).pair_accuracies == (ACCURACIES.tolist() if learned else [])
    assert len(rank_pairs(model, FEW)) == (10 if learned else 0)
    grader = model_grader(model, "test", FEW, lambda ids: None)
    assert (grader.judged_on.cycles is not None) == learned
    weighted, plain = (apply_vote("m", own, vote) for vote in ("weighted", "coupling"))
    assert np.array_equal(weighted.voted.probabilities, plain.voted.probabilities) != learned


def test_outputs_of_a_shared_head_are_arranged_by_grade_like_those_of_pairs():
    names = ("Severe", "No_DR", "Mild")  # of grades 3, 0, 1
    logits = np.array([[2.0, 1.0, -0.5]])  # No_DR, Mild against Severe; Mild against No_DR
    run = Run(ResultDir("r"), "demo_convnext", "shared", 3, names, "", "", ())
    # No_DR-Mild, No_DR-Severe, Mild-Severe
    expected = pair_probabilities(np.array([[-0.5, -2.0, -1.0]]), "shared")
    assert probabilities_of(logits, run) == pytest.approx(expected)


def test_values_that_are_not_finite_name_the_one_file():
    run = Run(ResultDir("r"), "demo_convnext", "shared", 3, (), "", "", ("best_shared.pth",))
    with pytest.raises(InputError, match=r"^best_shared\.pth: gives values that are not finite"):
        probabilities_of(np.array([[0.0, 1.0, np.nan]]), run)


def test_a_name_may_end_with_the_kind_of_head():
    assert split_head("convnext_shared") == ("convnext", "shared")
    assert split_head("coatnet_0_rw_224_softmax") == ("coatnet_0_rw_224", "softmax")
    assert split_head("convnext") == ("convnext", "ovo")
    assert split_head("convnext_shared_seed12") == ("convnext", "shared")
    assert str(default_directory("convnext_tiny", 5, "shared")) == "convnext_shared_5class_results"


def test_models_are_found_by_their_names_with_a_kind_of_head(tmp_path):
    for kind in ("ovo", "shared"):
        place = ResultDir(tmp_path / default_directory("demo_convnext", 5, kind))
        config = TrainConfig(model="demo_convnext", head=kind).to_dict()
        write_json(place.config, {"config": config})
        place.models.mkdir()
        for head in heads_of_model(5, kind):
            place.best("demo_convnext", head).touch()
    words = ["demo_convnext_shared", "demo_convnext"]
    runs = find_runs([], words, tmp_path, None)
    assert [(run.head, len(run.files)) for run in runs] == [
        ("shared", 1),
        ("ovo", len(class_pairs(5))),
    ]
    for seed in (9, 10):
        other = tmp_path / default_directory("demo_convnext", 5, "shared", seed)
        shutil.copytree(runs[0].directory.root, other)
    several = find_runs([], words, tmp_path, None)
    assert [run.directory.root.name for run in several] == [
        "demo_convnext_shared_5class_results",
        "demo_convnext_shared_seed9_5class_results",
        "demo_convnext_shared_seed10_5class_results",
        "demo_convnext_5class_results",
    ]
    (ninth,) = find_runs([], ["demo_convnext_shared_seed9"], tmp_path, None)
    assert ninth.directory.root == several[1].directory.root
    with pytest.raises(InputError, match="demo_convnext_seed9_5class_results: expected a result"):
        find_runs([], ["demo_convnext_seed9"], tmp_path, None)
    alone = find_runs([], ["demo_convnext_shared"], tmp_path, None)
    assert [run.directory.root for run in alone] == [run.directory.root for run in several[:3]]
    with pytest.raises(InputError, match="--base_models: the same directory is given twice"):
        find_runs([], [words[0]] * 2, tmp_path, None)
    of_pairs = several[3].directory
    earlier = shutil.copytree(of_pairs.root, tmp_path / "earlier" / of_pairs.root.name)
    shutil.copytree(of_pairs.root, earlier.parent / "demo_convnext_seed3_5class_results")
    ResultDir(earlier).config.unlink()  # as the earlier trainer has none
    assert find_runs([], ["demo_convnext"], earlier.parent, None)[0].directory.root == earlier
    own = runs[1].directory.root
    with pytest.raises(InputError, match="holds demo_convnext, not demo_convnext_shared"):
        find_runs([], ["demo_convnext_shared"], own, None)
    runs[0].files[0].unlink()
    shared = runs[0].directory
    shared.best("demo_convnext", heads_of_model(5, "softmax")[0]).touch()
    with pytest.raises(
        InputError,
        match=rf"\(missing shared\); run train_ovo.py --output_dir {shared.root} --resume, with",
    ):
        find_run(shared)
    write_json(shared.config, {"config": {**config, "head": "two"}})
    with pytest.raises(InputError, match="not a usable configuration"):
        find_run(shared)
    shared.config.unlink()
    with pytest.raises(InputError, match="is missing; the softmax head needs it"):
        find_run(shared)
