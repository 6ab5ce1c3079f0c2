"""What results depend on beside the code is read from the machine."""

import os

from common.system.environment import versions, worker_count


def test_there_are_never_more_workers_than_cores():
    assert worker_count(10_000) == len(os.sched_getaffinity(0))
    assert worker_count(1) == 1


def test_versions_name_the_libraries_that_move_numbers():
    assert {"torch", "timm", "opencv", "numpy", "threads"} <= versions().keys()
