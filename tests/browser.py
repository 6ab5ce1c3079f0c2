"""Look at a page in headless Chromium: what overflows, and what does not load."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (375, 900, 1400)
# run by the page itself, in a frame, once everything is loaded
MEASURE = """<script>addEventListener("load", () => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter(
    (each) => each.getBoundingClientRect().right > root.clientWidth + 1);
  parent.postMessage({
    inner: innerWidth, scroll: root.scrollWidth,
    wide: wide.slice(0, 5).map((each) => each.outerHTML.slice(0, 120)),
    pictures: [...document.images].map((each) => each.naturalWidth)}, "*");
})</script>"""
# a window is at least 500 pixels wide, a frame in it as wide as it is asked to be
FRAMES = """<!doctype html><pre id="measured">[]</pre><script>
  const said = document.getElementById("measured");
  addEventListener("message", (event) => {
    said.textContent = JSON.stringify([...JSON.parse(said.textContent), event.data]);
  });
</script>"""


def measure_at(
    widths: Sequence[int], text: str, folder: Path, measure: str = MEASURE
) -> tuple[list[dict], str]:
    """Open a page at several widths in headless Chromium; also returns what the console said."""
    page, frames = folder / "page.html", folder / "frames.html"
    page.write_text(text.replace("</body>", f"{measure}</body>"))
    shown = [f'<iframe src="{page.as_uri()}" width="{w}" height="900"></iframe>' for w in widths]
    frames.write_text(FRAMES + "".join(shown).replace("<iframe", '<iframe style="border:0"'))
    ended = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            frames.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="measured">(.*?)</pre>', ended.stdout, re.DOTALL)
    console = "\n".join(line for line in ended.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(found[1])), console
