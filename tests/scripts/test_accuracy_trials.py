"""Changes of the training that the product does not have, and the mean of weights."""

import numpy as np
import pytest
import torch

from benchmarks import accuracy_trials
from benchmarks.accuracy_trials import TRIALS
from benchmarks.recipes.methods import CHANGES
from benchmarks.recipes.soup import average_weights
from common.config import TrainConfig
from common.data.sampler import epoch_order
from common.models.checkpoint import PairCheckpoint, load_pair
from common.pairs import pair_head, shared_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.training import loop, step

SHARED = {"head": "shared", "epochs": 1, "monitor": "last"}


@pytest.fixture
def restored(monkeypatch):
    """Take back afterwards what a trial puts into the training."""
    for module, names in (
        (loop, ("build_trainer", "pair_batches")),
        (step, ("update", "forward", "sample_losses")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


def network(root) -> PairCheckpoint:
    (file,) = find_run(ResultDir(root)).files
    return load_pair(file)


def differ(one: PairCheckpoint, other: PairCheckpoint) -> bool:
    return any(not torch.equal(one.stages[key], other.stages[key]) for key in one.stages)


def test_trials_are_those_that_the_ablation_names():
    assert {change.trial for change in CHANGES} - {""} == set(TRIALS)


def test_weights_that_are_held_stay_where_they_began_while_the_classifier_learns(
    quick_train, restored, monkeypatch, tmp_path
):
    monkeypatch.setattr(accuracy_trials, "L2_SP", 1e9)
    TRIALS["l2_sp"]()
    found = []
    for epochs in (1, 2):
        assert quick_train(tmp_path / str(epochs), **SHARED | {"epochs": epochs}) == 0
        found.append(network(tmp_path / str(epochs)))
    assert not differ(*found)
    assert not torch.equal(*(one.classifier["weight"] for one in found))


@pytest.mark.parametrize(
    "trial, flags",
    [("mixup", {}), ("pseudo_pairs", {}), ("self_distillation", {"ema_decay": 0.5})],
)
def test_a_trial_teaches_something_else_and_the_same_again(
    quick_train, restored, tmp_path, trial, flags
):
    flags = SHARED | {"epochs": 2} | flags
    assert quick_train(tmp_path / "plain", **flags) == 0
    TRIALS[trial]()
    for name in ("changed", "again"):
        assert quick_train(tmp_path / name, **flags) == 0
    plain, changed, again = (network(tmp_path / name) for name in ("plain", "changed", "again"))
    assert differ(plain, changed) and not differ(changed, again)


def test_a_grade_teaches_pairs_of_others_where_it_stands_between_or_beyond_them(restored):
    TRIALS["pseudo_pairs"]()
    head, config = shared_head(5), TrainConfig(enable_focal_loss=False, label_smoothing=0.0)
    weights, grade = torch.ones(len(head.pairs), 2), torch.tensor([2])

    def loss(**logits: float) -> float:
        """Of an image of grade 2 where single pairs, by name, say other than a half."""
        said = torch.zeros(1, len(head.pairs))
        for name, logit in logits.items():
            said[0, head.pairs.index((int(name[1]), int(name[2])))] = logit
        return float(step.sample_losses(config, head, weights, said, grade))

    assert loss(p01=9) < loss() < loss(p01=-9), "it is above both"
    assert loss(p34=-9) < loss() < loss(p34=9), "it is below both"
    assert loss() < loss(p13=1) == pytest.approx(loss(p13=-1)), "it is halfway"
    assert loss(p12=9) < loss() < loss(p12=-9), "its own pair"


def test_rare_grades_are_drawn_as_often_as_common_ones(restored):
    labels = np.repeat([0, 1], [900, 100])
    order = epoch_order(0, 0, len(labels))
    head = pair_head((0, 1))

    def shares() -> float:
        batches = loop.pair_batches(
            order, labels, [head], 8, 8, lambda rows: torch.zeros(len(rows))
        )
        return float(labels[np.concatenate([batch.indices for batch in batches])].mean())

    TRIALS["balanced"]()
    assert shares() == pytest.approx(0.5, abs=0.05)
    with torch.no_grad():  # validation
        assert shares() == pytest.approx(0.1)


def test_a_soup_has_the_mean_of_its_members_weights(quick_train, tmp_path):
    for seed in (0, 1):
        assert quick_train(tmp_path / str(seed), **SHARED | {"seed": seed}) == 0
    members = [ResultDir(tmp_path / str(seed)) for seed in (0, 1)]
    average_weights(members, ResultDir(tmp_path / "soup"))
    one, other, soup = (network(tmp_path / name) for name in ("0", "1", "soup"))
    for key, weight in soup.stages.items():
        assert torch.allclose(weight, (one.stages[key] + other.stages[key]) / 2, atol=1e-7)
    assert differ(one, soup) and soup.head == one.head
