"""The files of a run: mended where a process was killed, and refused where they are of another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from new_pictures.quick_networks import Begun, Deciding

from common.new_pictures.journal import RunFiles, RunSettings, open_journal
from common.new_pictures.rows import GRADED, UNREADABLE, FileState, Row, RowFormat
from common.system.errors import InputError

FORM = RowFormat("01234")
MADE_WITH = RunSettings(Deciding(model="abc"), Begun())


def row(image: str, **changes) -> Row:
    found = Row(
        image=image,
        outcome=GRADED,
        grade=2,
        class_name="2",
        probabilities=(0.1, 0.2, 0.3, 0.15, 0.25),
        p_referable=0.7,
        referable=True,
        operating_point="youden",
        uncertainty=(1.25, None, 3),
        classes_in_set=("1", "2"),
        review=False,
        reason="",
        remarks="",
        model="abc",
        time="2026-01-01 00:00:00Z",
        file=FileState(10, 20),
    )
    return replace(found, **changes)


ROWS = [row("a.jpg"), row('b "x"\n=1.jpg'), row("caf\udce9.jpg", outcome=UNREADABLE, review=True)]


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path / "o" / "p.csv")


def opened(files, settings=MADE_WITH, overwrite=False, keep=lambda row: row):
    return open_journal(files, FORM, settings, overwrite, keep)


def write(files, rows=ROWS):
    with opened(files) as journal:
        journal.add(rows)


def test_rows_are_read_as_they_were_written_and_both_files_hold_them(files):
    write(files)
    with opened(files) as journal:
        assert list(journal.rows()) == ROWS
        assert journal.done == {each.image: FileState(10, 20) for each in ROWS}
    lines = files.jsonl.read_text().splitlines()
    assert [json.loads(line)["p_2"] for line in lines] == [0.3] * 3
    assert not files.lock.exists()


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_line_that_was_cut_off_anywhere_is_cut_away_and_the_table_mended(files, left, capsys):
    write(files)
    whole, table = files.jsonl.read_bytes(), files.csv.read_text()
    last = whole.splitlines(keepends=True)[-1]
    files.jsonl.write_bytes(whole[: -(len(last) * left // 60) or None])
    files.csv.write_text(table[: -left * 2])
    with opened(files) as journal:
        assert list(journal.rows()) == ROWS[:2]
        journal.add(ROWS[2:])
    assert files.jsonl.read_bytes() == whole and files.csv.read_text() == table
    assert "its last line was cut off" in capsys.readouterr().out


def test_a_run_goes_on_only_with_what_it_was_begun_with(files):
    write(files)
    other = replace(MADE_WITH, deciding=Deciding(model="abc", tta=("d4",)))
    before = files.jsonl.read_bytes()
    with pytest.raises(InputError, match=r'tta was \["none"\], is \["d4"\].*--overwrite'):
        opened(files, other).__enter__()
    assert files.jsonl.read_bytes() == before
    with opened(files, other, overwrite=True) as journal:
        assert not list(journal.rows()) and not journal.done
    assert json.loads(files.settings.read_text())["tta"] == ["d4"]


def test_a_table_of_another_program_is_never_written_over(files):
    files.csv.parent.mkdir()
    files.csv.write_text("mine\n")
    with pytest.raises(InputError, match=r"p.run.json.*is not"):
        opened(files).__enter__()
    assert files.csv.read_text() == "mine\n" and not files.jsonl.exists()


def test_a_row_that_was_edited_is_named(files):
    write(files)
    lines = files.jsonl.read_text().splitlines()
    files.jsonl.write_text("\n".join([lines[0], lines[1].replace('"grade"', '"note"'), ""]))
    with pytest.raises(InputError, match=r"p.jsonl: line 2 is no row"):
        opened(files).__enter__()


def test_a_second_process_is_refused_and_names_the_first(files):
    with opened(files), pytest.raises(InputError, match=r"p.csv is written by process \d+ .*--csv"):
        opened(files).__enter__()


def test_all_ways_to_write_one_name_share_one_lock(files, tmp_path, monkeypatch):
    files.csv.parent.mkdir()
    (tmp_path / "link").symlink_to("o")
    monkeypatch.chdir(tmp_path)
    names = ["o/p", "o/p.csv", "link/p.csv", str(tmp_path / "link" / ".." / "o" / "p")]
    assert len({RunFiles(Path(name)).lock for name in names}) == 1
    with opened(files):
        for name in names:
            with pytest.raises(InputError, match="is written by process"):
                opened(RunFiles(Path(name))).__enter__()


def test_rows_that_do_not_hold_any_more_are_left_out(files):
    write(files)
    with opened(files, keep=lambda found: found if found.image != "a.jpg" else None) as journal:
        assert list(journal.rows()) == ROWS[1:]
        journal.add([row("a.jpg", time="later")])
        journal.finish([each.image for each in ROWS])
    with opened(files) as journal:
        assert list(journal.rows()) == [row("a.jpg", time="later"), *ROWS[1:]]
    assert files.csv.read_text().splitlines()[1].startswith("a.jpg,graded")


def test_the_other_files_are_named_after_the_table():
    one, two = RunFiles(Path("a.1")), RunFiles(Path("a.csv"))
    assert one.jsonl.name == "a.1.jsonl" and two.jsonl.name == "a.jsonl"
    assert two.patients.name == "a_patients.csv" and len({*one.all, *two.all}) == 8
