"""One network from several trainings of the same start, by the mean of their weights."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from common.models.checkpoint import load_pair
from common.models.checkpoint_file import save_checkpoint
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run


def average_weights(trained: Sequence[ResultDir], into: ResultDir) -> None:
    """Write a result directory of networks with the mean weights of those that were trained.

    All must have one configuration but for the seed. Model soups: Wortsman et al. 2022, sect. 2,
    the uniform one.
    """
    first, *_ = trained
    into.models.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.config, into.config)
    for file in find_run(first).files:
        networks = [load_pair(one.models / file.name) for one in trained]
        mean = replace(
            networks[0],
            stages=_mean([one.stages for one in networks]),
            classifier=_mean([one.classifier for one in networks]),
        )
        save_checkpoint(into.models / file.name, mean.to_dict())


def _mean(weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    first = weights[0]
    means = {key: torch.stack([one[key].double() for one in weights]).mean(0) for key in first}
    return {key: mean.to(first[key].dtype) for key, mean in means.items()}
