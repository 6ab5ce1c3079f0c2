"""Pictures that are graded by networks that answer at once."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import stored_grader
from new_pictures.quick_networks import Begun, Deciding, QuickNetworks
from PIL import Image

from common.new_pictures.answers import Answers, Asked, NoDoubts
from common.new_pictures.journal import Journal, RunFiles, RunSettings, open_journal
from common.new_pictures.listing import list_pictures
from common.new_pictures.rows import Row, RowFormat
from common.new_pictures.run import Kept, Work, grade_pictures


@pytest.fixture
def photos(tmp_path) -> Path:
    """Ten pictures of different brightness and two files that are none, among them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        level = 20 + 20 * number
        Image.new("RGB", (64, 48), (level, level // 2, 10)).save(folder / f"{number}.png")
    (folder / "2x.png").write_bytes(b"")
    (folder / "6x.png").write_bytes(b"nonsense")
    return folder


@pytest.fixture
def answers() -> Answers:
    """What two models that were never evaluated are asked."""
    return Answers(stored_grader(2), Asked(0, None), NoDoubts("nothing is known"))


@pytest.fixture
def run(photos, answers, tmp_path):
    """Grade the pictures: run(name, networks) -> the rows; it goes on where it ended."""

    def grade(
        name: str, networks: QuickNetworks, workers: int = 2, places: Sequence[str] = ()
    ) -> list[Row]:
        listing = list_pictures(places or [str(photos)])
        form = RowFormat(answers.grader.scored.names)
        made_with = RunSettings(Deciding(), Begun())
        files = RunFiles(tmp_path / f"{name}.csv")
        work = Work(networks, answers.judge, answers.refuse, answers.doubts.look, workers)
        with open_journal(files, form, made_with, False, Kept(listing, files)) as journal:
            grade_pictures(listing.pictures, journal, work)
            journal.finish([picture.name for picture in listing.pictures])
            return list(Journal.rows(journal))

    return grade
