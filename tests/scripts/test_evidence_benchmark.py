"""The measurement of how well evidence meets lesions, on maps whose outcome is known."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
from helpers import ROOT, flags
from PIL import Image

from benchmarks import evidence
from benchmarks.evidence_maps import maps
from benchmarks.evidence_maps.deletion import BLOCKS, blur, delete, in_blocks
from benchmarks.evidence_maps.judged import note_uneven
from benchmarks.evidence_maps.lesions import Boxes, Regions, mark, read_boxes, regions_of
from benchmarks.evidence_maps.maps import pair_weights, shuffled
from benchmarks.evidence_tables import report, results
from benchmarks.evidence_tables.findings import findings
from benchmarks.evidence_tables.measures import (
    compare,
    likeness,
    measure_map,
    measured_of,
    summarise,
    upsample,
)
from benchmarks.shared.over_seeds import Figure
from common.data.synthetic import draw_with_findings
from common.evidence.maps import pair_shares
from common.metrics.intervals import BootstrapConfig, Interval
from common.pixels.preprocessing import Preprocessing, load_pixels
from common.prediction.voting import combine_pairs
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError
from common.trained_networks.loading import load_model

FEW = BootstrapConfig(50)
SIZE = 40


def regions(lesion: tuple[int, int] = (4, 12), disc: tuple[int, int] = (20, 24)) -> Regions:
    """A retina of the upper 30 of 40 rows, and two squares in it."""
    retina, marked, nerve = (np.zeros((SIZE, SIZE), bool) for _ in range(3))
    retina[:30] = True
    marked[lesion[0] : lesion[1], lesion[0] : lesion[1]] = True
    nerve[disc[0] : disc[1], disc[0] : disc[1]] = True
    return Regions(retina, marked, nerve)


def test_a_map_that_is_all_in_a_box_gains_as_much_as_can_be():
    where = regions()
    found = measure_map(np.where(where.lesions, 2.0, -1.0), where)
    assert found["in_lesions"] == 1 and found["peak_in_lesion"] == 1
    assert found["lesions"] == pytest.approx(64 / 1200)
    assert found["in_disc"] == 0 and found["peak_in_disc"] == 0
    gain = summarise(measured_of([{"a": found}], {"a": 0}), FEW)["gain"]
    assert gain.value == pytest.approx(1200 / 64)


def test_a_uniform_map_gains_nothing_and_points_as_chance_does():
    found = measure_map(np.ones((SIZE, SIZE)), regions())
    figures = summarise(measured_of([{"a": found}], {"a": 0}), FEW)
    assert figures["gain"].value == pytest.approx(1) == figures["disc"].value
    assert figures["pointing"].value == pytest.approx(figures["chance"].value)
    assert figures["disc_pointing"].value == pytest.approx(figures["disc_chance"].value)


def test_random_maps_point_as_often_as_chance():
    generator, where = np.random.default_rng(0), regions((0, 20))
    hits = [measure_map(generator.normal(size=(SIZE, SIZE)), where) for _ in range(2000)]
    share = np.mean([one["peak_in_lesion"] for one in hits])
    assert share == pytest.approx(400 / 1200, abs=0.035)
    assert np.mean([one["in_lesions"] for one in hits]) == pytest.approx(400 / 1200, abs=0.005)


def test_what_lies_outside_the_retina_does_not_count():
    where, values = regions(), np.where(regions().lesions, 1.0, 0.0)
    outside = values.copy()
    outside[35:] = 50
    assert measure_map(outside, where) == measure_map(values, where)


def test_an_image_without_positive_evidence_or_disc_is_left_out_of_what_needs_it():
    without = replace(regions(), disc=np.zeros((SIZE, SIZE), bool))
    silent = measure_map(np.full((SIZE, SIZE), -1.0), without)
    assert np.isnan([silent["in_lesions"], silent["in_disc"], silent["disc"]]).all()
    whole = measure_map(np.where(regions().lesions, 1.0, 0.0), regions())
    both = measured_of([{"a": silent, "b": whole}], {"a": 0, "b": 1})
    alone = measured_of([{"b": whole}], {"b": 1})
    for name in ("gain", "disc", "disc_chance"):
        assert both.values()[name] == alone.values()[name]
    assert both.values()["pointing"] == pytest.approx((1 + 64 / 1200) / 2)


def test_the_gain_is_a_ratio_of_means_over_the_images_and_a_mean_over_the_seeds():
    def one(share: float, area: float) -> dict[str, float]:
        return {"in_lesions": share, "lesions": area, "peak_in_lesion": 0.0}

    first = {"a": one(0.2, 0.1), "b": one(0.6, 0.3)}  # 2, and 2
    second = {"a": one(0.9, 0.1), "b": one(0.3, 0.3)}  # 9 and 1: not their mean, but 3
    figure = summarise(measured_of([first, second], {"a": 0, "b": 1}), FEW)["gain"]
    assert figure.by_seed == pytest.approx([2, 3]) and figure.value == pytest.approx(2.5)
    assert figure.spread == pytest.approx(np.std([2, 3], ddof=1))
    assert 1 <= figure.low < figure.value < figure.high <= 9


def test_a_difference_is_that_on_the_images_of_both_and_none_to_itself():
    where, generator = regions(), np.random.default_rng(1)
    maps = {name: generator.normal(size=(SIZE, SIZE)) for name in "abcdef"}
    plain = {name: measure_map(values, where) for name, values in maps.items()}
    better = {name: measure_map(v + 3 * where.lesions, where) for name, v in maps.items()}
    groups = {name: place for place, name in enumerate("abcdef")}
    one, other = (measured_of([found], groups) for found in (better, plain))
    assert vars(compare(one, one, FEW)["gain"]) == {"value": 0, "low": 0, "high": 0}
    found = compare(one, measured_of([{k: plain[k] for k in "abc"}], groups), FEW)
    assert found["gain"].low > 0 and found["pointing"].value == 1
    assert compare(one, measured_of([{"z": plain["a"]}], {"z": 9}), FEW) == {}
    assert compare(one, other, FEW)["disc"].value < 0


def test_a_map_s_position_is_the_middle_of_its_part_of_the_square():
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    nearest, bilinear = (upsample(values, SIZE, how) for how in ("nearest", "bilinear"))
    assert np.array_equal(np.argwhere(nearest)[[0, -1]], [[10, 20], [19, 29]])
    rows, columns = np.nonzero(bilinear == bilinear.max())
    assert (rows.mean(), columns.mean()) == (14.5, 24.5)
    assert bilinear.sum() == pytest.approx(nearest.sum(), rel=1e-5)


def test_likeness_is_the_correlation_of_ranks():
    values = np.random.default_rng(0).normal(size=(5, 5))
    assert likeness(values, np.exp(values)) == pytest.approx(1)
    assert likeness(values, -values) == pytest.approx(-1)
    assert np.isnan(likeness(values, np.ones((5, 5))))


# -- boxes -----------------------------------------------------------------------------------------


def test_boxes_become_pixels_and_the_smallest_has_one():
    marked = mark(np.array([[0.1, 0.2, 0.3, 0.4]]), 10)
    assert np.array_equal(np.argwhere(marked), [[2, 1], [2, 2], [3, 1], [3, 2]])
    assert mark(np.array([[0.42, 0.51, 0.44, 0.53]]), 10).sum() == 1
    assert mark(np.array([[0.42, 0.51, 0.44, 0.53]]), 10)[5, 4]
    assert mark(np.array([[-0.2, 0.8, 0.1, 1.3]]), 10).sum() == 2
    assert not mark(np.array([[1.1, 0.1, 1.2, 0.2], [-0.3, 0.1, 0.0, 0.2]]), 10).any()
    assert not mark(np.zeros((0, 4)), 10).any()


def test_drawn_lesions_lie_in_their_boxes_in_the_model_s_square(tmp_path):
    drawn = draw_with_findings(2, np.random.default_rng(5), 256)
    wide = np.zeros((256, 420, 3), np.uint8)
    wide[:, 90:346] = drawn.picture
    Image.fromarray(wide).save(tmp_path / "a.png")

    def in_wide(kind: str) -> np.ndarray:
        boxes = [f.box for f in drawn.findings if (f.kind == "optic_disc") == (kind == "disc")]
        return (np.array(boxes) * 256 + [90, 0, 90, 0]) / [420, 256, 420, 256]

    settings = Preprocessing(320, (0.5,) * 3, (0.5,) * 3, enable_clahe=False)
    pixels = load_pixels(tmp_path / "a.png", settings)
    boxes = Boxes(in_wide("lesions"), in_wide("disc"))
    found = regions_of(tmp_path / "a.png", pixels, boxes, settings)
    exudates = (pixels[..., 1] > 190) & (pixels[..., 2] < 170)
    assert exudates.sum() > 500 and found.lesions[exudates].mean() > 0.95
    assert 0.02 < found.lesions.mean() < 0.3
    bright = pixels.astype(int).sum(2) * found.disc
    assert found.disc.any() and bright.max() > 500
    assert found.retina.mean() == pytest.approx(np.pi / 4, abs=0.04)


def test_boxes_are_found_by_the_images_names(tmp_path):
    table = tmp_path / "boxes.csv"
    header = "image,finding,left,top,right,bottom\n"
    table.write_text(header + "b,haemorrhage,0.1,0.2,0.3,0.4\nB.jpg,optic_disc,0.5,0.5,0.6,0.6\n")
    found = read_boxes(table, ["val/2/b.jpg", "val/3/c.jpg"])
    assert list(found) == ["val/2/b.jpg"]
    assert found["val/2/b.jpg"].lesions.tolist() == [[0.1, 0.2, 0.3, 0.4]]
    assert found["val/2/b.jpg"].discs.tolist() == [[0.5, 0.5, 0.6, 0.6]]
    for text, said in (
        ("image,finding,left,top,right\nb,x,0,0,1\n", "expected the columns image, finding"),
        (header + "b,x,10,20,300,400\n", "line 2: expected left < right"),
        (header + "b,x,0.3,0.2,0.1,0.4\n", "found 0.3, 0.2, 0.1, 0.4"),
        (header + "b,x,0.3,high,0.4,0.5\n", "found 0.3, high"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=said):
            read_boxes(table, ["val/2/b.jpg"])
    table.write_text(header + "b,x,0,0,1,1\n")
    with pytest.raises(InputError, match=r"may be val/2/b\.jpg or val/3/b\.jpg"):
        read_boxes(table, ["val/2/b.jpg", "val/3/b.jpg"])


# -- what is asked of a model ----------------------------------------------------------------------


def test_each_target_adds_its_pairs_up_with_their_signs():
    logits = np.array([[2.0, 3.0, 1.0], [-2.0, -3.0, -1.0]])  # 0-1, 0-2, 1-2: grade 2, grade 0
    found = {name: pair_weights(name, logits, 2) for name in results.TARGETS}
    likely = combine_pairs(scipy.special.expit(logits), 3).probabilities
    assert np.array_equal(likely.argmax(1), [2, 0]), "what explain.py weighs by, too"
    sides = {"referable": [([2], [0, 1])] * 2, "grade": [([2], [0, 1]), ([0], [1, 2])]}
    for name, of_images in sides.items():
        expected = [pair_shares(*both, 3, shares) for both, shares in zip(of_images, likely)]
        assert np.allclose(found[name], expected)
    assert found["referable"][0, 2] > found["referable"][0, 1] > found["referable"][0, 0] == 0
    assert np.allclose(found["pair"], [[0, 1, 0], [1, 0, 0]])
    assert np.allclose(pair_weights("referable", logits[:, :1], 1), 1)  # of two classes


def test_shuffled_weights_are_the_same_numbers_in_another_order(trained):
    model = load_model(find_run(ResultDir(trained)))
    for which, changed in (
        ("classifier", {"classifier"}),
        ("trained layers", {"classifier", "stages"}),
    ):
        other = shuffled(model, which, 0)
        for (name, one), (_, two) in zip(
            model.groups[0].branches[0].branch.named_parameters(),
            other.groups[0].branches[0].branch.named_parameters(),
        ):
            assert np.array_equal(*(np.sort(w.detach().flatten()) for w in (one, two)))
            same = np.array_equal(one.detach(), two.detach())
            if len(one.unique()) > 4:
                assert same == (name.split(".")[0] not in changed), name
    trunk = [
        next(m.groups[0].trunk.parameters()) for m in (model, shuffled(model, "all layers", 0))
    ]
    assert not np.array_equal(*(w.detach() for w in trunk))


def test_the_blocks_with_most_evidence_are_blurred_and_no_others():
    size = 4 * BLOCKS
    mask = np.zeros((size, size), bool)
    mask[: size // 2] = True
    values = np.arange(size * size, dtype=float).reshape(size, size)
    blocks = in_blocks(values, mask)
    assert np.isfinite(blocks).sum() == BLOCKS**2 // 2 and blocks[0] == values[:4, :4].mean()
    picture = np.full((size, size, 3), 9, np.uint8)
    found = delete(picture, picture * 0, blocks, 0.25)
    rows, _ = np.nonzero(found[..., 0] == 0)
    assert len(rows) == size * size // 8 and (rows.min(), rows.max()) == (24, 31)


def test_a_blurred_picture_stays_within_its_retina_and_keeps_its_level():
    picture = np.zeros((80, 80, 3), np.uint8)
    mask = np.zeros((80, 80), bool)
    mask[20:60, 20:60] = True
    picture[mask] = 100
    picture[40, 40] = 255
    found = blur(picture, mask)
    assert (found[~mask] == 0).all() and (np.abs(found[mask].astype(int) - 100) < 8).all()


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(trained, demo, shared_cache, tmp_path_factory):
    """The flags of a measurement of the quick training on the demo's test pictures, and a place."""
    root = tmp_path_factory.mktemp("evidence")
    return root, {
        "results_dirs": trained,
        "dataset_path": demo,
        "output_dir": root / "maps",
        "report_dir": root,
        "cache_dir": shared_cache,
        "device": "cpu",
        "resamples": 20,
    }


