"""What an earlier evaluation of the same models had asked for."""

from dataclasses import replace
from types import SimpleNamespace

from helpers import stored_grader

from common.evaluation.questions import Asked
from common.fitting.threshold import parse_rule
from common.grading.earlier_evaluations import say_of_earlier_rules, with_earlier_rules
from common.grading.grader_file import save_grader
from common.grading.stored_grader import StoredPoint
from common.result_dir.paths import ResultDir
from common.screening.operating_point import Decision


def test_a_model_in_an_ensemble_keeps_its_own_rules_first(tmp_path):
    stored = stored_grader()
    point = StoredPoint("referable", "", Decision("specificity=0.8", 2, 0.4))
    directory = ResultDir(tmp_path)
    save_grader(directory.grader, replace(stored, points=(*stored.points, point)))
    outcome = SimpleNamespace(output=directory, grader=SimpleNamespace(chosen_on="val"))
    own, asked = [stored.members[0].checkpoints], Asked((parse_rule("youden"),))
    for in_ensemble, order in ((True, "specificity=0.8 youden"), (False, "youden specificity=0.8")):
        found = with_earlier_rules(asked, outcome, own, in_ensemble)
        assert " ".join(map(str, found.operating_points)) == order
    assert with_earlier_rules(asked, outcome, ["others"], in_ensemble=True) == asked
    (said,) = say_of_earlier_rules(asked, asked, outcome)
    assert said.endswith("was of other classifiers; its --operating_point specificity=0.8 is gone")
