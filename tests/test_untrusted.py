"""Files, names and flags from strangers."""

import importlib.util
import io
import os
import pickle
import shutil
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import flags
from PIL import Image

import evaluate_ensemble
import model_analyzer
from common import result_dir
from common.data.folders import scan_split
from common.data.preprocessing import MAX_PIXELS, ImageError, decode_image
from common.models import checkpoint
from common.models.backbones import resolve
from common.pairs import pair_head
from common.reporting import page
from common.result_dir import ResultDir
from common.system.errors import InputError

ROOT = Path(__file__).parents[1]
MODEL = "demo_convnext"


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "dev" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bombs(tmp_path, monkeypatch):
    """Writes bombs in both containers; afterwards nothing may have gone off."""
    monkeypatch.chdir(tmp_path)
    content = {"format": "ovo-pair-1", "state_dict": {"x": Bomb()}, "model": Bomb()}

    def write(path, raw):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content)) if raw else torch.save(content, path)

    yield write
    assert not list(tmp_path.rglob("exploded"))


@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_bomb_is_skipped_by_the_analyzer(bombs, tmp_path, capsys, raw):
    bombs(tmp_path / "best_resnet50_0_1.pth", raw)
    assert model_analyzer.main(["--model", str(tmp_path / "best_resnet50_0_1.pth")]) == 2
    assert "skipped: " in (said := capsys.readouterr().err) and "unreadable checkpoint" in said


def test_a_pickle_bomb_is_refused_by_the_evaluation(bombs, trained, demo, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "r")
    bombs(ResultDir(copy).best(MODEL, pair_head((0, 1))), False)
    words = flags(results_dirs=copy, dataset_path=demo, device="cpu", cache_dir=tmp_path / "c")
    assert evaluate_ensemble.main(words) == 2
    assert "0_1.pth: unreadable checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_bomb_is_refused_as_pretrained_weights(bombs, quick_train, tmp_path, capsys, raw):
    bombs(tmp_path / "weights.pth", raw)
    values = {"weights": tmp_path / "weights.pth", "no_pretrained": False, "pairs": "0-1"}
    assert quick_train(tmp_path / "r", **values) == 2
    assert "weights.pth: not a readable state dict" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["best", "last"])
def test_a_pickle_bomb_is_named_on_resume(bombs, quick_train, tmp_path, capsys, kind):
    output = tmp_path / "r"
    assert quick_train(output, pairs="0-1") == 0
    if kind == "last":
        ResultDir(output).best(MODEL, pair_head((0, 1))).unlink()
    bombs(getattr(ResultDir(output), kind)(MODEL, (0, 1)), False)
    assert quick_train(output, pairs="0-1", resume=None) == 0
    said = capsys.readouterr().out
    assert f"{kind}_demo_convnext_0_1.pth: unreadable" in said and "from the start" in said


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnext_tiny./../../x", "../x", "/etc/x", "a b", "x" * 5000])
def test_model_names_cannot_lead_out_of_the_directory(quick_train, tmp_path, capsys, name):
    with pytest.raises(InputError, match="unknown model"):
        resolve(name)
    assert quick_train(tmp_path / "r", base_models=name) == 2
    assert not list(tmp_path.iterdir())


