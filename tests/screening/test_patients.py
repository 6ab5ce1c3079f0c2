"""Results per patient and eye: hand-computed decisions, and images of nobody known."""

import numpy as np
import pytest
from helpers import grader_of, probabilities_of, sample_of

from common.data.patients import recognise_eyes
from common.fitting.threshold import ARGMAX, Rule
from common.screening.operating_point import find_operating_points
from common.screening.patients import People, measure_patients

PATIENTS = [0, 0, 1, 1, 2]
EYES = ["left", "right", "left", "right", "left"]
TARGETS = [0, 2, 1, 1, 4]
PROBABILITIES = [
    [0.9, 0.1, 0, 0, 0],  # 0, right
    [0.1, 0.5, 0.4, 0, 0],  # 2, called 1
    [0.1, 0.3, 0.6, 0, 0],  # 1, called 2
    [0.0, 0.9, 0.1, 0, 0],  # 1, right
    [0.0, 0.0, 0, 0.4, 0.6],  # 4, right
]


def people_of(patients, eyes=None, known=None):
    count = len(patients)
    return People(
        np.array(patients),
        np.ones(count, dtype=bool) if known is None else np.array(known),
        np.array([""] * count if eyes is None else eyes),
        "3 patients",
    )


def measure(people, rule="worst", targets=TARGETS, probabilities=PROBABILITIES, rules=(ARGMAX,)):
    grader = grader_of(sample_of(targets, probabilities, groups=people and people.patients))
    found = measure_patients(grader, people, rule, find_operating_points(grader, rules))
    return found if isinstance(found, str) else {each.unit: each for each in found.results}


def test_the_worst_image_decides_for_a_patient():
    found = measure(people_of(PATIENTS, EYES))["patient"]
    # true 2, 1, 4; worst predictions 1, 2, 4
    assert found.units == 3 and found.accuracy.value == pytest.approx(1 / 3)
    rates = found.found[0].rates
    assert rates.sensitivity.value == 0.5 and rates.specificity.value == 0


def test_the_mean_of_the_probabilities_decides_if_asked_for():
    found = measure(people_of(PATIENTS, EYES), "mean")["patient"]
    # means: grade 0 (0.5), grade 1 (0.6), grade 4: true 2, 1, 4
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.found[0].rates.specificity.value == 1


def test_images_eyes_and_patients_stand_beside_each_other():
    found = measure(people_of(PATIENTS, EYES))
    assert {unit: each.units for unit, each in found.items()} == {
        "image": 5,
        "eye": 5,
        "patient": 3,
    }
    assert found["image"].accuracy.value == found["eye"].accuracy.value == pytest.approx(3 / 5)


def test_several_images_of_an_eye_are_one_eye():
    found = measure(people_of([0, 0, 0, 1, 2], ["left", "left", "right", "left", "left"]))["eye"]
    assert found.units == 4
    # worst grades 2, 1, 1, 4; worst predictions 1, 2, 1, 4
    assert found.accuracy.value == 0.5


def test_an_operating_point_is_applied_to_the_patient_s_greatest_probability():
    people = people_of(PATIENTS)
    chosen = sample_of(TARGETS, PROBABILITIES, "val")
    grader = grader_of(sample_of(TARGETS, PROBABILITIES), chosen)
    points = find_operating_points(grader, (Rule("sensitivity", 0.9),))
    assert points.detections[0].points[0].threshold.value == pytest.approx(0.4)
    found = measure_patients(grader, people, "worst", points).results[-1].found[0].rates
    assert found.sensitivity.value == 1 and found.specificity.value == 0
    mean = measure_patients(grader, people, "mean", points).results[-1].found[0].rates
    assert mean.sensitivity.value == 0.5 and mean.specificity.value == 1


def test_images_of_nobody_known_count_by_themselves_and_are_said():
    found = measure(people_of([0, 0, 7, 8, 9], EYES, [True, True, False, False, False]))
    assert found["patient"].units == 4 and found["patient"].alone == 3
    assert found["eye"].units == 5 and found["eye"].alone == 3


def test_without_known_patients_the_question_has_a_reason():
    assert measure(None) == "nothing tells who the images are of"
    nobody = people_of(range(5), known=[False] * 5)
    assert measure(nobody) == nobody.evidence


def test_patients_with_one_image_each_have_the_results_of_images():
    people = people_of(range(5), EYES)
    grader = grader_of(sample_of(TARGETS, PROBABILITIES))
    found = measure_patients(grader, people, "worst", find_operating_points(grader, (ARGMAX,)))
    image, eye, patient = found.results
    assert image.accuracy == eye.accuracy == patient.accuracy
    assert "one image" in found.notes[-1]


def test_one_grade_alone_leaves_kappa_undefined_with_a_reason():
    found = measure(people_of(PATIENTS), targets=[0] * 5, probabilities=np.eye(5)[[0] * 5])
    assert (
        np.isnan(found["patient"].kappa.value)
        and "graded as" in found["patient"].undefined["kappa"]
    )


def test_patients_are_counted_as_independent():
    """Twice the same image of each patient says no more of the patients than one."""
    targets = np.tile(np.arange(5), 12)
    probabilities = probabilities_of(targets, 1.0)
    once = measure(people_of(np.arange(60)), targets=targets, probabilities=probabilities)
    twice = measure(
        people_of(np.tile(np.arange(60), 2)),
        targets=np.tile(targets, 2),
        probabilities=np.tile(probabilities, (2, 1)),
    )
    assert once["patient"].accuracy == twice["patient"].accuracy


class EyeTable:
    def column(self, name, ids):
        return ["OD", "os", "", "2"] if name == "eye" else [""] * 4


@pytest.mark.parametrize(
    ("names", "eyes"),
    [
        (["0/10_left.jpg", "1/10_right.jpg", "0/11_left_aug1.jpg"], ["left", "right", "left"]),
        (["P1_OD.jpg", "P1_OS.jpg", "P2_OD_20190101.png"], ["right", "left", "right"]),
        (["P1_OD.jpg", "P1_OI.jpg"], ["right", "left"]),
        (["1_l1.jpg", "1_r2.jpg", "x.jpg"], ["left", "right", ""]),
        (["P1_OD.jpg", "P2_OD.jpg"], ["", ""]),  # one word alone may mean anything
        (["left/a.jpg", "right/b.jpg"], ["", ""]),  # folders are classes
        (["boldleft.jpg", "right.jpg"], ["", ""]),
    ],
)
def test_eyes_are_read_in_file_names(names, eyes):
    assert recognise_eyes(names).tolist() == eyes


def test_a_table_s_eyes_go_before_those_in_names():
    names = ["a_left.jpg", "b_right.jpg", "c_left.jpg", "d_right.jpg"]
    assert recognise_eyes(names, EyeTable()).tolist() == ["right", "left", "left", "2"]
