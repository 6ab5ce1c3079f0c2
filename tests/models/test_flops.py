"""What the table says that networks take, by which several processes share the training."""

import pytest

from common.models.backbones import resolve
from dev.count_flops import count, main, of_table


@pytest.mark.parametrize("name", ["efficientnetb2", "resnet50"])
def test_the_tables_operations_are_those_that_pytorch_counts(name):
    spec = resolve(name)
    assert count(spec) == of_table(spec)


def test_a_network_of_which_the_table_says_nothing_is_counted_all_the_same(capsys):
    assert main(["--base_models", "demo_convnext"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("demo_convnext: frozen 0.0") and "table" not in said
