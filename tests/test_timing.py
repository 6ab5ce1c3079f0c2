"""Measurements in processes of their own."""

import os
import signal
import threading
import time

import pytest

from benchmarks.speed.timing import in_own_process


@pytest.mark.slow
def test_a_measurement_that_is_interrupted_ends_its_process():
    started = time.monotonic()
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        in_own_process(time.sleep, 60)
    assert time.monotonic() - started < 30, "it would have been waited for"