def test_drawn_pictures_are_measured_and_what_was_asked_is_kept(asked, monkeypatch):
    root, values = asked
    commands = [flags(**values, target=["referable", "pair"]), flags(**values, checks=None)]
    for command in commands:
        assert evidence.main(command) == 0
    found = results.load(root / "benchmarks" / "evidence.json")
    section, checks = found["drawn"], found["drawn_checks"]
    assert section.conditions.images == 12 and section.conditions.split == "test"
    base, _, perfect, nearest, pair = section.rows
    assert (nearest.setting, nearest.to) == ("upsampling", "nearest")
    assert (pair.setting, pair.to) == ("target", "pair")
    assert perfect.figures["gain"].value > 1.05  # as much as 2 x 2 places allow
    assert base.figures["gain"].low <= base.figures["gain"].value <= base.figures["gain"].high
    assert 0 < base.figures["chance"].value < 0.5
    assert pair.figures["gain"].value != base.figures["gain"].value
    assert [row.to for row in checks.rows] == ["", *maps.SHUFFLES]
    assert [row.seeds for row in checks.rows] == [1, *[maps.ORDERS] * 3]
    assert len(set(checks.rows[1].figures["gain"].by_seed)) == maps.ORDERS
    assert not np.isnan(checks.rows[0].figures["deletion"].value)
    assert abs(checks.rows[-1].figures["likeness"].value) < 0.9
    assert set(checks.curves[0].curves) == {"evidence", "random", "others"}
    stored = (root / "benchmarks" / "evidence.json").read_text()
    page = (root / "docs" / "evidence.md").read_text()
    assert "Not measured." in page and "12 referable images of test" in page
    assert (root / "docs" / "images" / "evidence_drawn.png").is_file()

    def refuse(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(maps, "LAYERS", {"exact": refuse})
    monkeypatch.setattr("benchmarks.evidence_maps.deletion.predict_logits", refuse)
    for command in commands:
        assert evidence.main(command) == 0
    assert (root / "benchmarks" / "evidence.json").read_text() == stored
    (root / "docs" / "evidence.md").unlink()
    assert evidence.main(["--render_only", "--report_dir", str(root)]) == 0
    assert (root / "docs" / "evidence.md").read_text() == page


def test_every_figure_of_the_page_is_that_of_the_stored_results(tmp_path):
    stored = results.load(ROOT / "benchmarks" / "evidence.json")
    page = tmp_path / "evidence.md"
    shutil.copy(ROOT / "docs" / "evidence.md", page)
    report.write(page, stored)
    assert page.read_text() == (ROOT / "docs" / "evidence.md").read_text()
    by_hand = re.sub(r"(?s)<!-- evidence: \w+ -->.*?<!-- end -->", "", page.read_text())
    assert not re.findall(r"(?<!BY )(?<!SA )\d\.\d", by_hand)


def test_what_was_found_follows_from_the_figures():
    stored = results.load(ROOT / "benchmarks" / "evidence.json")["photographs"]
    first, combined = stored.rows[0], next(row for row in stored.rows if row.to == "combined")

    def found(gain, low, high, *rows):
        figures = first.figures | {"gain": Figure(gain, low, high, 0.25, [])}
        changed = [replace(first, seeds=3, figures=figures), *rows]
        return " ".join(findings({"photographs": replace(stored, rows=changed)}).split())

    said = found(3.5, 3.1, 3.9)
    assert "3 seeds) has a gain of 3.50 ± 0.25 on lesions" in said
    assert "gain on lesions at least 3: reached; peak" in said and "combined" not in said
    assert "at least 3: reached, not beyond doubt;" in found(3.5, 2.9, 3.9)
    assert "at least 3: not reached, not beyond doubt;" in found(2.5, 2.1, 3.9)
    sure = Interval(0.5, 0.1, 0.9)
    for interval, words in (
        (sure, "+0.50, beyond doubt"),
        (Interval(0.5, -0.1, 0.9), "may be chance"),
    ):
        row = replace(combined, difference=dict.fromkeys(combined.difference, interval))
        assert words in found(3.5, 3.1, 3.9, row)
    assert findings({}) == ""


def test_what_shuffling_leaves_is_said_as_the_figures_have_it():
    stored = results.load(ROOT / "benchmarks" / "evidence.json")["photographs_checks"]
    row = next(one for one in stored.rows if one.to == "classifier")
    for interval, kept in ((Interval(-1, -2, -0.5), False), (Interval(-1, -2, 0.5), True)):
        changed = replace(row, difference=row.difference | {"gain": interval})
        section = replace(stored, rows=[stored.rows[0], changed])
        said = " ".join(findings({"photographs_checks": section}).split())
        assert f"over {row.seeds} random orders" in said
        assert ("Shuffling the classifier takes no gain away" in said) == kept


def test_seeds_that_judge_fewer_images_are_named():
    def judged(seed, ids):
        split = SimpleNamespace(ids=ids)
        return SimpleNamespace(method="m", seed=seed, split=split)

    folds = [judged(0, ["a"]), judged(0, ["b"]), judged(1, ["b"])]
    assert note_uneven(folds) == ["m, seed 1 judges 1 of 2 images"]
    assert note_uneven([*folds, judged(1, ["a"])]) == []


def test_methods_are_measured_together_on_the_images_of_all(asked, trained_swin, tmp_path):
    _, values = asked
    both = values | {
        "results_dirs": [values["results_dirs"], trained_swin],
        "report_dir": tmp_path,
    }
    assert evidence.main(flags(**both)) == 0
    rows = results.load(tmp_path / "benchmarks" / "evidence.json")["drawn"].rows
    names = [row.method for row in rows if not row.setting]
    assert names[2] == "mean of these 2"
    assert [name.partition(":")[0] for name in names[3:]] == ["no network"] * 2
    assert names[0] != names[1] and np.isnan(rows[0].figures["deletion"].value)
    looks = both | {"results_dirs": trained_swin, "layer": ["exact", "combined"], "split": "val"}
    with pytest.MonkeyPatch.context() as patch:
        finer = maps.LAYERS["exact"]
        patch.setitem(maps.LAYERS, "finer", lambda *asked: finer(*asked))
        assert evidence.main(flags(**looks)) == 0
    found = results.load(tmp_path / "benchmarks" / "evidence.json")["drawn"]
    assert "epochs were chosen on these images" in found.conditions.note
    exact, weighed = found.rows[0].figures, found.rows[-1].figures
    assert found.rows[-1].to == "combined"
    assert weighed["gain"].value != exact["gain"].value  # squared: the highest places count more
    swapped = both | {"results_dirs": both["results_dirs"][::-1], "report_dir": tmp_path / "b"}
    assert evidence.main(flags(**swapped)) == 0
    other = results.load(tmp_path / "b" / "benchmarks" / "evidence.json")["drawn"].rows
    assert other[1].figures["gain"].value == rows[0].figures["gain"].value
    assert other[2].figures["gain"].value == pytest.approx(rows[2].figures["gain"].value, rel=1e-5)


def test_each_model_is_judged_on_what_is_new_to_it_or_refused(
    asked, trained_copy, tmp_path, capsys, demo
):
    _, values = asked
    folds = tmp_path / "folds"
    for number in (1, 2):
        shutil.copytree(demo, folds / f"fold_{number}")
    next((folds / "fold_1" / "train" / "0").iterdir()).unlink()
    config = ResultDir(trained_copy).config
    other = json.loads(config.read_text())
    other["config"]["seed"] += 1
    config.write_text(json.dumps(other))
    own = values | {"report_dir": tmp_path, "dataset_path": folds}
    own |= {"results_dirs": [values["results_dirs"], trained_copy]}
    assert evidence.main(flags(**own, lesions=demo / "lesions.csv")) == 0
    rows = json.loads((tmp_path / "benchmarks" / "evidence.json").read_text())
    assert rows["drawn"]["conditions"]["dataset"] == "fold_2"
    first = rows["drawn"]["rows"][0]
    assert (first["seeds"], first["images"], first["figures"]["gain"]["spread"]) == (2, 12, 0)
    assert " ± 0.00 [" in (tmp_path / "docs" / "evidence.md").read_text()
    other["config"]["seed"] -= 1
    config.write_text(json.dumps(other))
    next((folds / "fold_2" / "train" / "0").iterdir()).unlink()
    (tmp_path / "empty.csv").write_text("image,finding,left,top,right,bottom\nx,y,0,0,1,1\n")
    for changes, said in (
        ({"split": "train"}, "byte for byte in what it has learned from"),
        ({"dataset_path": folds, "lesions": demo / "lesions.csv"}, "none of the folds in"),
        ({"lesions": tmp_path / "empty.csv"}, "expected lesions in the 12 referable images"),
        ({"lesions": tmp_path / "none.csv"}, "none.csv: expected a table"),
        ({"results_dirs": [values["results_dirs"], trained_copy]}, "and judge test/2/"),
        ({"results_dirs": tmp_path / "nowhere"}, "nowhere"),
        ({"results_dirs": False}, "expected --results_dirs"),
        ({"dataset_path": False}, "expected --lesions CSV"),
        ({"checks": None, "tta": ["none", "d4"]}, "--checks looks at maps in one way"),
    ):
        assert evidence.main(flags(**values | changes)) == 2, changes
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error


def test_figures_that_are_not_there_are_named_in_one_line(tmp_path, capsys):
    assert evidence.main(["--render_only", "--report_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "evidence.json" in error and "InputError" not in error and error.count("\n") == 1
