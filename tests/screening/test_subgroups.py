"""The main figures within subgroups, and whether a gap between them is more than chance."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import grader_of, sample_of

from common.evaluation.questions import Answers, Asked, ask
from common.fitting.threshold import Rule
from common.metrics.bounds import metrics_with_intervals
from common.prediction.classes import classes_of
from common.reporting.screening_tables import answers_tables
from common.screening.operating_point import Decision
from common.screening.subgroups import Subgroups, measure_subgroups

TARGETS = np.tile(np.arange(5), 12)  # (60,)
PREDICTED = np.where(np.arange(60) < 30, TARGETS, (TARGETS + 1) % 5)
ARGMAX = [Decision("argmax", 2, np.nan)]
PATIENTS = np.arange(60) // 2
CAMERAS = ["Canon"] * 30 + ["Nikon"] * 25 + [""] * 5


def measured(targets=TARGETS, predicted=PREDICTED, groups=PATIENTS, columns=None, **named):
    """Measure a grader that predicts these classes, by these columns."""
    sample = sample_of(targets, np.eye(5)[predicted], groups=groups)
    found = measure_subgroups(grader_of(sample), columns or named, ARGMAX)
    assert isinstance(found, Subgroups)
    return found


def skilled(count, accuracies, seed=0):
    """Draw targets, groups of alternating patients of two images, and predictions of (N,) skill."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 5, count)
    wrong = generator.uniform(size=count) > accuracies
    return targets, np.where(wrong, (targets + 2) % 5, targets)


def test_each_value_is_measured_by_itself_beside_all_images():
    found = measured(camera=CAMERAS)
    assert [(g.value, g.images, g.patients, g.referable) for g in found.groups] == [
        ("Canon", 30, 15, 18),
        ("Nikon", 25, 13, 15),
        ("", 5, 3, 3),
    ]
    assert [group.too_few for group in found.groups] == [False, False, True]
    assert (found.overall.images, found.overall.metrics["accuracy"].value) == (60, 0.5)
    sample = sample_of(TARGETS[:30], np.eye(5)[PREDICTED[:30]], groups=PATIENTS[:30])
    alone = metrics_with_intervals(
        sample.targets,
        sample.classes,
        replace(grader_of(sample).bootstrap, groups=sample.groups),
        2,
    )
    own = found.groups[0].metrics
    assert list(own) == ["accuracy", "kappa", "referable_sensitivity", "referable_specificity"]
    assert all(own[name] == pytest.approx(alone[name]) for name in own)


def test_what_is_undefined_has_a_reason_and_a_set_without_referable_class_says_so():
    ends = ["low" if target < 2 else "high" for target in TARGETS]
    high, low = measured(end=ends).groups
    assert low.undefined == {"referable_sensitivity": "no image is referable"}
    assert high.undefined == {"referable_specificity": "every image is referable"}
    odd = grader_of(sample_of(TARGETS, np.eye(5)[PREDICTED]), classes=classes_of("abcde"))
    found = measure_subgroups(odd, {"camera": CAMERAS}, [])
    assert list(found.overall.metrics) == ["accuracy", "kappa"]
    assert found.overall.referable is None and "what is referable is not known" in found.notes[-1]


