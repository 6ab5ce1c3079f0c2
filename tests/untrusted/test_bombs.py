"""Pickles that run code and files that unpack to gigabytes are refused before they do."""

import io
import pickle
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from helpers import HEAD, MODEL, Bomb, flags
from PIL import Image

import evaluate_ensemble
import model_analyzer
from common.pixels.decoding import MAX_PIXELS, ImageError, decode_image
from common.result_dir import stored
from common.result_dir.paths import ResultDir
from common.result_dir.stored import read_predictions
from common.system.errors import InputError


@pytest.fixture
def bombs(tmp_path, monkeypatch):
    """Write bombs in both containers; afterwards nothing may have gone off."""
    monkeypatch.chdir(tmp_path)
    content = {"format": "ovo-pair-1", "state_dict": {"x": Bomb()}, "model": Bomb()}

    def write(path, raw):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content)) if raw else torch.save(content, path)

    yield write
    assert not list(tmp_path.rglob("exploded"))


@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_bomb_is_refused_by_the_analyzer(bombs, tmp_path, capsys, raw):
    bombs(tmp_path / "best_resnet50_0_1.pth", raw)
    assert model_analyzer.main(["--model", str(tmp_path / "best_resnet50_0_1.pth")]) == 2
    said = capsys.readouterr().err
    assert "unreadable checkpoint" in said and said.count("\n") == 1


def test_a_pickle_bomb_is_refused_by_the_evaluation(bombs, trained_copy, demo, tmp_path, capsys):
    bombs(ResultDir(trained_copy).best(MODEL, HEAD), False)
    words = flags(
        results_dirs=trained_copy, dataset_path=demo, device="cpu", cache_dir=tmp_path / "c"
    )
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
        ResultDir(output).best(MODEL, HEAD).unlink()
    bombs(getattr(ResultDir(output), kind)(MODEL, HEAD), False)
    assert quick_train(output, pairs="0-1", resume=None) == 0
    said = capsys.readouterr().out
    assert f"{kind}_demo_convnext_0_1.pth: unreadable" in said and "from the start" in said


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
    started = time.process_time()
    with pytest.raises(ImageError, match=r"limit|exceeds"):
        decode_image(buffer.getvalue(), "bomb.png")
    assert time.process_time() - started < 1


def test_predictions_that_unpack_to_gigabytes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    np.savez_compressed(path, zeros=np.zeros(3_000_000, dtype=np.uint8))
    monkeypatch.setattr(stored, "_MAX_PREDICTIONS", 1_000_000)
    with pytest.raises(InputError, match="when unpacked"):
        read_predictions(path)
