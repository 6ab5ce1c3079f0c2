"""Flags, and how a mistake or an interruption ends a script."""

from common.cli import folder, guarded

import importlib.machinery
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from common import cli
from common.flags.evaluation import add_evaluation_flags
from common.flags.training import RESUME_ADVICE, parse_training
from common.result_dir.paths import ResultDir
from common.sharing.launcher import ALONE, find_place
from common.system.errors import InputError, TrainingError
from common.system.files import write_json
from common.system.log import log

BASE = ["--base_models", "coatnet"]


def one(*words):
    return parse_training([*BASE, *words], "x").configs[0]


def test_flags_reach_the_configuration():
    config = one(
        "--epochs",
        "7",
        "--learning_rate",
        "1e-3",
        "--enable_clahe",
        "false",
        "--enable_focal_loss",
        "--no_pretrained",
        "--class_names",
        *"abcde",
    )
    assert (config.epochs, config.learning_rate, config.enable_clahe) == (7, 1e-3, False)
    assert config.enable_focal_loss and not config.pretrained
    assert config.class_names == tuple("abcde")
    assert config.model == "coatnet_0_rw_224" and config.output_dir == "coatnet_5class_results"


def test_several_models_get_a_folder_each(tmp_path):
    (tmp_path / "w.pth").touch()
    request = parse_training(
        [
            "--base_models",
            "coatnet",
            "swinv2",
            "--output_dir",
            "runs",
            "--weights",
            f"swinv2={tmp_path}/w.pth",
        ],
        "x",
    )
    assert [c.output_dir for c in request.configs] == [
        "runs/coatnet_5class_results",
        "runs/swinv2_5class_results",
    ]
    assert [c.weights for c in request.configs] == ["", f"{tmp_path}/w.pth"]


def test_several_seeds_get_a_folder_each():
    words = ["--base_models", "coatnet", "swinv2", "--head", "shared", "--seed"]
    several = parse_training([*words, "0", "7"], "x").configs
    assert [(c.output_dir, c.seed) for c in several] == [
        ("coatnet_shared_seed0_5class_results", 0),
        ("coatnet_shared_seed7_5class_results", 7),
        ("swinv2_shared_seed0_5class_results", 0),
        ("swinv2_shared_seed7_5class_results", 7),
    ]
    assert [c.output_dir for c in parse_training([*words, "7"], "x").configs] == [
        "coatnet_shared_5class_results",
        "swinv2_shared_5class_results",
    ]
    request = parse_training([*BASE, "--output_dir", "runs", "--seed", "1", "2"], "x")
    assert [c.output_dir for c in request.configs] == [
        "runs/coatnet_seed1_5class_results",
        "runs/coatnet_seed2_5class_results",
    ]
    assert one("--output_dir", "runs", "--seed", "1").output_dir == "runs"
    assert one().seed == 42


@pytest.mark.parametrize(
    ("name", "seeds"),
    [("coatnet_5class_results", ["1", "2"]), ("coatnet_seed1_5class_results", ["1"])],
)
def test_a_seed_is_not_trained_again_under_another_name(name, seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = ResultDir(Path(name))
    write_json(place.config, {"config": {"seed": 1}})
    with pytest.raises(InputError, match=f"--seed 1: {name} holds a training with that seed"):
        one("--seed", *seeds)
    assert one("--seed", "3").output_dir == "coatnet_5class_results"
    assert one("--seed", "1", "--output_dir", name).output_dir == name
    other = {"coatnet_5class_results", "coatnet_seed1_5class_results"} - {name}
    twin = ResultDir(Path(other.pop())).config
    write_json(twin, {"config": {"seed": 0}})
    with pytest.raises(InputError, match=f"this command is for {twin.parent}; go on there by"):
        one("--seed", *seeds)
    write_json(twin, {"config": {"seed": 1}})
    parse_training([*BASE, "--seed", *seeds], "x")  # both are there by now


def test_seeds_that_are_no_numbers_are_refused_with_the_form(capsys):
    for text in ("0,1,2", "0-2", "1.5", "one"):
        with pytest.raises(SystemExit):
            one("--seed", text)
        said = capsys.readouterr().err
        assert f"expected whole numbers with spaces between, such as 0 1 2, found '{text}'" in said


def test_a_seed_given_twice_is_refused():
    with pytest.raises(InputError, match="--seed: 1 2 1 names a seed twice"):
        one("--seed", "1", "2", "1")


def test_the_environment_sets_defaults_and_flags_win(monkeypatch):
    monkeypatch.setenv("DATASET_PATH", "/data")
    monkeypatch.setenv("CACHE_DIR", "/cache")
    assert (one().dataset_path, one().cache_dir) == ("/data", "/cache")
    assert one("--dataset_path", "/other").dataset_path == "/other"


@pytest.mark.parametrize("written", ["~/x y", "$HOME/x y", "${HOME}/x y", "${NOPE:-/home/me}/x y"])
def test_home_and_variables_in_the_environment_s_folders_are_expanded(monkeypatch, written):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("NOPE", raising=False)
    monkeypatch.setenv("DATASET_PATH", written)
    monkeypatch.setenv("CACHE_DIR", written)
    assert (one().dataset_path, one().cache_dir) == ("/home/me/x y", "/home/me/x y")


def test_home_in_quoted_flags_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").touch()
    words = ["--dataset_path", "~/d", "--cache_dir", "~/c", "--output_dir", "~/o"]
    config = one(*words, "--weights", "coatnet=~/w.pth")
    found = [config.dataset_path, config.cache_dir, config.output_dir, config.weights]
    assert found == [f"{tmp_path}/{name}" for name in ("d", "c", "o", "w.pth")]
    assert folder("~/r") == tmp_path / "r"


def test_a_variable_that_is_not_set_is_named_where_it_is_used(monkeypatch, capsys):
    monkeypatch.delenv("NOPE", raising=False)
    monkeypatch.setenv("DATASET_PATH", "$NOPE/x")
    with pytest.raises(SystemExit):
        one()
    assert "NOPE is not set" in capsys.readouterr().err
    assert one("--dataset_path", "/given").dataset_path == "/given"


def test_folders_that_are_really_called_so_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("~", "$HOME", "a$b"):
        (tmp_path / name).mkdir()
        assert one("--dataset_path", name).dataset_path == name


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "0"],
        ["--pairs", "1-0"],
        ["--base_models", "nothing_like_it"],
        ["--weights", "a", "b"],
        ["--num_classes", "3", "--pairs", "3-4"],
    ],
)
def test_impossible_requests_are_input_errors(words):
    with pytest.raises(InputError):
        parse_training([*BASE, *words], "x")


