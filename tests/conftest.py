"""Small synthetic datasets and quick trainings that many tests share."""

import os
import signal
from pathlib import Path

# Tiny networks: several threads only wait for each other, minutes long where cores are shared.
# Before any import of torch; the scripts that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from helpers import QUICK, flags

import train_ovo
from common.data.synthetic import write_dataset

# tests send Ctrl-C, which a shell tells what it starts in the background to ignore
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """A synthetic dataset: 10 training images per grade (7 of grade 0), 4 to validate and test."""
    root = tmp_path_factory.mktemp("demo")
    write_dataset(root, {"train": 10, "val": 4, "test": 4}, seed=1, size=96)
    for path in sorted((root / "train" / "0").iterdir())[7:]:
        path.unlink()
    return root


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> Path:
    """A pixel cache for all tests that do not test the cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def quick_train(demo, shared_cache):
    """Train a tiny backbone in this process: quick_train(folder, **flags) -> exit status."""

    def run(output: Path, **changes) -> int:
        values = {**QUICK, "dataset_path": demo, "cache_dir": shared_cache, "output_dir": output}
        values |= changes
        return train_ovo.main(flags(**values))

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, demo, shared_cache) -> Path:
    """A result directory with all ten pairs of a tiny backbone."""
    output = tmp_path_factory.mktemp("trained") / "demo_5class_results"
    values = {**QUICK, "dataset_path": demo, "cache_dir": shared_cache, "output_dir": output}
    assert train_ovo.main(flags(**values)) == 0
    return output
