import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from common.system.device import resolve_precision, select_device
from common.system.environment import worker_count
from common.system.errors import InputError
from common.system.files import atomic_write, read_json, write_json
from common.system.log import log, progress_bar
from common.system.random_streams import derive_seed

CPU = torch.device("cpu")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(b"good")
    with pytest.raises(OSError, match="No space"), atomic_write(path) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["model.pth"]


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b.bin"
    for content in (b"one", b"two"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content


def test_json_has_null_for_what_is_undefined(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [np.float32(1.5), np.array([1, 2])]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, [1, 2]]}


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"x\.json: expected a readable JSON"):
        read_json(tmp_path / "x.json")


def test_log_lines_carry_utc_time(capsys):
    log("hello")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  hello\n", capsys.readouterr().out)


def test_no_bar_without_a_terminal(capsys):
    list(progress_bar(range(3), "x"))
    assert capsys.readouterr().err == ""


def test_streams_are_told_apart_and_stay_the_same():
    assert derive_seed("order", 1, 2) == derive_seed("order", 1, 2)
    assert len({derive_seed("order", a, b) for a in range(9) for b in range(9)}) == 81
    assert derive_seed("x", 42) == 7477352627268781263  # a change would break every resume


def test_devices():
    assert select_device("cpu") == CPU
    for name in ("gpu", "cuda:99", "mps:0:1", "meta"):
        with pytest.raises(InputError, match="--device"):
            select_device(name)


def test_precision(monkeypatch):
    for flags, chosen in (("avx2 avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(Path, "read_text", lambda _, flags=flags: f"flags : {flags}\n")
        assert resolve_precision("auto", True, CPU) == chosen
        assert resolve_precision("auto", False, CPU) == "fp32"
    assert resolve_precision("bf16", True, CPU) == "bf16"
    with pytest.raises(InputError, match="needs a GPU"):
        resolve_precision("fp16", True, CPU)


def test_never_more_workers_than_cores():
    assert worker_count(10_000) == len(os.sched_getaffinity(0))
    assert worker_count(1) == 1
