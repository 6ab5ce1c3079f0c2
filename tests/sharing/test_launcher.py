"""Which of several processes this one is."""

import os

import pytest

from common.sharing.launcher import ALONE, Place, find_place, without_launcher
from common.system.errors import InputError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ALONE),
        (TORCHRUN, Place(3, 8, 1)),
        (TORCHRUN | {"TORCHELASTIC_MAX_RESTARTS": "2"}, Place(3, 8, 1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Place(1, 2, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, ALONE),
        ({"RANK": "", "WORLD_SIZE": ""}, ALONE),
        (
            {"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_MAX_RESTARTS": "3"},
            Place(max_restarts=3),  # one process is started again, too
        ),
        (SRUN, Place(1, 2, 0)),
        (SRUN | TORCHRUN, Place(3, 8, 1)),  # torchrun within a step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, ALONE),  # a batch script is no step
    ],
)
def test_a_launcher_tells_a_process_its_place(environment, place):
    assert find_place(environment) == place


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"WORLD_SIZE": ""}, "RANK=3 but no WORLD_SIZE"),
        ({"RANK": ""}, "WORLD_SIZE=8 but no RANK"),
        ({"RANK": "8"}, "RANK=8 and WORLD_SIZE=8: expected ranks 0 to"),
        ({"WORLD_SIZE": "0"}, "RANK=3 and WORLD_SIZE=0"),
        ({"RANK": "-1"}, "RANK='-1': expected a whole number"),
        ({"WORLD_SIZE": "99999999999"}, "WORLD_SIZE=99999999999: expected 4,096 at most"),
        ({"WORLD_SIZE": "9" * 5000}, "expected a whole number"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two': expected a whole number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK='x': expected a whole number"),
    ],
)
def test_what_contradicts_itself_is_named(change, said):
    with pytest.raises(InputError, match=said):
        find_place(TORCHRUN | change)


def test_what_is_called_without_the_launcher_is_alone(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with without_launcher():
        assert find_place() == ALONE
    assert find_place() == Place(3, 8, 1) and os.environ["RANK"] == "3"
