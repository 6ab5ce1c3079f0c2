"""A training of three pairs, by one process, that those of several must equal."""

import os

import pytest
from helpers import THREE


@pytest.fixture(scope="package")
def three_classes(demo, tmp_path_factory):
    """The demo dataset's first three classes."""
    folder = tmp_path_factory.mktemp("three") / "images"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for grade in "012":
            os.symlink(demo / split / grade, folder / split / grade)
    return folder


@pytest.fixture(scope="package")
def alone(three_classes, quick_train, tmp_path_factory):
    """All three pairs, trained by one process."""
    output = tmp_path_factory.mktemp("alone") / "r"
    assert quick_train(output, dataset_path=three_classes, **THREE) == 0
    return output
