"""A dataset to be divided."""

import shutil
from pathlib import Path

import pytest
from helpers import QUICK_AUDIT

from common.audit.dataset import Audit, audit


@pytest.fixture(scope="package")
def source(demo, tmp_path_factory) -> Audit:
    """The demo dataset with a patient, a copy and a doubted grade."""
    root = Path(shutil.copytree(demo, tmp_path_factory.mktemp("source") / "d"))
    first, second, third = sorted((root / "train" / "1").iterdir())[:3]
    first.rename(first.with_name("7_left.jpg"))
    second.rename(root / "val" / "1" / "7_right.jpg")
    shutil.copy(third, root / "test" / "1" / "copy.jpg")
    shutil.copy(next((root / "train" / "3").iterdir()), root / "train" / "4" / "doubted.jpg")
    (root / "train" / "0" / "notes.jpg").write_text("x")
    return audit(root, QUICK_AUDIT)
