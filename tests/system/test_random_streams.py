"""Random streams depend on their names alone."""

import numpy as np
import torch

from common.system.random_streams import derive_seed, random_generator, torch_generator


def test_streams_of_different_names_differ():
    assert len({derive_seed("order", a, b) for a in range(9) for b in range(9)}) == 81


def test_seeds_stay_the_same_between_versions():
    assert derive_seed("order", 1, 2) == derive_seed("order", 1, 2)
    assert derive_seed("x", 42) == 7477352627268781263, "a change would break every resume"


def test_a_stream_begins_anew_each_time_it_is_opened():
    first, second = (random_generator("mask", 1).random(4) for _ in range(2))
    assert np.array_equal(first, second)
    draws = [torch.rand(4, generator=torch_generator("mask", 1)) for _ in range(2)]
    assert torch.equal(*draws)
