"""Small synthetic datasets and quick trainings that many tests share."""

import json
from pathlib import Path

import pytest

import train_ovo
from common.synthetic import write_dataset

QUICK = {
    "base_models": "demo_convnext",
    "no_pretrained": None,
    "freeze_weights": "true",
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
}


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


def flags(**values) -> list[str]:
    """Write keyword arguments as flags; None means a flag without a value."""
    words = []
    for name, value in values.items():
        words.append(f"--{name}")
        items = value if isinstance(value, list) else [value]
        words += [str(item) for item in items if item is not None]
    return words


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


def read_json(path: Path):
    """Read a JSON file."""
    return json.loads(path.read_text())
