"""Devices and precisions are chosen for what is there, and refused where they cannot be."""

from pathlib import Path

import pytest
import torch

from common.system import device
from common.system.device import free_memory, resolve_precision, select_device
from common.system.errors import InputError

CPU = torch.device("cpu")


def test_the_cpu_can_be_asked_for():
    assert select_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps:0:1", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match="--device"):
        select_device(name)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_processes_of_one_machine_take_the_gpus_in_turn(monkeypatch, name):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    found = [str(select_device(name, local_rank)) for local_rank in range(4)]
    assert found == ["cuda", "cuda:1", "cuda:0", "cuda:1"] and chosen == found[1:]
    assert str(select_device("cuda:1", 2)) == "cuda:1", "what is named is taken by all"
    assert chosen[3:] == ["cuda:1"], "and is the one that is asked for its abilities and its name"


@pytest.mark.parametrize(
    ("flags", "chosen"), [("avx2 avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")]
)
def test_a_cpu_takes_bf16_where_its_hardware_has_it(monkeypatch, flags, chosen):
    monkeypatch.setattr(Path, "read_text", lambda _: f"flags : {flags}\n")
    assert resolve_precision("auto", True, CPU) == chosen
    assert resolve_precision("auto", False, CPU) == "fp32"


@pytest.mark.parametrize(("flags", "noted"), [("avx2 amx_bf16", False), ("avx2", True)])
def test_bf16_that_is_asked_of_an_older_cpu_is_taken_and_noted(monkeypatch, capsys, flags, noted):
    monkeypatch.setattr(Path, "read_text", lambda _: f"flags : {flags}\n")
    device._say_bf16_is_slow.cache_clear()
    for _ in range(2):
        assert resolve_precision("bf16", True, CPU) == "bf16"
    assert capsys.readouterr().out.count("fp32 may be faster") == noted
    assert resolve_precision("fp32", True, CPU) == "fp32" and not capsys.readouterr().out


def test_fp16_is_refused_on_a_cpu():
    with pytest.raises(InputError, match="needs a GPU"):
        resolve_precision("fp16", True, CPU)


def test_free_memory_is_the_machine_s_or_what_a_control_group_grants(tmp_path):
    assert free_memory(tmp_path) == float("inf")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  1000 kB\n")
    assert free_memory(tmp_path) == 1_024_000
    (tmp_path / "proc/self/cgroup").write_text("0::/slurm/job\n")
    job = tmp_path / "sys/fs/cgroup/slurm/job"
    job.mkdir(parents=True)
    (job / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text("500000\n")
    for folder, files in ((job, 0), (job.parent, 1000)):
        (folder / "memory.current").write_text("400000\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    assert free_memory(tmp_path) == 101_000, "of the group above, with files that can go"
    (tmp_path / "proc/self/cgroup").write_text("3:memory:/docker/abc\n")
    own = tmp_path / "sys/fs/cgroup/memory"
    own.mkdir()
    (own / "memory.limit_in_bytes").write_text("300\n")
    (own / "memory.usage_in_bytes").write_text("310\n")
    (own / "memory.stat").write_text("total_inactive_file 0\n")
    assert free_memory(tmp_path) == 0
