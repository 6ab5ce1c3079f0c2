"""The file of a model card, in which people write, too.

The hub's format (huggingface.co/docs/hub/model-cards; of its metadata: hub-docs/modelcard.md):
YAML between two lines of dashes, then Markdown. What a person has written there outlives every
evaluation.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.result_dir.csv_files import set_aside
from common.system.files import atomic_write

OURS = ("library_name", "pipeline_tag", "tags", "metrics", "model-index")  # keys of the head
TAGS = (
    "diabetic-retinopathy",
    "fundus-photography",
    "image-classification",
    "medical-imaging",
    "one-vs-one",
    "ophthalmology",
    "research-only",
)
_LICENCE = (
    "# license: yours to choose (https://huggingface.co/docs/hub/repositories-licenses); write it "
    "without the # in front"
)
_BEGIN = "<!-- yours: what stands from here to the next mark is kept by every evaluation -->"
_END = "<!-- end of what is yours -->"
_YOURS = """
## Licence, contact, citation

*Yours to write: under which licence the model may be used, whom to ask, how to cite it, and what
else its users must know. What stands here, and the keys that you add to the head of the file, are
kept when the model is evaluated again.*
"""
_HEAD = re.compile(r"---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
_BLOCKS = re.compile(r"^(?=[^\s-])", re.MULTILINE)  # each begins at the left margin
_ITEM = re.compile(r"\s*-\s+(.+)")
_STAMP = re.compile(r"<!-- written of (\S+); checksum ([0-9a-f]{16}) -->\n?")


@dataclass(frozen=True)
class Card:
    """What is written into the file of a model card."""

    subject: str  # the split that its figures are of, or "training"
    head: Mapping[str, Any]  # of the keys OURS
    body: str  # Markdown


@dataclass(frozen=True)
class _Earlier:
    """What a card holds that is there."""

    head: str = ""  # lines that are not ours
    tags: tuple[str, ...] = ()  # that are not ours
    yours: str | None = None  # the part that is the user's; None: it is not marked any more
    subject: str = ""
    intact: bool = False  # all else is as it was written


def write_card(path: Path, card: Card) -> list[str]:
    """Write a card with all that a person has written into the one before.

    Kept are keys and comments of the head, tags, and the part that is marked as the user's. Where
    anything else was changed, the file before is kept under another name. One on `test` is replaced
    only by another one on it. Returns what is to be said.
    """
    there, before = path.exists(), _Earlier()
    if there:
        before = _read(path.read_text(errors="replace"))
        if before.subject == "test" and card.subject != "test":
            return [f"{path} stays that of test, which says more than {card.subject}"]
    previous = set_aside(path) if there and not before.intact else None
    licensed = re.search(r"^license\s*:", before.head, re.MULTILINE)
    head = dict(card.head) | {"tags": [*TAGS, *before.tags]}
    lines = [*before.head.splitlines(), *([] if licensed else [_LICENCE]), *_yaml(head)]
    yours = _YOURS if before.yours is None else before.yours
    ours = _ours("\n".join(_yaml(dict(card.head) | {"tags": TAGS})), card.body)
    stamp = f"<!-- written of {card.subject}; checksum {_checksum(ours)} -->"
    text = "\n".join(lines)
    text = f"---\n{text}\n---\n\n{card.body.strip()}\n\n{_BEGIN}{yours}{_END}\n\n{stamp}\n"
    with atomic_write(path, previous) as file:
        file.write(text.encode(errors="backslashreplace"))
    if previous is None:
        return []
    return [
        f"note: {path.name} was changed outside the part that is yours; it is kept as {previous}"
    ]


def _read(text: str) -> _Earlier:
    """Tell in a card what a person has written from what this software has."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found = _HEAD.match(text)
    if found is None:
        return _Earlier()
    theirs, ours, tags = [], [], []
    for block in _BLOCKS.split(found[1]):
        key = block.partition(":")[0].strip()
        if key == "tags":
            more = [line for line in block.splitlines() if _tag(line) not in ("", *TAGS)]
            tags += list(map(_tag, more))
            ours.append("\n".join(line for line in block.splitlines() if line not in more))
        elif key in OURS:
            ours.append(block.rstrip("\n"))
        elif block.strip() != _LICENCE:
            theirs.append(block.rstrip("\n"))
    body = text[found.end() :]
    yours = None
    if body.count(_BEGIN) == body.count(_END) == 1 and body.index(_BEGIN) < body.index(_END):
        front, rest = body.split(_BEGIN)
        yours, behind = rest.split(_END)
        body = front + behind
    stamps = list(_STAMP.finditer(body))
    if len(stamps) != 1:
        return _Earlier("\n".join(filter(None, theirs)), tuple(tags), yours)
    subject, checksum = stamps[0].groups()
    body = body.replace(stamps[0][0], "")
    intact = yours is not None and _checksum(_ours("\n".join(ours), body)) == checksum
    return _Earlier("\n".join(filter(None, theirs)), tuple(tags), yours, subject, intact)


def _ours(head: str, body: str) -> str:
    return f"{head.strip()}\n{body.strip()}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def _tag(line: str) -> str:
    """Read a tag of a list, one to a line; "" where there is none."""
    found = _ITEM.fullmatch(line)
    text = found[1].strip() if found else ""
    with suppress(ValueError):
        return str(json.loads(text)) if text.startswith('"') else text
    return text


def _yaml(value: Mapping[str, Any] | Sequence[Any]) -> Iterator[str]:
    """Write a mapping or a list as lines of YAML; texts and numbers as JSON, which is YAML, too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            nested = isinstance(item, Mapping | list | tuple)
            yield f"{key}:" + ("" if nested else f" {_scalar(item)}")
            yield from (f"  {line}" for line in (_yaml(item) if nested else ()))
        return
    for item in value:
        first, *others = _yaml(item) if isinstance(item, Mapping) else [_scalar(item)]
        yield f"- {first}"
        yield from (f"  {line}" for line in others)


def _scalar(value: Any) -> str:
    """Write a text or a number; a word needs no quotes."""
    plain = isinstance(value, str) and re.fullmatch(r"[a-z][a-z]+([_-][a-z]+)+", value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
