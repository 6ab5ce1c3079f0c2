"""Figures: their texts can be read whatever they show, and their files are the same again."""

import math
import re
import warnings

import cv2
import numpy as np
import pytest
from figures.drawings import DRAWINGS, TITLE, clashes, cost, names_of, texts_of
from helpers import grader_of, probabilities_of, sample_of
from matplotlib.figure import Figure

from common.evaluation.questions import Asked, ask
from common.figures.comparison import plot_cost, plot_intervals
from common.figures.evaluation import FIGURES, Before, draw_evaluation
from common.figures.matrices import Matrices, plot_confusion, plot_heatmaps
from common.figures.roc import RocPanel, RocPoint, plot_roc
from common.figures.screening import ForestRow, plot_forest
from common.figures.style import QUIET, new_figure, save_figure, short_names, spread
from common.fitting.calibration import Temperature
from common.fitting.threshold import ARGMAX, Rule
from common.metrics.intervals import UNKNOWN, Interval

pytestmark = pytest.mark.usefixtures("drawn_figures")
SHOWN = ((1, 2, False), (3, 5, True), (7, 5, False))  # models, classes, whether names are long


def shown(figure: Figure, monkeypatch) -> list[str]:
    return [text.text for text in texts_of(figure, monkeypatch)]


@pytest.mark.parametrize("models, classes, long", SHOWN)
@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_no_text_lies_over_another_or_leaves_the_figure(draw, models, classes, long, monkeypatch):
    figure = draw(models, classes, long)
    texts = texts_of(figure, monkeypatch)
    assert len(texts) > 3 and not clashes(figure, texts)
    assert figure.get_figwidth() <= 9.2, "inches: a page's width, or little more"


def test_texts_that_lie_over_each_other_or_leave_the_figure_are_found(monkeypatch):
    figure = new_figure(3, 2, "title")
    for place in (0.5, 0.51, 2.0):
        figure.text(place, 0.5, f"at {place}")
    assert clashes(figure, texts_of(figure, monkeypatch)) == [
        "'at 0.51' lies over 'at 0.5'",
        "'at 2.0' leaves the figure",
    ]


def test_a_figure_is_a_png_for_print_with_a_vector_file_beside_it(tmp_path):
    path = tmp_path / "a.png"
    for vector, files in (
        ("svg", ["a.png", "a.svg"]),
        ("pdf", ["a.pdf", "a.png"]),
        ("none", ["a.png"]),
    ):
        save_figure(cost(3, 5, False), path, vector)
        assert sorted(each.name for each in tmp_path.iterdir()) == files, "no older one is left"
    picture = cv2.imread(str(path))
    assert picture.std() > 5 and picture.shape[1] == 1050, "5.25 inches of 200 dots"