@pytest.mark.parametrize(
    "words", [["--epoch", "3"], ["--epochs", "many"], ["--enable_clahe", "maybe"], ["--nonsense"]]
)
def test_wrong_flags_end_in_one_line_and_status_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_training([*BASE, *words], "x")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("two\nlines"), 2),
        (TrainingError("x"), 1),
        (torch.OutOfMemoryError("CUDA out of memory"), 1),
        (RuntimeError("CUDA error: out of memory"), 1),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 1),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space left on device", "/out/model.pth"), 2),
    ],
)
def test_mistakes_end_in_one_line(error, status, capsys):
    @guarded
    def main(argv=None):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err.startswith("error: ")
    assert guarded(lambda argv=None: None)([]) == 0


def test_a_mistake_of_the_program_is_not_taken_for_the_user_s():
    @guarded
    def main(argv=None):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main([])


@pytest.mark.parametrize("name", ["cache_dir", "dataset_path"])
def test_an_empty_folder_does_not_mean_the_current_one(name, capsys):
    parser = cli.Parser()
    add_evaluation_flags(parser)
    for parse in (parser.parse_args, lambda words: parse_training([*BASE, *words], "x")):
        with pytest.raises(SystemExit) as stop:
            parse([f"--{name}", ""])
        assert stop.value.code == 2
        assert f"--{name}: expected a folder, found ''" in capsys.readouterr().err


def test_an_error_names_the_module_that_was_started(monkeypatch, capsys):
    spec = importlib.machinery.ModuleSpec("dev.golden", None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    with pytest.raises(SystemExit):
        cli.Parser().parse_args(["--bad"])
    assert "(see python -m dev.golden --help)" in capsys.readouterr().err


def test_help_names_a_default_only_where_there_is_one(capsys):
    with pytest.raises(SystemExit):
        parse_training(["--help"], "x")
    text = " ".join(capsys.readouterr().out.split())
    assert "(default )" not in text and "(default 100)" in text


def test_only_the_training_advises_to_resume(capsys):
    def main(argv=None):
        raise KeyboardInterrupt

    guarded(main)([])
    assert "--resume" not in capsys.readouterr().err
    guarded(main, advice=RESUME_ADVICE)([])
    assert "with --resume" in capsys.readouterr().err


def test_true_and_false_are_read_in_every_usual_form():
    assert [cli.boolean(text) for text in ("true", "On", "1", "no", "0")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_of_several_processes_one_runs_what_cannot_be_shared(monkeypatch, capsys):
    ran = []

    @guarded
    def main(argv=None):
        ran.append(find_place())

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert main([]) == 0 and not ran and not capsys.readouterr().out
    monkeypatch.setenv("RANK", "0")
    assert main([]) == 0 and ran == [ALONE], "nor do those that it starts share their work"
    said = "[rank 0 of 3] note: this command works in one process; the other 2 have nothing to do"
    assert said in capsys.readouterr().out
    monkeypatch.setenv("RANK", "3")
    assert main([]) == 2 and "RANK=3 and WORLD_SIZE=3" in capsys.readouterr().err


def test_of_several_processes_each_line_names_the_one_that_writes_it(monkeypatch, capsys):
    @partial(guarded, shares=True)
    def main(argv=None):
        log("hello")
        raise InputError("no")

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    assert main([]) == 2
    said = capsys.readouterr()
    assert "[rank 1 of 3] hello" in said.out and said.err.startswith("[rank 1 of 3] error: no")
