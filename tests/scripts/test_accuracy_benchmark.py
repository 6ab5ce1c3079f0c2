"""The measurement of how accurate recipes are, on answers that no network gave."""

import csv
import itertools
import shutil
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from benchmarks import accuracy, fold_ensemble, learning_curve
from benchmarks.accuracy_tables import report, results
from benchmarks.accuracy_tables.gather import Reader, largest_grid
from benchmarks.accuracy_tables.measures import Answers, differences, judge, pool_folds, summarise
from benchmarks.accuracy_tables.results import Grid
from benchmarks.pixels import PixelChange, ask, read_changed, without_illumination
from benchmarks.recipes import runs
from benchmarks.recipes.methods import CHANGED, CHANGES, PROBES, TITLES
from benchmarks.recipes.probe import choose_strength, pair_probabilities
from benchmarks.recipes.runs import Place, Run
from common.config import config_differences
from common.data.synthetic import draw_fundus
from common.fitting.images import FittingImages
from common.metrics.intervals import BootstrapConfig
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.prediction.classes import classes_of
from common.prediction.predictions import Cost, Origin, PairPredictions, save_predictions
from common.prediction.voting import combine_pairs
from common.result_dir.paths import ResultDir
from common.system.errors import InputError
from common.system.files import write_json

MODEL, FOLDS, EACH = "demo_convnext", 5, 15  # images of a fold
FEW = BootstrapConfig(30)


