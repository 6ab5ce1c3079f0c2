"""A result directory with the figures that a report embeds."""

import pytest
from PIL import Image

from common.reporting.report import FIGURES
from common.result_dir.paths import ResultDir


@pytest.fixture
def directory(tmp_path):
    found = ResultDir(tmp_path)
    for words in FIGURES:
        found.figure(f"{words.name}_test").parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 5), "gray").save(found.figure(f"{words.name}_test"))
    return found
