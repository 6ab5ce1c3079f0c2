"""What very many pictures take: the audit among made-up ones, and each script's memory."""

import json

import pytest

from benchmarks import audit_scale, large
from benchmarks.copies import hidden_copies
from benchmarks.many_images import large_dataset
from benchmarks.many_images.large_dataset import link_pictures, write_large
from benchmarks.many_images.process_use import Used, run_command
from common.data.folders import scan_dataset
from common.data.synthetic import write_dataset
from common.result_dir.paths import ResultDir
from common.system.errors import InputError
from common.system.files import write_json

PAGE = "<!-- scaling: {} -->\nold\n<!-- end -->\n"


@pytest.fixture
def page(tmp_path):
    """A page whose tables are to be written."""
    path = tmp_path / "report" / "docs" / "scaling.md"
    path.parent.mkdir(parents=True)
    path.write_text("".join(PAGE.format(part) for part in ("audit", "audit million", "scripts")))
    return path


def test_copies_are_searched_for_among_made_up_pictures(tmp_path, page, monkeypatch, capsys):
    write_dataset(tmp_path / "eyes", {"train": 1}, 0, 384)
    monkeypatch.setattr(hidden_copies, "_MADE_AT_ONCE", 32)
    monkeypatch.setattr(audit_scale, "in_own_process", lambda work, *inputs: work(*inputs))
    words = ["--dataset_path", str(tmp_path / "eyes"), "--work_dir", str(tmp_path / "work")]
    words += ["--report_dir", str(page.parents[1]), "--photographs", "2", "--copies", "1"]
    words += ["--sample", "2", "--vocabularies", "1000000"]
    assert audit_scale.main([*words, "--pictures", "12", "20"]) == 0
    text = page.read_text()
    assert "of 2 |" in text and "| 20 |" in text and "| 12 pictures | 20 pictures |" in text
    runs = json.loads((page.parents[1] / "benchmarks" / "scaling.json").read_text())["audit"][
        "runs"
    ]
    assert [run["measured"]["pictures"] for run in runs] == [12, 20, 12]
    assert all(runs[1]["measured"]["others"]["found"])
    assert all(run["measured"]["own"] > 10e6 for run in runs)
    assert audit_scale.main([*words, "--pictures", "5", "40"]) == 2
    assert "expected more than the 7 photographs and copies" in capsys.readouterr().err


def test_a_large_dataset_has_all_grades_in_all_splits_and_a_model_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(large_dataset, "_DRAWN", 1)

    def train(folder):
        assert len(scan_dataset(folder / "dataset").all_images()) == 250
        model = ResultDir(tmp_path / "model")
        write_json(model.config, {"config": {}, "data": {}})
        return model

    write_large(tmp_path, 300, train)
    found = scan_dataset(tmp_path / "dataset")
    counts = {name: found.split(name).counts(5) for name in ("train", "val", "test")}
    assert counts == {"train": [36] * 5, "val": [12] * 5, "test": [12] * 5}
    files = [image.path.read_bytes() for image in found.all_images()]
    assert len(set(files)) == 300
    data = json.loads(ResultDir(tmp_path / "model").config.read_text())["data"]
    assert data["train"] == found.split("train").fingerprint()
    link_pictures(tmp_path, "new", 7)
    assert len(list((tmp_path / "new").iterdir())) == 7


def test_the_memory_and_time_of_a_command_are_its_own(tmp_path):
    ballast = bytearray(300_000_000)  # of this process
    ballast[::4096] = b"x" * len(ballast[::4096])
    used = run_command(["-c", "bytearray(b'x' * 60_000_000)"], tmp_path)
    assert 60e6 < used.peak < 200e6 and 0 < used.processor_seconds < 5
    with pytest.raises(InputError, match="-c: failed"):
        run_command(["-c", "raise SystemExit(3)"], tmp_path)


def test_each_scripts_growth_is_laid_out(page, monkeypatch, capsys):
    def rows(root, images, most_predicted, only):
        used = Used(images / 1000, 1.0, 200_000_000 + 1500 * images)
        seen = min(images, most_predicted)
        return [large.Row("train_ovo.py", images, used), large.Row("predict.py", seen, used)]

    monkeypatch.setattr(large, "measure", rows)
    words = ["--images", "1000", "9000", "--report_dir", str(page.parents[1])]
    assert large.main([*words, "--most_predicted", "5000"]) == 0
    text = page.read_text()
    assert "| train_ovo.py | 1,000, 9,000 | 202 MB, 214 MB | 1,500 | 1.0 s, 9.0 s |" in text
    assert "| predict.py | 1,000, 5,000 | 202 MB, 214 MB | 3,000 |" in text
    capsys.readouterr()


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (large.main, ["--images", "1000"], "--images: expected two numbers or more"),
        (large.main, ["--images", "10", "1000"], "expected 500 or more"),
        (audit_scale.main, ["--pictures", "9"], "--pictures: expected two numbers or more"),
        (audit_scale.main, ["--sample", "0"], "--sample 0: expected 1 or more"),
        (audit_scale.main, ["--vocabularies", "0"], "--vocabularies: expected numbers of 1"),
        (audit_scale.main, [], "nowhere: expected photographs, found none"),
    ],
)
def test_what_cannot_be_is_refused(main, words, said, capsys):
    given = ["--dataset_path", "nowhere"] if main is audit_scale.main else []
    assert main([*given, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