def answers(seed: int, folds=(1, 2, 3, 4, 5), skill: float = 2.0) -> Answers:
    """Draw what a method says; the images of a fold, and their grades, are always the same."""
    generator = np.random.default_rng(seed)
    every = np.repeat(np.arange(1, FOLDS + 1), EACH)
    targets = np.arange(len(every)) % 5
    scores = np.exp(generator.normal(size=(len(every), 5)) + skill * np.eye(5)[targets])
    shares = scores / scores.sum(1, keepdims=True)
    ids = np.array([f"val/{place:03}" for place in range(len(every))])
    found = Answers(ids, targets, every, np.arange(len(every)) // 2, shares, shares.argmax(1))
    return found.of_folds(list(folds))


def test_nothing_that_is_fitted_for_a_fold_has_seen_its_images():
    plain = answers(0)
    own = plain.folds == 2
    turned, shares = plain.targets.copy(), plain.probabilities.copy()
    turned[own] = (turned[own] + 1) % 5
    one, other = judge(plain), judge(replace(plain, targets=turned))
    assert np.array_equal(one.calibrated[own], other.calibrated[own])
    assert np.array_equal(one.referred[own], other.referred[own])
    assert not np.array_equal(one.calibrated[~own], other.calibrated[~own])
    shares[own] = 0.2
    flat = judge(replace(plain, probabilities=shares))
    assert np.allclose(flat.calibrated[own], 0.2)


def test_of_one_fold_nothing_is_calibrated_and_its_figures_say_so():
    alone = judge(answers(0, [3]))
    figures = summarise([alone], FEW)
    assert alone.calibrated is None and np.isnan(figures["calibrated_ece"].value)
    assert figures["kappa"].low < figures["kappa"].value < figures["kappa"].high
    assert figures["kappa"].spread is None


def test_methods_are_compared_on_the_folds_that_both_have():
    whole, part = judge(answers(0)), judge(answers(0, [1, 2]))
    found = differences([whole], [part], FEW)
    assert all(vars(one) == {"value": 0, "low": 0, "high": 0} for one in found.values())
    assert differences([part], [judge(answers(0, [4]))], FEW) == {}
    better = differences([judge(answers(1, skill=6))], [part], FEW)["kappa"]
    assert 0 < better.low < better.value < better.high


def test_the_spread_is_that_over_the_seeds():
    seeds = [judge(answers(seed)) for seed in range(3)]
    figure = summarise(seeds, FEW)["accuracy"]
    alone = [(one.answers.predicted == one.answers.targets).mean() for one in seeds]
    assert figure.by_seed == pytest.approx(alone)
    assert figure.value == pytest.approx(np.mean(alone))
    assert figure.spread == pytest.approx(np.std(alone, ddof=1))


def test_the_recall_of_a_grade_is_that_of_its_images():
    drawn = answers(3)
    figures = summarise([judge(drawn)], FEW)
    for grade in range(5):
        own = drawn.predicted[drawn.targets == grade] == grade
        assert figures[f"recall_{grade}"].value == pytest.approx(own.mean())
    without = drawn.targets != 1
    rest = Answers(*(getattr(drawn, name)[without] for name in vars(drawn)))
    assert np.isnan(summarise([judge(rest)], FEW)["recall_1"].value)


def test_pooled_folds_hold_each_image_once_with_its_fold_and_group():
    def part(names: list[str], targets: list[int]) -> FittingImages:
        count = len(names)
        pairs = np.full((count, 10), 0.5)
        return FittingImages("val", np.array(names), np.array(targets), pairs, pairs, 5, "ovo")

    pooled = pool_folds(
        {2: part(["val/b", "val/c"], [1, 2]), 1: part(["val/a"], [0])},
        {"val/a": "7", "val/b": "7", "val/c": "9"},
    )
    assert pooled.ids.tolist() == ["val/a", "val/b", "val/c"]
    assert pooled.folds.tolist() == [1, 2, 2] and pooled.groups.tolist() == [7, 7, 9]
    assert pooled.targets.tolist() == [0, 1, 2]


def test_seeds_that_lack_folds_of_another_are_left_out():
    assert largest_grid({0: {1, 2, 3}, 1: {1, 2}, 2: {1, 2, 3}}) == Grid((0, 2), (1, 2, 3))
    assert largest_grid({}) is None and largest_grid({0: set()}) is None


def test_the_probe_finds_what_is_linear_and_chooses_its_strength_within_train():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    inputs = np.eye(3)[labels] + 0.1 * generator.normal(size=(60, 3))
    strength = choose_strength(inputs, labels, np.arange(60) // 2, 3)
    pairs = pair_probabilities(inputs, labels, inputs, strength, 3)
    assert (combine_pairs(pairs, 3).predicted == labels).all()
    without = pair_probabilities(inputs[20:], labels[20:], inputs, strength, 3)
    assert (without[:, :2] == 0.5).all()  # nothing was learned of class 0


def test_a_change_of_pixels_is_that_change_alone(tmp_path):
    file, plain = (
        tmp_path / "eye.png",
        Preprocessing(64, (0.5,) * 3, (0.5,) * 3, enable_clahe=False),
    )
    Image.fromarray(draw_fundus(2, np.random.default_rng(0), 200)).save(file)
    cropped = read_changed(file, plain, PixelChange("crop", "inner 80 %", kept=0.8))
    assert np.array_equal(cropped, load_pixels(file, replace(plain, img_size=80))[8:72, 8:72])
    equalised = read_changed(file, plain, PixelChange("CLAHE", "4", clip_limit=4.0))
    with_clahe = replace(plain, enable_clahe=True, clahe_clip_limit=4.0)
    assert np.array_equal(equalised, load_pixels(file, with_clahe))
    without = read_changed(file, plain, PixelChange("", "", picture=without_illumination))
    assert np.array_equal(without, without_illumination(load_pixels(file, plain)))
    assert (without[0] == 128).all() and without[32].std() > 0
    assert (without_illumination(np.full((64, 64, 3), 90, np.uint8)) == 128).all()


def test_a_fold_is_graded_by_probes_of_the_others():
    images = answers(0)
    features = np.eye(5)[images.targets] + np.random.default_rng(0).normal(0, 0.1, (75, 5))
    found, own = ask(features, images), images.folds == 2
    assert (found.predicted == images.targets).all()
    turned = np.where(own, (images.targets + 1) % 5, images.targets)
    again = ask(features, replace(images, targets=turned))
    assert np.array_equal(again.probabilities[own], found.probabilities[own])


# -- a folder of faked runs ----------------------------------------------------------------------


@pytest.fixture
def place(tmp_path) -> Place:
    """A place whose folds are divided, and a dataset of their (empty) pictures."""
    found = Place(tmp_path / "runs", tmp_path / "data", train_flags="--no_pretrained")
    drawn = answers(0)
    rows = []
    for id_, grade, fold, group in zip(drawn.ids, drawn.targets, drawn.folds, drawn.groups):
        name = f"{id_[4:]}.png"
        picture = found.dataset / "train" / str(grade) / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
        file = f"{grade}/{name}"
        rows.append([file, f"train/{file}", grade, f"fold_{fold}", group, "", ""])
    (found.root / "folds").mkdir(parents=True)
    with (found.root / "folds" / "manifest.csv").open("w", newline="") as file:
        columns = ["file", "source", "grade", "part", "group", "sha256", "left_out_because"]
        csv.writer(file).writerows([columns, *rows])
    return found


def fake(place: Place, run: Run, skill: float = 2.0, parts=()) -> None:
    """Leave behind what a complete run does; parts: in its val, by default the fold's own."""
    drawn = answers(zlib.crc32(f"{run.recipe} {run.seed}".encode()), parts or [run.fold], skill)
    pairs = np.stack(
        [
            drawn.probabilities[:, b] / drawn.probabilities[:, [a, b]].sum(1)
            for a in range(5)
            for b in range(a + 1, 5)
        ],
        axis=1,
    )
    predictions = PairPredictions(
        model=run.model,
        head="ovo",
        class_names=list("01234"),
        ids=np.array([f"val/{y}/{id_[4:]}.png" for y, id_ in zip(drawn.targets, drawn.ids)]),
        targets=drawn.targets,
        pair_probabilities=pairs,
        pair_accuracies=np.ones(10),
        cost=Cost(1, 1.0, 1.0, "cpu"),
        origin=Origin("", "", "", "fp32"),
        scored=classes_of("01234"),
    )
    directory = place.directory(run)
    directory.mkdir(parents=True)
    save_predictions(place.predictions(run), predictions, combine_pairs(pairs, 5), "coupling")
    write_json(ResultDir(directory).config, {"config": place.config(run).to_dict()})
    content = {"seconds": 90.0, "processor": "a CPU", "versions": {"numpy": "2"}, "git_commit": "x"}
    write_json(directory / "run.json", content)


def write_folds(place: Place) -> None:
    """Put the (empty) pictures into the folds that the manifest tells of."""
    drawn = answers(0)
    for fold in range(1, FOLDS + 1):
        for id_, grade, own in zip(drawn.ids, drawn.targets, drawn.folds):
            split = "val" if own == fold else "train"
            picture = place.fold(fold) / split / str(grade) / f"{id_[4:]}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.touch()


def command(place: Place, *more: str) -> list[str]:
    words = ["--dataset_path", str(place.dataset), "--output_dir", str(place.root)]
    words += ["--report_dir", str(place.root.parent), "--base_models", MODEL]
    return [*words, f"--train_flags={place.train_flags}", "--resamples", "20", *more]


def test_what_is_complete_is_measured_and_written_and_not_made_again(place, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(runs, "_train", lambda place, run, _: made.append(run))
    monkeypatch.setattr(runs, "in_own_process", lambda work, own, run: fake(own, run))
    monkeypatch.setattr(runs, "training_seconds", lambda _: 30.0)
    for seed in (0, 1):
        for fold in range(1, FOLDS + 1):
            fake(place, Run("softmax", MODEL, seed, fold))
    page = place.root.parent / "docs" / "accuracy.md"
    page.parent.mkdir()
    page.write_text(f"Mine.\n{report._NEW_PAGE}And this.\n")
    change = CHANGES[0]
    words = ["--methods", "softmax", "guide", "shared", "--seeds", "0", "--folds", "1", "2"]
    assert accuracy.main(command(place, *words)) == 0
    assert [run.recipe for run in made] == ["guide", "shared"] * 2
    assert accuracy.main(command(place, "--ablation", change.name)) == 0
    assert [run.recipe for run in made[4:]] == [CHANGED, change.name] * 2
    text = page.read_text()
    assert text.startswith("Mine.\n") and text.endswith("And this.\n")
    lacks = "2 x 1 (incomplete: folds 1, 2 alone, 2 seeds elsewhere)"
    assert f"| {TITLES['shared']} | {lacks} |" in text
    assert f"| (f) heads: (b) + (e) | {TITLES['softmax']} |" in text.replace(
        f"| {TITLES['shared']} |", f"| {TITLES['softmax']} |"
    )
    assert "chosen on the images that it is judged on" in text
    assert f"| {change.setting} | {change.to} | folds 1, 2 x 1 |" in text
    found = results.load(place.root.parent / "benchmarks" / "accuracy.json")
    assert [each.name for each in found.methods.rows][:3] == ["softmax", "guide", "shared"]
    assert (page.parent / "images" / "accuracy.png").is_file()
    page.write_text(report._NEW_PAGE)
    assert accuracy.main(command(place, "--render_only")) == 0
    assert page.read_text() in text
    capsys.readouterr()


def test_the_recipe_for_further_networks_joins_ensembles(place):
    other, file = "demo_coatnet", place.root.parent / "benchmarks" / "accuracy.json"
    for fold in (1, 2):
        for run in (Run("guide", MODEL, 0, fold), Run("shared", MODEL, 0, fold)):
            fake(place, run)
        fake(place, Run("shared", other, 0, fold))
    assert accuracy.main(command(place, "--methods")) == 0
    alone = results.load(file).methods.rows
    assert [row.name for row in alone] == ["guide", "shared"]
    table = (place.root.parent / "docs" / "accuracy.md").read_text()
    assert f"| {TITLES['guide']} [1] | 2 x 1 (incomplete: folds 1, 2 alone) |" in table
    assert f"| minus {TITLES['shared']} |" in table  # though it was measured after the guide's
    assert accuracy.main(command(place, "--methods", "--base_models", MODEL, other)) == 0
    rows = {row.name: row for row in results.load(file).methods.rows}
    assert list(rows) == ["guide", "shared", f"shared {other}", "networks"]
    assert rows["guide"].figures == alone[0].figures
    assert rows["networks"].members == ["shared", f"shared {other}"]
    assert "(f) 2 networks of (e)" in (place.root.parent / "docs" / "accuracy.md").read_text()


def test_probes_have_the_recipes_pixels_but_for_their_own(place):
    plain, every = (place.config(Run(recipe, MODEL, 0, 1)) for recipe in PROBES)
    recipe = place.config(Run("shared", MODEL, 0, 1))
    changed = [change.name for change in config_differences(recipe.to_dict(), plain)]
    assert changed == ["pooled_stages"]
    changed = [change.name for change in config_differences(recipe.to_dict(), every)]
    assert changed == ["img_size", "pooled_stages"]


def test_each_change_is_one_of_the_recipe_or_what_the_recipe_has_by_now(place):
    place = replace(place, train_flags="")  # a change needs pretrained weights
    plain = place.config(Run(CHANGED, MODEL, 0, 1))
    changed = [
        config_differences(plain.to_dict(), place.config(Run(c.name, MODEL, 0, 1)))
        for c in CHANGES
        if c.flags
    ]
    assert all(len(each) <= 2 for each in changed) and sum(map(bool, changed)) > 15
    assert len({change.name for change in CHANGES}) == len(CHANGES)


def test_a_run_with_other_settings_is_not_taken_for_this_one(place, capsys):
    run = Run("softmax", MODEL, 0, 1)
    fake(place, run)
    assert place.is_complete(run) and not place.is_complete(replace(run, fold=2))
    other = replace(place, train_flags="--no_pretrained --epochs 3")
    with pytest.raises(InputError, match="was made with epochs 12, and softmax now has 3"):
        other.is_complete(run)


def test_other_views_are_asked_for_once_and_compared_with_the_recipes_own(place, monkeypatch):
    asked = []

    def predict(_, own: Place, run: Run, tta: str) -> None:
        asked.append((run.recipe, run.fold, tta))
        own.predictions(run, tta).write_bytes(own.predictions(run).read_bytes())

    monkeypatch.setattr(runs, "in_own_process", predict)
    for fold in (1, 2):
        fake(place, Run(CHANGED, MODEL, 0, fold))
    recipe = place.config(Run(CHANGED, MODEL, 0, 1))
    change = next(each for each in CHANGES if each.tta not in ("", recipe.tta))
    for _ in range(2):
        assert accuracy.main(command(place, "--ablation", change.name)) == 0
    assert asked == [(CHANGED, fold, change.tta) for fold in (1, 2)]
    rows = results.load(place.root.parent / "benchmarks" / "accuracy.json").changes.rows
    assert [row.setting for row in rows] == ["the recipe", change.setting, "vote", "vote"]
    assert rows[1].difference["kappa"].value == 0


def test_a_smaller_share_of_images_is_a_part_of_each_grade_and_of_a_larger_share():
    labels = np.repeat(np.arange(5), (40, 2, 30, 9, 1))
    half, quarter = (learning_curve.rows_to_learn_from(labels, share) for share in (0.5, 0.25))
    assert np.bincount(labels[half]).tolist() == [20, 1, 15, 5, 1]
    assert np.bincount(labels[quarter]).tolist() == [10, 1, 8, 3, 1]
    assert set(quarter) < set(half) and (np.diff(half) > 0).all()
    assert len(learning_curve.rows_to_learn_from(labels, 1.0)) == len(labels)


def test_fewer_images_are_learned_from_and_the_same_are_judged(place, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(runs, "_train", lambda own, run, _: made.append((own, run)))
    monkeypatch.setattr(runs, "in_own_process", lambda work, own, run: fake(own, run) or 30.0)
    monkeypatch.setattr(runs, "training_seconds", lambda _: 60.0)
    write_folds(place)
    words = [word if word != "--base_models" else "--base_model" for word in command(place)]
    assert learning_curve.main([*words, "--shares", "0.5", "1"]) == 0
    assert [(own.root.name, own.config(run).epochs, run.fold) for own, run in made] == [
        (name, epochs, fold)
        for name, epochs in (("share_0.5", 12), ("runs", 12), ("share_0.5_epochs_24", 24))
        for fold in range(1, FOLDS + 1)
    ]
    half = place.root / "share_0.5" / "folds" / "fold_1"
    assert len(list((half / "val").rglob("*.png"))) == EACH
    kept = list((half / "train").rglob("*.png"))
    assert len(kept) == 30 and all(
        path.resolve().parts[-4:-2] == ("fold_1", "train") for path in kept
    )
    stored = results.load(place.root.parent / "benchmarks" / "accuracy.json").learning
    whole, half_of_it = "60, a share of 1", "30, a share of 0.5"
    longer = f"{half_of_it}, 24 epochs"
    assert [row.to for row in stored.rows] == [whole, half_of_it, longer, whole, half_of_it]
    assert [bool(row.difference) for row in stored.rows] == [False, True, True, True, True]
    assert stored.rows[1].difference["kappa"].value == 0, "the same answers were faked"
    assert stored.rows[3].minutes == 0.5 and stored.rows[0].minutes == 1.0
    page = (place.root.parent / "docs" / "accuracy.md").read_text()
    assert f"| {TITLES['shared']} | 30, a share of 0.5 | 5 x 1 |" in page
    count = len(made)
    assert learning_curve.main([*words, "--shares", "0.5", "1"]) == 0 and len(made) == count
    for shares in (["0.5"], ["0", "1"], ["1", "1.5"]):
        assert learning_curve.main([*words, "--shares", *shares]) == 2
        assert "expected shares above 0 and up to 1" in capsys.readouterr().err


def test_models_of_folds_together_judge_what_none_of_them_has_learned_from(place, monkeypatch):
    made = []

    def predict(work, own: Place, run: Run) -> None:
        val = list((own.fold(run.fold) / "val").rglob("*.png"))
        parts = sorted({int(path.stem) // EACH + 1 for path in val})
        learned = {path.name for path in (own.fold(run.fold) / "train").rglob("*.png")}
        assert not learned & {path.name for path in val}
        made.append((len(learned), frozenset(parts)))
        # the skill depends on what is left out, so that no two models say the same
        fake(own, run, 1.0 + min(parts) / 10, parts)

    monkeypatch.setattr(runs, "_train", lambda own, run, _: None)
    monkeypatch.setattr(runs, "in_own_process", predict)
    monkeypatch.setattr(runs, "training_seconds", lambda _: 60.0)
    write_folds(place)
    words = [word if word != "--base_models" else "--base_model" for word in command(place)]
    assert fold_ensemble.main(words) == 0
    pairs = {frozenset(pair) for pair in itertools.combinations(range(1, FOLDS + 1), 2)}
    assert {parts for count, parts in made if count == 3 * EACH} == pairs
    assert {parts for count, parts in made if count == 4 * EACH} == {
        frozenset([fold]) for fold in range(1, FOLDS + 1)
    }
    assert len(made) == 15, "each pair of parts is left out once"
    stored = results.load(place.root.parent / "benchmarks" / "accuracy.json").divisions.rows
    assert [row.to for row in stored] == ["45, 15 are val", "45 each", "45", "60"]
    assert all(row.images == FOLDS * EACH for row in stored)
    one, together, best, whole = stored
    assert len(one.figures["kappa"].by_seed) == 4 and not one.difference
    assert best.figures["kappa"].value == max(one.figures["kappa"].by_seed)
    gain = together.figures["kappa"].value - best.figures["kappa"].value
    assert best.difference["kappa"].value == pytest.approx(-gain)
    mean = np.mean(one.figures["nll"].by_seed)
    assert together.difference["nll"].value == pytest.approx(together.figures["nll"].value - mean)
    assert (one.minutes, together.minutes, whole.minutes) == (1.0, 4.0, 1.0)
    page = (place.root.parent / "docs" / "accuracy.md").read_text()
    assert "| the models of all four divisions | 45 each | 5 x 1 |" in page
    count = len(made)
    assert fold_ensemble.main(words) == 0 and len(made) == count


def test_each_part_is_judged_once_by_each_of_the_four_models_that_left_it_out(place):
    write_folds(place)
    places = {d: fold_ensemble.without_two_parts(place, d) for d in fold_ensemble.DISTANCES}
    skill = itertools.count(1)
    for distance, own in places.items():
        for fold in range(1, FOLDS + 1):
            parts = [fold, fold_ensemble.behind(fold, distance)]
            fake(own, Run("shared", MODEL, 0, fold), next(skill), parts)
    found = fold_ensemble.answers_of_divisions(Reader(place), places, Run("shared", MODEL, 0, 1))
    assert len(found) == FOLDS - 1
    for part in range(1, FOLDS + 1):
        said = [one.of_folds([part]) for one in found]
        assert all(one.ids.tolist() == said[0].ids.tolist() for one in said)
        assert len(said[0].ids) == EACH
        # models of different skill say different things of one image
        assert len({one.probabilities[0].max() for one in said}) == FOLDS - 1


def test_folds_of_a_patient_regex_have_a_section_of_their_own(place, capsys):
    for fold in range(1, FOLDS + 1):
        fake(place, Run("shared", MODEL, 0, fold))
    assert accuracy.main(command(place, "--methods")) == 0
    own = ["--methods", "--patient_regex", r"(\d{3})"]
    assert accuracy.main(command(place, *own)) == 0
    stored = results.load(place.root.parent / "benchmarks" / "accuracy.json")
    regexes = [part.conditions.patient_regex for part in (stored.methods, stored.together)]
    assert regexes == ["auto", r"(\d{3})"]
    assert stored.methods.rows[0].figures == stored.together.rows[0].figures
    page = (place.root.parent / "docs" / "accuracy.md").read_text()
    assert page.count(r"which keep together what `--patient_regex '(\d{3})'` names") == 1
    change = next(each for each in CHANGES if each.name == "label_smoothing_0.1")
    for recipe, fold in itertools.product((CHANGED, change.name), (1, 2)):
        fake(place, Run(recipe, MODEL, 0, fold))
    for words in (own[1:], []):
        assert accuracy.main(command(place, "--ablation", change.name, *words)) == 0
        stored = results.load(place.root.parent / "benchmarks" / "accuracy.json")
        assert stored.changes_together.conditions.patient_regex == r"(\d{3})"
        assert bool(stored.changes) == (not words)
        assert stored.changes_together.rows[1].setting == change.setting
    capsys.readouterr()
    assert accuracy.main(command(place, "--methods", "--patient_regex", r"(\d\d)\d")) == 2
    error = capsys.readouterr().err
    assert "was divided without --patient_regex" in error and error.count("\n") == 1


def test_a_patient_regex_decides_what_the_folds_keep_together(tmp_path, monkeypatch):
    def run(command, cwd):  # to start Python takes seconds
        return SimpleNamespace(returncode=prepare_dataset.main(command[2:]))

    monkeypatch.setattr(runs.subprocess, "run", run)
    generator = np.random.default_rng(0)
    for grade in range(5):
        folder = tmp_path / "data" / "train" / str(grade)
        folder.mkdir(parents=True)
        for patient in range(FOLDS):
            for eye in range(2):
                picture = Image.fromarray(draw_fundus(grade, generator, 96))
                picture.save(folder / f"eye{grade}{patient}{eye}.png")
    folder = tmp_path / "data" / "train"
    shutil.copy(folder / "0" / "eye000.png", folder / "1" / "eye002.png")  # both are left out
    own = Place(tmp_path / "own", tmp_path / "data", patient_regex=r"eye(\d\d)")
    for _ in range(2):
        runs.make_folds(own)
    parts: dict[str, set[str]] = {}
    columns = own.manifest.columns
    files, part = (own.manifest.column(columns.index(name)) for name in ("file", "part"))
    assert files.count("") == 2
    for file, fold in zip(files, part):
        if file:
            parts.setdefault(file.split("/")[1][:5], set()).add(fold)
    assert len(parts) == 25 and all(len(folds) == 1 for folds in parts.values())
    plain = replace(own, root=tmp_path / "plain", patient_regex="auto")
    runs.make_folds(plain)
    with pytest.raises(InputError, match=r"one patient by it is in fold_\d and in fold_\d"):
        runs.make_folds(replace(plain, patient_regex=own.patient_regex))


def test_the_first_training_that_fails_ends_all_and_is_named(place, monkeypatch, capsys):
    def fail(_, words: list[str], log_file) -> int:
        log_file.parent.mkdir(parents=True)
        log_file.write_text("error: no such thing\n")
        return 2

    monkeypatch.setattr(runs._Children, "call", fail)
    assert accuracy.main(command(place, "--methods", "softmax")) == 2
    error = capsys.readouterr().err
    assert "seed 0, fold 1: ended with status 2 (error: no such thing); see" in error
    assert not list(place.root.rglob("run.json"))


def test_a_plan_says_what_is_left_and_mistakes_are_one_line(place, capsys):
    fake(place, Run("softmax", MODEL, 0, 1))
    assert accuracy.main(command(place, "--dry_run", "--methods", "softmax", "--seeds", "0")) == 0
    row = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("softmax"))
    assert row.split() == ["softmax", MODEL, "5", "1", "1.5", "0.10"]
    for words, said in (
        (["--folds", "6"], "--folds of 1 to 5"),
        (["--ablation", "nonsense"], "--ablation nonsense: expected one of"),
        (["--jobs", "1000"], "--jobs 1 to"),
        (["--weights", "other=file.pth"], "MODEL=PATH"),
        (["--weights", f"{MODEL}=/nope.pth"], "/nope.pth: no such file"),
        (["--train_flags='--epochs"], "--train_flags '--epochs: No closing quotation"),
    ):
        assert accuracy.main(command(place, *words)) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    (place.dataset / "train" / "0" / "new.png").touch()
    assert accuracy.main(command(place, "--methods")) == 2
    assert "take another --output_dir" in capsys.readouterr().err
    (place.dataset / "train" / "0").rename(place.dataset / "train" / "mystery")
    assert accuracy.main(command(place, "--methods")) == 2
    assert "is for five grades and has no such flag" in capsys.readouterr().err