def test_a_model_name_in_a_checkpoint_cannot_lead_out(trained, demo, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "a" / "r")
    path = ResultDir(copy).best(MODEL, pair_head((0, 1)))
    content = checkpoint.load_pair_content(path)
    checkpoint.save_checkpoint(path, {**content, "model": "../../x"})
    words = flags(results_dirs=copy, dataset_path=demo, device="cpu", cache_dir=tmp_path / "c")
    assert evaluate_ensemble.main(words) == 2
    assert "unknown model '../../x'" in capsys.readouterr().err
    assert model_analyzer.main(["--model", str(path), "--output_dir", str(tmp_path / "o")]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a", "o"}
    assert {p.name for p in (tmp_path / "o").iterdir()} == {
        "model_analysis.json",
        "model_analysis.csv",
        "training_curves.png",
    }


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc"])
def test_class_names_cannot_lead_out_of_the_dataset(quick_train, demo, tmp_path, capsys, name):
    names = [name, "1", "2", "3", "4"]
    assert quick_train(tmp_path / "r", class_names=names) == 2
    assert "--class_names: expected names of folders" in capsys.readouterr().err
    split = scan_split(demo, "val", 5, tuple(names))  # takes the folders 0 to 4 instead
    assert all(path.parent.parent == demo / "val" for path in split.paths)


def test_hostile_names_are_escaped_in_the_report(trained, demo, shared_cache, tmp_path):
    root, copy = tmp_path / "images", shutil.copytree(trained, tmp_path / "r")
    shutil.copytree(demo / "test", root / "test")
    names = ["<script>alert(1)<", "$\\frac{", "<img src=x onerror=alert(2)>", "&amp;", '"3"']
    for grade, name in enumerate(names):
        (root / "test" / str(grade)).rename(root / "test" / name.replace("/", ""))
        for path in list((root / "test" / name).iterdir()):
            path.rename(path.with_name(f"<script>{path.name}"))
    words = flags(
        results_dirs=copy,
        dataset_path=root,
        device="cpu",
        cache_dir=shared_cache,
        resamples=20,
        class_names=names,
        output_dir=tmp_path / "out",
    )
    assert evaluate_ensemble.main(words) == 0
    report = next((tmp_path / "out").rglob("report.html")).read_text()
    assert "<script" not in report and "<img src" not in report
    assert "&lt;script&gt;" in report
    assert "<script" not in page.page("<script>", [page.heading("<script>")])


# -- pictures ----------------------------------------------------------------------------------


def png_header(width, height):
    """A PNG file that claims a size and holds nothing."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (MAX_PIXELS + 1, 1), (2_000_000, 8)]
)
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch, size):
    from PIL import ImageFile

    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(ImageError, match=r"pixels|exceeds limit"):
        decode_image(png_header(*size), "bomb.png")


def test_a_picture_that_is_huge_once_it_is_square_is_refused():
    """Found by fuzzing: a strip of 8 pixels made a square of gigabytes."""
    buffer = io.BytesIO()
    Image.new("1", (60_000, 8)).save(buffer, "PNG")
    with pytest.raises(ImageError, match="60000 x 8 pixels, limit"):
        decode_image(buffer.getvalue(), "strip.png")


def test_a_real_bomb_costs_neither_time_nor_memory():
    buffer = io.BytesIO()
    side = 16_000  # 256 megapixels in some kilobytes
    Image.new("1", (side, side)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 200_000
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"limit|exceeds"):
        decode_image(buffer.getvalue(), "bomb.png")
    assert time.monotonic() - started < 1


def test_predictions_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    np.savez_compressed(path, zeros=np.zeros(3_000_000, dtype=np.uint8))
    monkeypatch.setattr(result_dir, "_MAX_PREDICTIONS", 1_000_000)
    with pytest.raises(InputError, match="when unpacked"):
        result_dir.read_predictions(path)


# -- fuzzing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["images", "checkpoints", "config", "predictions", "flags"])
def test_mutated_inputs_end_in_a_result_or_one_line(target, tmp_path):
    judged = fuzz().campaign([target], 150, 7)[target]
    assert judged.count >= 150 and not judged.failures, judged.failures[:1]


def test_every_bit_that_matters_is_under_the_checksum(trained, tmp_path):
    path = tmp_path / "best_demo_convnext_0_1.pth"
    data = ResultDir(trained).best(MODEL, pair_head((0, 1))).read_bytes()
    good = checkpoint.load_pair_content(ResultDir(trained).best(MODEL, pair_head((0, 1))))
    noticed, rng = 0, np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60):
        content = bytearray(data)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            found = checkpoint.load_checkpoint(path)
        except checkpoint.CheckpointError:
            noticed += 1
        else:  # a bit of the container that no content depends on
            assert checkpoint.content_checksum(found) == checkpoint.content_checksum(good)
    assert noticed > 30