def test_a_real_gap_is_named_and_told_from_chance():
    cameras = np.tile(["Canon", "Canon", "Topcon", "Topcon"], 100)
    targets, predicted = skilled(400, np.where(cameras == "Topcon", 0.6, 0.9))
    found = measured(targets, predicted, np.arange(400) // 2, camera=cameras.tolist())
    gap = found.largest_gap
    assert gap.beyond_chance and (gap.best.value, gap.worst.value) == ("Canon", "Topcon")
    own = [g.metrics[gap.figure.name].value for g in found.groups]
    assert gap.difference.value == pytest.approx(own[0] - own[1])
    assert 0 < gap.difference.low < gap.difference.value < gap.difference.high


def test_many_equal_subgroups_make_gaps_within_chance():
    beyond = 0
    for seed in range(20):
        targets, predicted = skilled(240, 0.8, seed)
        draw = np.random.default_rng(seed + 50)
        columns = {f"c{k}": draw.choice(list("abcdef"), 120).repeat(2).tolist() for k in range(4)}
        found = measured(targets, predicted, np.arange(240) // 2, columns=columns)
        assert max(gap.difference.value for gap in found.gaps) > 0.1
        beyond += found.largest_gap.beyond_chance
    assert beyond <= 3  # of 20, at 5 %


def test_one_patient_s_images_are_one_observation():
    """Ten patients, all images of one alike: cameras that split them by luck are no evidence."""
    patients = np.repeat(np.arange(10), 20)
    right = np.isin(patients, (0, 1, 2, 3, 4, 5))
    targets = np.tile(np.arange(5), 40)
    predicted = np.where(right, targets, (targets + 1) % 5)
    cameras = np.where(np.isin(patients, (0, 1, 2, 3, 9)), "A", "B").tolist()
    clustered = measured(targets, predicted, patients, camera=cameras).largest_gap
    alone = measured(targets, predicted, None, camera=cameras).largest_gap
    assert alone.beyond_chance and not clustered.beyond_chance
    assert clustered.p > 0.1


def test_values_of_few_images_or_not_known_make_no_gap():
    found = measured(camera=["A"] * 27 + ["B"] * 9 + [""] * 24)
    assert found.gaps == [] and found.largest_gap is None
    found = measured(camera=["A"] * 30 + ["B"] * 25 + ["C"] * 5)
    assert {gap.worst.value for gap in found.gaps if gap.figure.name == "accuracy"} == {"B"}


def test_a_gap_is_between_two_values_also_where_the_figure_is_the_same():
    found = measured(TARGETS, TARGETS, None, sex=["F", "M"] * 30)
    assert len(found.gaps) == 4
    assert all({gap.best.value, gap.worst.value} == {"F", "M"} for gap in found.gaps)


def test_a_figure_without_a_gap_says_why():
    sick = np.where(TARGETS < 2, "Nikon", "Canon").tolist()
    found = measured(camera=sick)
    assert {gap.figure.name for gap in found.gaps} == {"accuracy", "kappa"}
    assert "no gap by camera in ref. sens., ref. spec.: it takes two known" in found.notes[-1]


def test_a_patient_seen_by_two_cameras_is_shuffled_as_one():
    cameras = ["A", "B"] * 30
    found = measured(camera=cameras)  # both see the same patients, right or wrong alike
    assert all(0 < gap.p <= 1 for gap in found.gaps)
    assert not found.largest_gap.beyond_chance


def test_an_operating_point_adds_its_sensitivity_and_specificity():
    probabilities = np.tile([0.1, 0.5, 0.4, 0, 0], (60, 1))
    grader = grader_of(sample_of(TARGETS, probabilities, groups=PATIENTS))
    decisions = [*ARGMAX, Decision("youden", 2, 0.35)]
    found = measure_subgroups(grader, {"camera": CAMERAS}, decisions)
    metrics = found.groups[0].metrics
    assert metrics["referable_sensitivity"].value == 0
    assert metrics["referable_sensitivity at youden"].value == 1
    assert metrics["referable_specificity at youden"].value == 0


def test_without_metadata_the_question_has_a_reason_and_no_answer():
    grader = grader_of(sample_of(TARGETS, np.eye(5)[PREDICTED]))
    answers = ask(grader, Asked())
    assert answers.subgroups is None and "metadata.csv" in answers.unanswered["subgroups"]
    asked = Asked(columns={"camera": CAMERAS}, operating_points=(Rule("argmax"), Rule("argmax")))
    assert ask(grader, asked).subgroups.figures[2].decision.rule == "argmax"


def test_the_tables_show_counts_intervals_few_images_and_the_largest_gap():
    found = measured(camera=CAMERAS, site=["A"] * 60)
    subgroups, gaps = answers_tables(Answers(subgroups=found))[:2]
    text = subgroups.to_text()
    assert "no subgroups by site: all images have A" in text
    assert "[5]" in text and "fewer than 10 images" in text
    header, rows = subgroups.to_csv()
    assert header[:6] == ["column", "value", "images", "patients", "referable", "accuracy"]
    assert [row[2] for row in rows] == [60, 30, 25, 5]
    assert (
        "Largest gap: accuracy 1.000 of Canon (30 images) and 0.000 of Nikon (25" in gaps.to_text()
    )
    assert "beyond chance" in gaps.to_text()
    assert found.to_json()["gaps"][0]["beyond_chance"] is True


def test_a_figure_is_marked_by_the_images_that_it_is_of_and_a_gap_counts_those():
    targets = np.array([0] * 27 + [3] * 3 + [0, 3] * 15)  # 3 of A's 30 images are referable
    found = measured(targets, targets, None, camera=["A"] * 30 + ["B"] * 30)
    subgroups, gaps = answers_tables(Answers(subgroups=found))[:2]
    names = [column.name for column in subgroups.columns]
    assert subgroups.marked == {(1, names.index("referable_sensitivity"))}
    assert "a sensitivity is of those that are referable" in subgroups.to_text()
    header, rows = gaps.to_csv()
    counts = {
        row[0]: (row[header.index("images")], row[header.index("images_lowest")]) for row in rows
    }
    assert set(counts["ref. spec."]) == {27, 15} and set(counts["accuracy"]) == {30}
    assert "ref. sens." not in counts


def test_one_image_or_one_grade_is_no_obstacle():
    assert measured([3], [3], None, camera=["A"]).groups == []
    found = measured([0] * 40, [0] * 40, None, camera=["A", "B"] * 20)
    assert found.groups[0].undefined["kappa"] and found.groups[0].metrics["accuracy"].value == 1
    assert found.largest_gap.difference.value == 0 and not found.largest_gap.beyond_chance
    assert found.largest_gap.difference.low < 0 < found.largest_gap.difference.high


def test_the_seed_changes_the_permutations_alone():
    grader = grader_of(sample_of(TARGETS, np.eye(5)[PREDICTED], groups=PATIENTS))
    one, same, other = (
        measure_subgroups(
            replace(grader, bootstrap=replace(grader.bootstrap, seed=seed)),
            {"camera": CAMERAS},
            ARGMAX,
        ).gaps
        for seed in (0, 0, 1)
    )
    assert one == same
    assert [gap.difference.value for gap in one] == [gap.difference.value for gap in other]
