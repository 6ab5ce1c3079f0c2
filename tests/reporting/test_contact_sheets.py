"""Contact sheets: rows of pictures with captions, whatever their names hold."""

from PIL import Image

from common.reporting.contact_sheets import CaptionedPicture, SheetRow, caption_lines, contact_sheet
from common.system.log import printable


def test_a_sheet_shows_rows_and_survives_hostile_names(tmp_path):
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
    Image.new("RGB", (1, 3000)).save(tmp_path / "strip.png")
    pictures = [
        CaptionedPicture(tmp_path / "strip.png", "a strip"),
        CaptionedPicture(tmp_path / "a.png", "<b>\x1b[31m\udcff"),
        CaptionedPicture(tmp_path / "gone.png", "目"),
    ]
    rows = [SheetRow("one\npicture\udcff", pictures)] * 20
    contact_sheet(rows, tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert (255, 0, 0) in {color for _, color in sheet.getcolors(1 << 20)}
    assert sheet.height < 12 * 230


def test_every_line_of_a_caption_shows_however_long_the_others_are():
    assert caption_lines("1. a.png\nlabel Moderate NPDR (0.10)", 25) == [
        "1. a.png",
        "label Moderate NPDR (0.10",
        ")",
    ]
    lines = caption_lines(f"12. {'x' * 90}.png\nlabel Moderate NPDR (0.10)\nmodel PDR (0.80)", 25)
    assert len(lines) == 3 and max(map(len, lines)) <= 25
    assert lines[0].startswith("12. x") and lines[0].endswith("x.png")
    assert lines[1].startswith("label Mod") and lines[1].endswith("(0.10)")
    assert lines[2] == "model PDR (0.80)"
    assert caption_lines("y" * 90, 25) == ["y" * 25, "y" * 11 + "..." + "y" * 11, "y" * 25]


def test_control_characters_are_written_as_escapes():
    assert printable("a\nb\x1b\udcff é") == "a\\nb\\x1b\\udcff é"
