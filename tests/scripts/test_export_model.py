"""export_model.py from its flags to a file that predict.py grades with, without PyTorch."""

import csv
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import FEW_FILES, flags
from PIL import Image

import evaluate_ensemble
import export_model
import predict
from common.release import formats, verification
from common.release.contract import PAIRS

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, NotInstalled())
import predict
sys.exit(predict.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def evaluated(quick_train, make_once, demo, shared_cache) -> Path:
    """A small model that was evaluated, to be read only."""

    def make(folder: Path) -> None:
        assert quick_train(folder / "one", head="shared", tta="flips") == 0
        values = {"dataset_path": demo, "cache_dir": shared_cache, "device": "cpu"}
        values |= {"precision": "fp32", "resamples": 20, **FEW_FILES}
        words = {"results_dirs": folder / "one", "operating_point": "youden"}
        assert evaluate_ensemble.main(flags(**values, **words)) == 0

    return make_once("evaluated_for_export", make) / "one"


@pytest.fixture(scope="module")
def exported(evaluated, make_once) -> Path:
    """The ONNX file of that model."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def make(folder: Path) -> None:
        words = flags(results_dirs=evaluated, output=folder / "model.onnx")
        assert export_model.main(words) == 0

    return make_once("exported_by_the_script", make) / "model.onnx"


def export(evaluated, output, **changes) -> int:
    return export_model.main(flags(**{"results_dirs": evaluated, "output": output} | changes))


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_beside_the_file_lie_its_contract_and_what_makes_its_pixels(exported, demo):
    names = sorted(path.name for path in exported.parent.iterdir())
    assert names == ["model.json", "model.onnx", "model_pixels.py", "model_reference.npz"]
    contract = json.loads((exported.parent / "model.json").read_text())
    assert contract["verified"]["source"] == "16 images of the training's val"
    assert max(contract["verified"]["differences"].values()) < 1e-5
    assert contract["members"][0]["views"] == "flips"
    assert str(demo) not in json.dumps(contract), "where the training's images lie"
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported)
    photograph = next((demo / "test" / "3").iterdir())
    program = runpy.run_path(str(exported.with_name("model_pixels.py")))
    pixels = program["make_pixels"](str(photograph))
    found = session.run(None, {contract["inputs"][0]["name"]: pixels[None]})
    assert [list(each.shape)[1:] for each in found] == [o["shape"][1:] for o in contract["outputs"]]


@pytest.mark.slow
def test_the_file_grades_as_the_model_does_where_pytorch_cannot_be_imported(
    exported, evaluated, demo, tmp_path
):
    (tmp_path / "broken.jpg").write_text("x")
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    images = [demo / "test" / "0", demo / "test" / "4", *sorted(tmp_path.iterdir())]
    page = tmp_path / "onnx.html"
    words = flags(onnx=exported, images=images, csv=tmp_path / "onnx.csv", report=page)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = flags(results_dirs=evaluated, images=images, csv=tmp_path / "own.csv", device="cpu")
    assert predict.main([*own, "--precision", "fp32"]) == 0
    found, expected = table(tmp_path / "onnx.csv"), table(tmp_path / "own.csv")
    assert len(found) == 10 and page.is_file()
    assert {row["outcome"] for row in found} > {"unreadable", "ungradable"}
    for row, other in zip(found, expected, strict=True):
        for name in ("image", "outcome", "grade", "operating_point", "model", "referable"):
            assert row.get(name) == other.get(name), name
        for name in (f"p_{k}" for k in range(5)):
            assert (row[name] == "") == (other[name] == "")
            assert abs(float(row[name] or 0) - float(other[name] or 0)) < 1e-5
    settings = json.loads(predict.RunFiles(tmp_path / "onnx.csv").settings.read_text())
    assert "onnxruntime" in json.dumps(settings) and "torchvision" not in json.dumps(settings)


@pytest.mark.parametrize(
    "changes", [{"results_dirs": "x"}, {"tta": "d4"}, {"precision": "fp32"}, {"grader": "x.json"}]
)
def test_a_file_holds_all_that_other_flags_choose(changes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("a.png")
    assert predict.main(flags(onnx="model.onnx", images="a.png", **changes)) == 2
    assert f"leave out --{next(iter(changes))}" in capsys.readouterr().err


def test_views_are_within_the_file(evaluated, tmp_path):
    found = {}
    for views in ("", "none"):
        path = tmp_path / f"{views}.pt"
        words = {"format": "torchscript", "tta": views or False}
        assert export(evaluated, path, **words) == 0
        found[views] = json.loads(path.with_suffix(".json").read_text())["members"][0]["views"]
    assert found == {"": "flips", "none": "none"}
    sizes = {path.stat().st_size for path in tmp_path.glob("*.pt")}
    assert len(sizes) == 2, "mirrored pictures are work of their own"


def test_a_network_that_differs_is_refused_and_leaves_nothing(
    evaluated, tmp_path, monkeypatch, capsys
):
    real = verification.run_file

    def moved(*inputs):
        found = real(*inputs)
        return found | {PAIRS: found[PAIRS] + 0.002}

    monkeypatch.setattr(verification, "run_file", moved)
    output = tmp_path / "new" / "model.safetensors"
    assert export(evaluated, output, format="safetensors") == 2
    assert "found 0.002 in pair_probabilities" in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


def test_what_a_killed_export_left_is_removed_and_another_running_one_is_left_alone(
    evaluated, tmp_path, capsys
):
    output, other = tmp_path / "model.safetensors", tmp_path / ".other.safetensors.unfinished"
    other.mkdir()
    child = os.fork()
    if not child:
        with export_model.folder_beside(output) as folder:
            (folder / output.name).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 3, "its lock and what it had written"
    with export_model.folder_beside(output) as folder:
        assert f"left by process {child} on" in capsys.readouterr().out
        assert list(folder.iterdir()) == []
        (folder / output.name).write_bytes(b"half")
        assert export(evaluated, output, format="safetensors") == 2
        error = capsys.readouterr().err
        assert f"{output} is being exported by process {os.getpid()} on" in error
        assert "choose another --output" in error and error.count("\n") == 1
        assert (folder / output.name).read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("name", ["m.json", "m_reference.npz", "m_pixels.py", "m.pt"])
def test_what_an_export_has_not_written_stays(evaluated, name, tmp_path, capsys):
    (tmp_path / name).write_text("my own")
    assert export(evaluated, tmp_path / "m.pt", format="torchscript") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error and error.count("\n") == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["my own"]


def test_two_formats_of_one_name_do_not_share_a_contract(evaluated, tmp_path, capsys):
    first, second = tmp_path / "m.safetensors", tmp_path / "m.pt"
    for _ in range(2):  # an earlier export of the same name is taken the place of
        assert export(evaluated, first, format="safetensors") == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert export(evaluated, second, format="torchscript") == 2
    assert "is the contract of m.safetensors" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_contract_names_no_folder_of_models_that_were_not_evaluated(evaluated, tmp_path):
    copy = shutil.copytree(evaluated, tmp_path / "private" / "one")
    for grader in copy.rglob("grader.json"):
        grader.unlink()
    output = tmp_path / "model.safetensors"
    assert export(copy, output, format="safetensors") == 0
    text = output.with_suffix(".json").read_text()
    assert "not known to have been evaluated" in text and "private" not in text


def test_an_output_below_a_file_is_named(evaluated, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert export(evaluated, tmp_path / "file" / "m.pt", format="torchscript") == 2
    assert "expected a folder, found a file" in capsys.readouterr().err


def test_photographs_that_are_given_are_compared_on(evaluated, demo, tmp_path, capsys):
    output, images = tmp_path / "model.safetensors", tmp_path / "photographs"
    shutil.copytree(demo / "test" / "2", images)
    (images / "broken.jpg").write_text("x")
    assert export(evaluated, output, format="safetensors", images=images) == 0
    verified = json.loads(output.with_suffix(".json").read_text())["verified"]
    assert (verified["source"], verified["images"]) == ("4 pictures of --images", 4)
    assert "not compared on" in capsys.readouterr().out


def test_a_model_whose_images_are_gone_is_compared_on_drawn_ones(
    evaluated, tmp_path, capsys, monkeypatch
):
    copy = shutil.copytree(evaluated, tmp_path / "one")
    config = json.loads((copy / "config.json").read_text())
    config["config"]["dataset_path"] = str(tmp_path / "gone")
    (copy / "config.json").write_text(json.dumps(config))
    output = tmp_path / "model.safetensors"
    assert export(copy, output, format="safetensors") == 0
    verified = json.loads(output.with_suffix(".json").read_text())["verified"]
    assert verified["source"] == "10 drawn pictures"
    assert export(copy, tmp_path / "x.onnx", quantize="int8") == 2
    assert "--quantize int8 is judged on graded images" in capsys.readouterr().err


def test_eight_bit_weights_say_what_they_change(exported, evaluated, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(formats, "write_network", lambda n, path, t: shutil.copy(exported, path))
    assert export(evaluated, tmp_path / "small.onnx", quantize="int8") == 0
    assert "kappa changes by" in capsys.readouterr().out
    found = json.loads((tmp_path / "small.json").read_text())
    assert (found["weights"], found["quantised"]["change"]["images"]) == ("int8", 20)
    assert {"value", "low", "high"} <= found["quantised"]["change"]["kappa"].keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "small.json",
        "small.onnx",
        "small_pixels.py",
        "small_reference.npz",
    ]
    network = predict.open_networks(tmp_path / "small.onnx", "cpu")
    assert network.contract.weights == "int8"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantize": "int8", "format": "torchscript"}, "--quantize int8 is for --format onnx"),
        ({"output": "model.json"}, "expected the name of a file, such as model.onnx"),
        ({"output": "."}, "expected the name of a file"),
        ({"results_dirs": "nowhere"}, "expected a result directory"),
        ({"images": "nowhere", "format": "safetensors"}, "nowhere"),
    ],
)
def test_mistakes_are_one_line(evaluated, changes, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert export(evaluated, **{"output": tmp_path / "x.onnx"} | changes) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
