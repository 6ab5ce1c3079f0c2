"""The file of a model card: its form, and what people have written in it."""

import pytest
import yaml

from common.model_card.card_file import TAGS, Card, write_card

FIGURES = {"type": "accuracy", "value": 0.5, "name": 'of "a", b: [0.4, 0.6] (42 images)'}
INDEX = [{"name": "a", "results": [{"task": {"type": "x"}, "metrics": [FIGURES, FIGURES]}]}]
CARD = Card(
    "test", {"library_name": "pytorch", "model-index": INDEX}, "# A model\n\nIt is *new*.\n"
)
LATER = Card("test", {"library_name": "pytorch"}, "# A model\n\nIt is older.\n")


def parts(text):
    """Return the head, as a YAML parser reads it, and the rest."""
    start, head, rest = text.split("---\n", 2)
    assert not start
    return yaml.safe_load(head), rest


@pytest.fixture
def path(tmp_path):
    assert write_card(tmp_path / "MODEL_CARD.md", CARD) == []
    return tmp_path / "MODEL_CARD.md"


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_head_is_yaml_and_leaves_the_licence_to_the_user(path):
    head, rest = parts(path.read_text())
    assert head == {"library_name": "pytorch", "model-index": INDEX, "tags": list(TAGS)}
    assert "# license: yours to choose" in path.read_text()
    assert "It is *new*." in rest and "## Licence, contact, citation" in rest


def test_what_a_person_wrote_in_head_tags_and_marked_part_outlives_evaluations(path):
    edit(
        path,
        "library_name:",
        "license: mit  # agreed\ndatasets:\n- us/eyes\n# ask B.\nlibrary_name:",
    )
    edit(path, "  - research-only\n", '  - research-only\n  - retina\n  - "two words"\n')
    edit(path, "*Yours to write: under", "Ask **us** of\n\n## Our own section\n\nunder")
    for _ in range(2):
        assert write_card(path, LATER) == []
        text = path.read_text()
        head, rest = parts(text)
        assert head["license"] == "mit" and head["datasets"] == ["us/eyes"]
        assert head["tags"] == [*TAGS, "retina", "two words"]
        assert "license: mit  # agreed\n" in text and "# ask B.\n" in text
        assert text.count("license:") == 1, "no hint beside a licence"
        assert (
            rest.count("## Our own section") == 1 and "It is older." in rest and "new" not in rest
        )
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("It is *new*.", "It is *very* new."),
        ('library_name: "pytorch"', "library_name: other"),
        ("<!-- end of what is yours -->", ""),
        ("---\n\n# A model", "# A model"),
    ],
)
def test_a_card_that_was_changed_elsewhere_is_kept_under_another_name(path, old, new):
    edit(path, "*Yours to write: under", "Mine: under")
    edit(path, old, new)
    changed = path.read_text()
    (line,) = write_card(path, LATER)
    assert "MODEL_CARD_earlier.md" in line
    assert (path.parent / "MODEL_CARD_earlier.md").read_text() == changed
    assert "It is older." in path.read_text()
    assert ("Mine: under" in path.read_text()) == ("end of" not in old and "# A model" not in old)
    assert write_card(path, LATER) == [], "once is enough"


@pytest.mark.parametrize("content", [b"", b"my own card", b"---\n", b"\xff\xfe\x00---\n---\n"])
def test_a_file_of_someone_else_is_kept_whole(tmp_path, content):
    path = tmp_path / "MODEL_CARD.md"
    path.write_bytes(content)
    write_card(path, CARD)
    assert (tmp_path / "MODEL_CARD_earlier.md").read_bytes() == content
    assert parts(path.read_text())[0]["library_name"] == "pytorch"


def test_line_ends_of_another_system_are_no_change(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert write_card(path, LATER) == []


def test_figures_of_test_give_way_to_those_of_test_alone(path):
    (line,) = write_card(path, Card("val", {}, "# Of val"))
    assert "stays that of test" in line and "It is *new*." in path.read_text()
    path.unlink()
    write_card(path, Card("training", {}, "# Trained"))
    assert write_card(path, Card("val", {}, "# Of val")) == []
    assert write_card(path, LATER) == [] and "It is older." in path.read_text()
