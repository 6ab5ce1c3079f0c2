"""One pair's training left in peace, and the same one stopped on its way."""

import os
import signal
from pathlib import Path

import pytest
from helpers import FOUR_EPOCHS, at_step


@pytest.fixture(scope="session")
def undisturbed(make_once, quick_train) -> Path:
    """The training of one pair over four epochs, to be read only."""

    def make(folder: Path) -> None:
        assert quick_train(folder / "r", **FOUR_EPOCHS) == 0

    return make_once("undisturbed", make) / "r"


@pytest.fixture
def stopped(quick_train, tmp_path, monkeypatch) -> Path:
    """The same training stopped in its fourth epoch, with two checkpoints on the disk."""
    output = tmp_path / "r"
    with monkeypatch.context() as patch:
        at_step(patch, 14, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert quick_train(output, **FOUR_EPOCHS) == 143
    return output
