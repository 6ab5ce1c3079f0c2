"""Names of models, classes and files lead nowhere else and are escaped."""

import shutil

import pytest
from helpers import HEAD, MODEL, flags

import evaluate_ensemble
import model_analyzer
from common.data.folders import scan_split
from common.models import checkpoint_file
from common.models.backbones import resolve
from common.result_dir.paths import ResultDir
from common.system.errors import InputError

pytestmark = pytest.mark.usefixtures("planned_figures")


@pytest.mark.parametrize("name", ["convnext_tiny./../../x", "../x", "/etc/x", "a b", "x" * 5000])
def test_model_names_cannot_lead_out_of_the_directory(quick_train, tmp_path, capsys, name):
    with pytest.raises(InputError, match="unknown model"):
        resolve(name)
    assert quick_train(tmp_path / "r", base_models=name) == 2
    assert not list(tmp_path.iterdir())


def test_a_model_name_in_a_checkpoint_cannot_lead_out(trained, demo, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "a" / "r")
    path = ResultDir(copy).best(MODEL, HEAD)
    content = checkpoint_file.load_checkpoint(path)
    checkpoint_file.save_checkpoint(path, {**content, "model": "../../x"})
    words = flags(results_dirs=copy, dataset_path=demo, device="cpu", cache_dir=tmp_path / "c")
    assert evaluate_ensemble.main(words) == 2
    assert "unknown model '../../x'" in capsys.readouterr().err
    assert model_analyzer.main(["--model", str(path), "--output_dir", str(tmp_path / "o")]) == 2
    assert "unknown model '../../x'" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} <= {"a", "o"}
    assert not list(tmp_path.glob("o/*"))


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc"])
def test_class_names_cannot_lead_out_of_the_dataset(quick_train, demo, tmp_path, capsys, name):
    names = [name, "1", "2", "3", "4"]
    assert quick_train(tmp_path / "r", class_names=names) == 2
    assert "--class_names: expected names of folders" in capsys.readouterr().err
    with pytest.raises(InputError, match="expected the class folders"):
        scan_split(demo, "val", 5, tuple(names))


def test_hostile_names_are_escaped_in_the_report(trained, demo, shared_cache, tmp_path):
    root, copy = tmp_path / "images", shutil.copytree(trained, tmp_path / "r")
    shutil.copytree(demo / "test", root / "test")
    names = ["<script>alert(1)<", "$\\frac{", "<img src=x onerror=alert(2)>", "&amp;", '"3"']
    for grade, name in enumerate(names):
        (root / "test" / str(grade)).rename(root / "test" / name.replace("/", ""))
        for path in list((root / "test" / name).iterdir()):
            path.rename(path.with_name(f"<script>{path.name}"))
    shutil.rmtree(root / "test" / names[1])  # the first holds two of the model's classes
    classes = ["0..1", "2", "3", "4"]
    folders = [names[0], *names[2:]]
    words = flags(
        results_dirs=copy,
        dataset_path=root,
        device="cpu",
        cache_dir=shared_cache,
        resamples=20,
        class_map=[f"{folder}={of}" for folder, of in zip(folders, classes)],
        output_dir=tmp_path / "out",
    )
    assert evaluate_ensemble.main(words) == 0
    report = next((tmp_path / "out").rglob("report.html")).read_text()
    assert "<script" not in report and "<img src" not in report
    assert "&lt;script&gt;" in report
