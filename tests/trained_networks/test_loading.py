"""The classifiers of a result directory are loaded together, where they belong together."""

import shutil

import pytest

from common.models import checkpoint_file
from common.pairs import pair_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError
from common.trained_networks.loading import load_model


@pytest.fixture
def copy(trained, tmp_path):
    return ResultDir(shutil.copytree(trained, tmp_path / "r"))


def test_ten_files_share_one_trunk(trained):
    member = load_model(find_run(ResultDir(trained)))
    assert len(member.groups) == 1 and len(member.groups[0].branches) == 10
    assert [own.columns.start for own in member.groups[0].branches] == list(range(10))


def test_unfinished_classifiers_are_noted(trained, tmp_path, capsys):
    copy = ResultDir(shutil.copytree(trained, tmp_path / "r"))
    load_model(find_run(copy))
    assert "unfinished" not in capsys.readouterr().out
    path = copy.best("demo_convnext", pair_head((0, 1)))
    checkpoint_file.save_checkpoint(
        path, {**checkpoint_file.load_checkpoint(path), "complete": False}
    )
    load_model(find_run(copy))
    assert f"note: {copy.root}: 1 of 10 classifiers are unfinished" in capsys.readouterr().out


def test_a_missing_configuration_is_noted(copy, capsys):
    copy.config.unlink()
    load_model(find_run(copy))
    assert f"note: {copy.config} is missing: what it was" in capsys.readouterr().out


def test_pairs_trained_on_different_pixels_do_not_mix(copy, tmp_path):
    path = copy.best("demo_convnext", pair_head((2, 3)))
    content = checkpoint_file.load_checkpoint(path)
    content["preprocessing"]["enable_clahe"] = False
    checkpoint_file.save_checkpoint(path, content)
    with pytest.raises(InputError, match="other pixels"):
        load_model(find_run(copy))


def test_a_renamed_pair_is_noticed(copy):
    copy.best("demo_convnext", pair_head((0, 1))).replace(
        copy.best("demo_convnext", pair_head((0, 2)))
    )
    copy.best("demo_convnext", pair_head((0, 3))).rename(
        copy.best("demo_convnext", pair_head((0, 1)))
    )
    copy.best("demo_convnext", pair_head((0, 4))).rename(
        copy.best("demo_convnext", pair_head((0, 3)))
    )
    copy.best("demo_convnext", pair_head((1, 2))).rename(
        copy.best("demo_convnext", pair_head((0, 4)))
    )
    with pytest.raises(InputError, match=r"missing 1-2"):
        load_model(find_run(copy))
    copy.best("demo_convnext", pair_head((0, 4))).rename(
        copy.best("demo_convnext", pair_head((1, 2)))
    )
    copy.best("demo_convnext", pair_head((0, 3))).rename(
        copy.best("demo_convnext", pair_head((0, 4)))
    )
    copy.best("demo_convnext", pair_head((0, 2))).rename(
        copy.best("demo_convnext", pair_head((0, 3)))
    )
    copy.best("demo_convnext", pair_head((0, 1))).rename(
        copy.best("demo_convnext", pair_head((0, 2)))
    )
    checkpoint_file.save_checkpoint(
        copy.best("demo_convnext", pair_head((0, 1))),
        checkpoint_file.load_checkpoint(copy.best("demo_convnext", pair_head((3, 4)))),
    )
    with pytest.raises(InputError, match="its name says another"):
        load_model(find_run(copy))