@pytest.mark.parametrize("vector", ["svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes_without_a_date(tmp_path, vector):
    for name in ("a", "b"):
        save_figure(cost(3, 5, False), tmp_path / f"{name}.png", vector)
    first, second = ((tmp_path / f"{name}.{vector}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert not re.search(rb"CreationDate|dc:date", first)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_odd_names_do_no_harm(tmp_path):
    odd = ["$x_1$", "<script>alert(1)</script>", "a\ud800b", "tab\tand\nline", "中文"]
    series = {name: [Interval(0.8, 0.7, 0.9), UNKNOWN] for name in odd}
    save_figure(plot_intervals(series, ["<b>", "--"], "<i> \x00"), tmp_path / "a.png")
    svg = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<script" not in svg and "\x00" not in svg
    save_figure(plot_confusion(np.eye(5), odd, odd[2]), tmp_path / "b.png", "pdf")


def test_what_no_font_has_is_written_as_code_points_not_as_boxes(tmp_path, monkeypatch):
    names = ["\U0010fffd", "léger", "β"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each box
        figure = plot_confusion(np.eye(3), names, names[0])
        save_figure(figure, tmp_path / "a.png", "none")
    texts = shown(figure, monkeypatch)
    assert {"\\U0010fffd", "léger", "β"} <= set(texts)


def test_a_trial_looks_the_same_in_every_panel_and_unlike_the_others():
    rate = Interval(0.9, math.nan, math.nan)

    def point(study, asked=False):
        return RocPoint(f"{study}{asked}", rate, rate, study, asked)

    panels = [
        RocPanel("referable", {}, [point("ours")], [point("A"), point("A", True), point("B")]),
        RocPanel("threatening", {}, [point("ours")], [point("B"), point("C")]),
    ]
    drawn = {}
    for axes in plot_roc(panels, "t").axes:
        for line in axes.get_lines():
            look = (line.get_marker(), line.get_color(), line.get_markerfacecolor())
            drawn.setdefault(line.get_label(), set()).add(look)
    looks = [drawn[name] for name in ("oursFalse", "AFalse", "ATrue", "BFalse", "CFalse")]
    assert all(len(each) == 1 for each in looks)
    ours, found, asked, *others = [next(iter(each)) for each in looks]
    assert found[:2] == asked[:2] and asked[2] == "white"
    assert len({look[0] for look in (ours, found, *others)}) == 4


def test_what_would_be_cut_off_makes_a_figure_larger(tmp_path):
    figure = new_figure(3, 2, "")
    figure.text(1.5, 0.5, "outside")
    save_figure(figure, tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 5 * 200 * 0.9


def test_models_are_sorted_by_the_first_figure_and_unknown_ones_say_so(monkeypatch):
    values = {"a": 0.7, "b": 0.9, "c": math.nan, "d": 0.8}
    series = {
        name: [Interval(v, v - 0.1, v + 0.05), Interval(0.5, 0.4, 0.6)]
        for name, v in values.items()
    }
    figure = plot_intervals(series, ["accuracy", "kappa"], "t")
    left = figure.axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == ["c", "a", "d", "b"]
    assert shown(figure, monkeypatch).count("n/a") == 1
    assert left.get_xlim()[0] > 0.5, "the axis is near the values"


def test_heat_maps_of_one_meaning_share_a_scale(monkeypatch):
    groups = [
        Matrices("share", {"a": np.full((3, 3), 0.1), "b": np.full((3, 3), 0.6)}),
        Matrices("likeness", {"c": np.full((3, 3), -0.2)}, around_zero=True),
    ]
    groups[0].values["a"][0, 0] = math.nan
    figure = plot_heatmaps(groups, list("xyz"), list("uvw"), "t")
    scales = {
        axes.get_title(loc="left"): axes.images[0].norm for axes in figure.axes if axes.images
    }
    assert (scales["a"].vmin, scales["a"].vmax) == (scales["b"].vmin, scales["b"].vmax)
    assert scales["c"].vmin == -scales["c"].vmax
    texts = shown(figure, monkeypatch)
    assert texts.count("n/a") == 1 and texts.count("0.10") >= 8 and texts.count("-0.20") >= 9


def test_a_grade_without_images_has_no_shares(monkeypatch):
    texts = shown(plot_confusion(np.array([[3, 1], [0, 0]]), ["no", "yes"], "t"), monkeypatch)
    assert {"3\n75 %", "1\n25 %", "no\n4 images", "yes\n0 images"} <= set(texts)
    assert texts.count("–") == 2


def test_an_evaluation_is_drawn_with_its_operating_points(monkeypatch):
    targets = np.arange(60) % 5
    val, test = (probabilities_of(targets, seed=seed) for seed in (1, 2))
    grader = grader_of(
        sample_of(targets, test, members=[test, val]),
        sample_of(targets, val, name="val", members=[val, test]),
    )
    columns = {"camera": ["A", "B", ""] * 20}
    altered = {name: grader.chosen_on.classes for name in ("blur", "half resolution")}
    asked = Asked((ARGMAX, Rule("sensitivity", 0.9)), columns=columns, altered=altered)
    answers = ask(grader, asked)
    before = Before(grader.chosen_on.classes, Temperature(0.6, 60, 9), "0.60, fitted on val")
    figures = draw_evaluation(grader, TITLE, answers, before)
    assert set(figures) == set(FIGURES)
    for figure in figures.values():
        assert not clashes(figure, texts_of(figure, monkeypatch))
    texts = [text.replace("\n", " ") for text in shown(figures["roc"], monkeypatch)]
    assert "vision-threatening (grade 3 or worse)" in texts
    point = answers.operating_points.detections[0].points[1]
    label = next(text for text in texts if "sensitivity=0.9 on val" in text)
    assert f"threshold {point.threshold.value:.3f}" in label
    assert f"sensitivity {point.judged.sensitivity.value:.3f} [" in label
    assert sum("IDx-DR's trial, other people" in text for text in texts) == 2
    assert "A (20 images)" in shown(figures["subgroups"], monkeypatch)
    assert "grade 4 (12 images)" in shown(figures["sets"], monkeypatch)
    rules = " ".join(shown(figures["referral"], monkeypatch))
    assert f"{answers.abstention.best} (chosen on val), AURC" in rules
    assert "half resolution" in shown(figures["robustness"], monkeypatch)
    columns = shown(figures["reliability"], monkeypatch)
    assert any("as voted" in text for text in columns)
    assert any("temperature 0.60, fitted on val" in text for text in columns)
    alone = shown(draw_evaluation(grader, TITLE)["roc"], monkeypatch)
    assert not any("trial" in text or "threshold" in text for text in alone)


def test_what_no_image_shows_is_not_drawn(monkeypatch):
    targets = np.array([0, 1, 0, 1])  # nothing is referable
    grader = grader_of(sample_of(targets, probabilities_of(targets)))
    figures = draw_evaluation(grader, TITLE, ask(grader, Asked()))
    texts = shown(figures["roc"], monkeypatch)
    assert texts.count("n/a: all images are alike in this") == 2
    named = " ".join(shown(figures["roc_grades"], monkeypatch))
    assert "grade 1, AUC" in named and "grade 3, AUC" not in named
    for figure in figures.values():
        assert not clashes(figure, texts_of(figure, monkeypatch))


def test_names_are_short_and_stay_different():
    assert short_names(names_of(3)) == list(names_of(3))
    long = short_names(["x" * 60 + "1" + "y" * 60, "x" * 60 + "2" + "y" * 60], 20)
    assert len(set(long)) == 2 and all(len(name) < 25 for name in long)


def test_labels_are_moved_apart_no_more_than_needed():
    moved = spread(np.array([0.1, 0.11, 0.5, 0.99]), 0.1, 0.0, 1.0)
    assert np.diff(moved).min() >= 0.1 - 1e-9 and moved.max() <= 1 and moved.min() >= 0
    assert moved[2] == pytest.approx(0.5)
    assert np.diff(spread(np.zeros(20), 0.1, 0.0, 1.0)).min() >= 0.1 - 1e-9, "even without room"


def test_a_model_of_unknown_cost_is_left_out_and_few_models_have_ticks(monkeypatch):
    entry = Interval(0.8, 0.7, 0.9)
    figure = plot_cost(
        {"a": 4.9, "b": 5.1, "c": math.nan, "d": 0.0}, dict.fromkeys("abcd", entry), "t"
    )
    texts = shown(figure, monkeypatch)
    assert {"a", "b"} <= set(texts) and not {"c", "d"} & set(texts)
    assert len(figure.axes[0].get_xticks()) >= 3
    assert plot_cost({"a": math.nan}, {"a": entry}, "t")


def test_many_subgroups_end_where_the_table_goes_on(monkeypatch):
    entry = Interval(0.8, 0.7, 0.9)
    rows = [ForestRow(f"site {n}", "12 images", [entry], few=[False]) for n in range(130)]
    figure = plot_forest(["accuracy"], [entry], {"site": rows}, "t")
    texts = texts_of(figure, monkeypatch)
    assert "(31 more in the table)" in {text.text for text in texts}
    assert not clashes(figure, texts)


def test_what_rests_on_few_images_is_grey_and_nothing_else_of_its_row():
    entry = Interval(0.8, 0.7, 0.9)
    rows = [ForestRow("A", "30 images", [entry, entry], few=[False, True])]
    figure = plot_forest(["accuracy", "sensitivity"], [entry, entry], {"site": rows}, "t")
    plain, grey = (axes.lines[-1].get_color() for axes in figure.axes)
    assert grey == QUIET and plain != QUIET
    assert "too few images" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_title_of_several_lines_takes_no_room_from_what_is_drawn():
    short, long = (new_figure(4, 3, "word " * count) for count in (3, 60))
    assert long.get_figheight() > short.get_figheight() + 0.5
