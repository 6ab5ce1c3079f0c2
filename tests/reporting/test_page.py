import base64
import re

import numpy as np
from PIL import Image

from common.reporting import page

EVIL = '<script>alert("x")</script>'


def test_everything_from_outside_is_escaped(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((9, 5, 3), 80, dtype=np.uint8)).save(path)
    text = page.page(
        EVIL,
        [
            page.heading(EVIL),
            page.paragraph(EVIL, note=True),
            page.preformatted(EVIL),
            page.picture(path, f'" onload="{EVIL}'),
            page.thumbnail(path, EVIL),
        ],
    )
    assert "<script" not in text and 'onload="' not in text and text.count("&lt;script") >= 6


def test_pictures_are_inside_the_page(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 20, 3), 80, dtype=np.uint8)).save(path)
    shown = page.thumbnail(path, "eye")
    data = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    assert data[:2] == b"\xff\xd8" and "http" not in shown and str(tmp_path) not in shown


def test_a_photograph_that_is_gone_leaves_its_caption(tmp_path):
    assert "cannot be read" in page.thumbnail(tmp_path / "gone.png", "eye 7")
    (tmp_path / "text.png").write_text("x")
    assert "cannot be read" in page.thumbnail(tmp_path / "text.png", "eye 7")
