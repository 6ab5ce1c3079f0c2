"""The networks of a grader in PyTorch, as the evaluation runs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.grading.networks import Said
from common.models.ovo import chunk_size
from common.pixels.preprocessing import Preprocessing
from common.result_dir.run import Run
from common.system.device import to_device
from common.trained_networks.loading import LoadedModel, load_model
from common.trained_networks.outputs import probabilities_of
from common.trained_networks.running import move_to, predict_pixels


@dataclass(frozen=True)
class TorchModel:
    """A model on its device, and which views of a picture are averaged."""

    run: Run
    loaded: LoadedModel
    tta: str  # one of `config.VIEWS`


@dataclass(frozen=True)
class TorchNetworks:
    """The networks of all models; see `networks.Networks`."""

    models: tuple[TorchModel, ...]
    device: torch.device
    precision: str

    @property
    def preprocessings(self) -> Sequence[Preprocessing]:
        """The pixels that each model sees."""
        return [model.loaded.preprocessing for model in self.models]

    @property
    def chunk(self) -> int:
        """How many pictures are shown at a time: as many as in an evaluation."""
        return chunk_size(self.device)

    @property
    def fingerprints(self) -> list[str]:
        """The fingerprint of each model's files."""
        return [model.loaded.fingerprint for model in self.models]

    def say(self, pixels: Sequence[np.ndarray]) -> Said:
        """Look at a chunk of pictures, (N, S, S, 3) uint8 for each model.

        Raises InputError where a network gives values that are not finite.
        """
        pairs, features = [], []
        for model, own in zip(self.models, pixels, strict=True):
            found = predict_pixels(
                model.loaded,
                to_device(torch.from_numpy(own), self.device),
                self.device,
                self.precision,
                model.tta,
            )
            pairs.append(probabilities_of(found.logits, model.run))
            features.append(found.features)
        return Said(tuple(pairs), tuple(features))


def build_torch_networks(
    runs: Sequence[Run], tta: Sequence[str], device: torch.device, precision: str
) -> TorchNetworks:
    """Load the models of result directories; tta: the views that each averages."""
    models = []
    for run, views in zip(runs, tta, strict=True):
        loaded = load_model(run)
        move_to(loaded, device)
        models.append(TorchModel(run, loaded, views))
    return TorchNetworks(tuple(models), device, precision)
