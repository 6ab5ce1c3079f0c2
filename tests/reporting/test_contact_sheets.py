"""Contact sheets: rows of pictures with captions, whatever their names hold."""

from PIL import Image

from common.reporting.contact_sheets import CaptionedPicture, SheetRow, contact_sheet
from common.system.log import printable


def test_a_sheet_shows_rows_and_survives_hostile_names(tmp_path):
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
    pictures = [
        CaptionedPicture(tmp_path / "a.png", "<b>\x1b[31m\udcff"),
        CaptionedPicture(tmp_path / "gone.png", "目"),
    ]
    rows = [SheetRow("one\npicture\udcff", pictures)] * 20
    contact_sheet(rows, tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert (255, 0, 0) in {color for _, color in sheet.getcolors(1 << 20)}
    assert sheet.height < 12 * 230


def test_control_characters_are_written_as_escapes():
    assert printable("a\nb\x1b\udcff é") == "a\\nb\\x1b\\udcff é"
