"""The moving average of a network's weights."""

import torch
from torch import nn

from common.fine_tuning.averaging import average_decay, start_average, update_average
from common.models.ovo import Branch


def test_the_decay_grows_to_what_was_asked_for():
    assert [average_decay(t, 0.99) for t in (0, 1, 10)] == [0.1, 2 / 11, 11 / 20]
    assert average_decay(10_000, 0.99) == 0.99


def test_the_average_forgets_at_the_decay_and_copies_counters():
    branch = Branch(nn.Sequential(nn.BatchNorm1d(2)), nn.Linear(2, 1))
    average = start_average(branch)
    before = {name: value.clone() for name, value in branch.state_dict().items()}
    for value in branch.state_dict().values():
        value += 4
    update_average(average, branch, 0.75)
    for name, value in average.state_dict().items():
        moved = 1 if value.is_floating_point() else 4
        assert torch.allclose(value, before[name] + moved)
    assert not any(p.requires_grad for p in average.parameters())
