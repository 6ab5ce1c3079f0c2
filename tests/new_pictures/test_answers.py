"""What is asked of a grader, and the rows that follow."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import stored_grader

from common.grading.networks import Said
from common.grading.stored_grader import ChosenOn, StoredPoint, StoredReview, StoredSets, grade
from common.new_pictures.answers import Answers, Asked, NoDoubts, choose_asked, grade_texts
from common.new_pictures.description import Arithmetic, facts_of
from common.new_pictures.listing import NewPicture
from common.new_pictures.rows import GRADED, UNGRADABLE, UNLIKE, FileState
from common.new_pictures.run import ReadPicture
from common.prediction.classes import classes_of
from common.screening.abstention import ReviewThreshold
from common.screening.operating_point import Decision
from common.system.errors import InputError

PAIRS = np.random.default_rng(0).uniform(0.02, 0.98, (6, 10))
HERE = Arithmetic("PyTorch", "cpu", "fp32", ("none",))
READ = [
    ReadPicture(NewPicture(f"p/{n}.jpg", "p", f"{n}.jpg"), FileState(1, 2), measured=n)
    for n in range(6)
]


@pytest.fixture
def grader():
    """A grader with thresholds of every kind."""
    points = [
        StoredPoint("referable", "grade 2 or worse", Decision("argmax", 2, math.nan)),
        StoredPoint("referable", "grade 2 or worse", Decision("sensitivity=0.9", 2, 0.4)),
        StoredPoint("referable", "grade 2 or worse", Decision("youden", 2, math.nan), "val: none"),
        StoredPoint("vision-threatening", "grade 3 or worse", Decision("youden", 3, 0.1)),
    ]
    least_certain = np.sort(grade(stored_grader(), [PAIRS]).uncertainty["entropy"])[::-1]
    shares = [ReviewThreshold(s, least_certain[n], s) for s, n in ((0.1, 1), (0.2, 3))]
    return replace(
        stored_grader(),
        points=tuple(points),
        chosen_on=ChosenOn("val", (20, 20, 20, 4, 20)),
        sets=StoredSets(np.array([0.2, 0.2, 0.2, math.nan, 0.2])),
        review=StoredReview("entropy", "few", "", tuple(shares)),
    )


def test_the_first_threshold_is_taken_unless_another_rule_is_asked_for(grader):
    assert choose_asked(grader, "", None) == Asked(1, 0)
    assert choose_asked(grader, "argmax", 0.2) == Asked(0, 1)
    assert choose_asked(grader, "sensitivity=90%", 0.2) == Asked(1, 1)
    assert choose_asked(stored_grader(), "", None) == Asked(0, None)


@pytest.mark.parametrize(
    ("rule", "share", "said"),
    [
        ("sensitivity=0.8", 0.1, "argmax or sensitivity=0.9 or youden; evaluate_ensemble.py"),
        ("youden", 0.1, r"no threshold was found for it \(val: none\); there is argmax or"),
        ("nonsense", 0.1, "expected sensitivity=0.90"),
        ("", 0.15, "--review_share 0.15: expected one that was chosen, 0.1, 0.2"),
    ],
)
def test_what_was_not_chosen_is_refused_with_what_was(grader, rule, share, said):
    with pytest.raises(InputError, match=said):
        choose_asked(grader, rule, share)


def test_a_share_is_refused_where_no_threshold_was_chosen():
    with pytest.raises(InputError, match=r"--review_share 0.1: .* none \(no threshold: not eval"):
        choose_asked(stored_grader(), "", 0.1)


def test_where_nothing_is_referable_no_rule_can_be_asked_for():
    grader = replace(stored_grader(), points=(), scored=classes_of("abcde"))
    assert choose_asked(grader, "", None).point is None
    with pytest.raises(InputError, match="what is referable is not known"):
        choose_asked(grader, "argmax", None)


def test_a_row_says_what_the_grader_says(grader):
    graded = grade(grader, [PAIRS])
    for point, share in ((0, 0), (1, 1)):
        answers = Answers(grader, Asked(point, share), NoDoubts(""))
        rows = answers.judge(READ, Said((PAIRS,)))
        for n, row in enumerate(rows):
            assert row.probabilities == tuple(graded.classes.probabilities[n].tolist())
            assert row.grade == int(row.class_name) == graded.classes.predicted[n]
            assert row.p_referable == graded.scores["referable"][n]
            assert row.referable == graded.referred[point][n]
            assert row.operating_point == grader.points[point].rule
            assert row.uncertainty[0] == graded.uncertainty["entropy"][n]
            assert row.uncertainty[1] is None, "one model has nobody to disagree with"
            assert row.classes_in_set == tuple(np.array(list("01234"))[graded.sets[n]])
            assert row.review == graded.unsure[share][n] == row.reason.startswith("unsure: entropy")
            assert row.outcome == GRADED and row.remarks == (
                "grade 3: too few images on val (4, 9 are needed) to rule it out, so it is in "
                "every set"
            )
            assert "3" in row.classes_in_set and row.class_name in row.classes_in_set
    referred = {tuple(graded.referred[point].tolist()) for point in (0, 1)}
    assert len(referred) == 2, "the operating point matters"
    assert graded.unsure[0].sum() < graded.unsure[1].sum(), "so does the share"


def test_a_share_that_no_threshold_meets_is_said_and_refused_if_it_was_asked_for(grader):
    tied = replace(
        grader,
        review=replace(
            grader.review,
            measure="max-probability",
            thresholds=(ReviewThreshold(0.1, math.inf, 0), ReviewThreshold(0.2, 0.7, 0.2)),
        ),
    )
    answers = Answers(tied, choose_asked(tied, "", None), NoDoubts(""))
    why = "no threshold: the most uncertain of the 84 images of val are equally so, and more than"
    assert answers.open_questions[0] == f"nothing is marked as unsure: {why} 10%"
    assert not any(row.review for row in answers.judge(READ, Said((PAIRS,))))
    assert "Unsure" not in dict(facts_of(answers, HERE))
    with pytest.raises(InputError, match=r"--review_share 0.1: no threshold: .*; there is 0.2"):
        choose_asked(tied, "", 0.1)
    other = Answers(tied, choose_asked(tied, "", 0.2), NoDoubts(""))
    meaning = "one minus the greatest probability"
    assert dict(facts_of(other, HERE))["Unsure"].startswith(f"{meaning} of 0.7 or more")
    reasons = [row.reason for row in other.judge(READ, Said((PAIRS,))) if row.review]
    assert reasons and all(reason.startswith(f"unsure: {meaning} 0.7") for reason in reasons)


def test_a_calibration_is_said_to_be_a_temperature(grader):
    fitted = replace(grader, calibration="1.36, fitted on val (9 images, 2 wrong)")
    for each, said in ((fitted, "temperature 1.36, fitted on"), (grader, "temperature not fitted")):
        facts = dict(facts_of(Answers(each, Asked(0, None), NoDoubts("")), HERE))
        assert facts["Calibration"].startswith(said)
        assert facts["Operating point"].endswith("; none was found for youden (val: none)")


@dataclass(frozen=True)
class Doubtful(NoDoubts):
    """Doubts the first three pictures."""

    def ungradable(self, measured):
        return "black" if measured in (0, 2) else ""

    def unlike(self, said):
        return ["", "far", "far", "", "", ""]


def test_a_doubtful_picture_has_an_outcome_of_its_own_and_no_grade(grader):
    rows = Answers(grader, Asked(1, 0), Doubtful("")).judge(READ, Said((PAIRS,)))
    assert [row.outcome for row in rows] == [UNGRADABLE, UNLIKE, UNGRADABLE, *[GRADED] * 3]
    for row in rows[:3]:
        assert row.review and row.grade is row.class_name is row.referable is None
        assert row.classes_in_set == () and len(row.probabilities) == 5
    assert rows[2].reason == "ungradable: black; unlike the training pictures: far"


def test_what_is_left_open_is_said_in_every_row_once_for_each_reason():
    answers = Answers(stored_grader(), Asked(0, None), NoDoubts("no reference"))
    row = answers.judge(READ, Said((PAIRS,)))[0]
    said = (
        "no set of grades, nothing is marked as unsure: no threshold: not evaluated; no reference"
    )
    assert row.remarks == said and not row.review and row.classes_in_set == ()


@pytest.mark.parametrize(
    ("names", "grades"),
    [
        ("01234", [0, 1, 2, 3, 4]),
        (["No_DR", "DR"], [0, "1-4"]),
        (["a", "b", "c"], [0, 1, 2]),
        ("12345", [0, 1, 2, 3, 4]),
    ],
)
def test_a_grade_is_that_of_the_scale_where_names_tell(names, grades):
    assert grade_texts(classes_of(names)) == grades
