"""What a grader says of the images that it is judged on, and of those that things are chosen on."""

import dataclasses

import numpy as np
from helpers import TARGETS, member, predictions

from common.fitting.ensemble import apply_vote, build_ensemble
from common.fitting.grader import ensemble_grader, model_grader
from common.metrics.agreement import count_cycles
from common.metrics.intervals import BootstrapConfig

BOOTSTRAP = BootstrapConfig(50, groups=np.arange(200) // 2)


def patients_of(ids):
    return np.arange(len(ids)) // 4


def test_a_model_s_grader_has_its_images_and_those_of_val_with_their_patients():
    model = member(2.0, 0)
    grader = model_grader(model, "test", BOOTSTRAP, patients_of)
    judged, chosen = grader.judged_on, grader.chosen_on
    assert judged.classes is model.classes and judged.members.shape == (1, 200, 5)
    assert np.array_equal(judged.groups, BOOTSTRAP.groups)
    assert chosen.name == "val" and np.array_equal(chosen.targets, TARGETS)
    assert np.array_equal(chosen.classes.probabilities, model.fitted.classes.probabilities)
    assert np.array_equal(chosen.groups, patients_of(chosen.ids))


def test_an_ensemble_s_grader_has_every_member_and_the_mean_on_both():
    models = [member(2.0, 0), member(3.0, 1)]
    ensemble = build_ensemble(models, ["1", "3"], False)
    grader = ensemble_grader("e", ensemble, models, "test", BOOTSTRAP, patients_of)
    for sample, members in (
        (grader.judged_on, [model.classes.probabilities for model in models]),
        (grader.chosen_on, [model.fitted.classes.probabilities for model in models]),
    ):
        assert np.array_equal(sample.members, members)
        assert np.allclose(sample.classes.probabilities, members[0] / 4 + members[1] * 0.75)
    counts = [count_cycles(model.pairs.pair_probabilities, 5) for model in models]
    assert np.array_equal(grader.judged_on.cycles, np.sum(counts, axis=0))


def test_a_grader_without_images_to_choose_on_says_why():
    model = apply_vote("m", predictions(2.0, 0), "coupling", why_not="val is judged here")
    lonely = model_grader(model, "val", BOOTSTRAP, patients_of)
    assert lonely.chosen_on is None and lonely.why_nothing_is_chosen == "val is judged here"


def test_a_softmax_head_has_no_cycles():
    model = member(2.0, 0)
    soft = dataclasses.replace(model, pairs=predictions(2.0, 0, head="softmax"))
    assert model_grader(soft, "test", BOOTSTRAP, patients_of).judged_on.cycles is None
