"""Files and flags with random changes end in a result or in one line."""

import numpy as np
import pytest
from helpers import HEAD, MODEL

from common.models import checkpoint_file
from common.result_dir.paths import ResultDir
from dev.fuzz import TARGETS
from dev.fuzz_runs import campaign
from dev.fuzz_targets import MAKERS


@pytest.mark.parametrize("target", ["images", "checkpoints", "config", "predictions", "flags"])
def test_mutated_inputs_end_in_a_result_or_one_line(target, tmp_path):
    run = campaign([target], 150, 7)[target]
    assert run.count >= 150 and not run.failures, run.failures[:1]


def test_the_flags_know_all_targets():
    assert tuple(MAKERS) == TARGETS


def test_every_bit_that_matters_is_under_the_checksum(trained, tmp_path):
    path = tmp_path / "best_demo_convnext_0_1.pth"
    data = ResultDir(trained).best(MODEL, HEAD).read_bytes()
    good = checkpoint_file.load_checkpoint(ResultDir(trained).best(MODEL, HEAD))
    noticed, rng = 0, np.random.default_rng(0)
    for place in rng.integers(0, len(data), 60):
        content = bytearray(data)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            found = checkpoint_file.load_checkpoint(path)
        except checkpoint_file.CheckpointError:
            noticed += 1
        else:  # a bit of the container that no content depends on
            assert checkpoint_file.content_checksum(found) == checkpoint_file.content_checksum(good)
    assert noticed > 30
