"""The guide's recipe as one would first write it: the yardstick for speed, not for use.

One full model per pair, each with its own DataLoader that decodes, crops, equalises (CLAHE),
resizes and augments every image anew; batches of two, accumulated four times; fp32. Evaluation runs
ten full networks on every image. What is learned is the same as in `common.training`.

N images, S pixels.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from common.architectures import Architecture
from common.config import TrainConfig
from common.models.pretrained import create_network
from common.pairs import Pair
from common.pixels.preprocessing import Preprocessing, load_pixels

EVAL_BATCH = 8


class ReferenceClassifier(nn.Module):
    """A network of timm or torchvision with dropout and one logit; (N, 3, S, S) to (N,)."""

    def __init__(self, spec: Architecture, img_size: int, dropout: float) -> None:
        super().__init__()
        self.backbone = create_network(spec, img_size, pretrained=False)
        with torch.no_grad():
            width = self.backbone.eval()(torch.zeros(1, 3, img_size, img_size)).shape[1]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.dropout(self.backbone(pixels))).squeeze(1)

    def freeze(self, keys: set[str]) -> None:
        """Freeze the backbone's parameters of these names."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name not in keys)


class PairImages(Dataset):
    """The images of a pair's two classes, decoded and augmented one at a time."""

    def __init__(
        self,
        paths: list[Path],
        labels: np.ndarray,
        pair: Pair | None,
        preprocessing: Preprocessing,
        config: TrainConfig | None,
    ) -> None:
        """config: with the ranges of augmentation; None for evaluation. pair: None for all."""
        keep = np.arange(len(labels)) if pair is None else np.flatnonzero(np.isin(labels, pair))
        self.paths = [paths[i] for i in keep]
        self.targets = (labels[keep] == pair[1]).astype(np.float32) if pair else labels[keep]
        self.preprocessing = preprocessing
        steps: list[nn.Module] = []
        if config is not None:
            steps = [
                v2.RandomRotation(config.rotation_range, v2.InterpolationMode.BILINEAR),
                v2.ColorJitter(config.brightness_range, config.contrast_range),
            ]
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                *steps,
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        pixels = load_pixels(self.paths[index], self.preprocessing).copy()  # torch wants its own
        return self.transform(pixels), self.targets[index]


def loader(images: PairImages, batch: int, shuffle: bool, workers: int) -> DataLoader:
    """Make the DataLoader of a pair or of an evaluation, whose workers stay between epochs."""
    return DataLoader(
        images, batch, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0
    )


def focal_loss(logits: Tensor, targets: Tensor, weights: Tensor, config: TrainConfig) -> Tensor:
    """Return the mean focal loss of a batch, smoothed and weighted; all (N,)."""
    smoothed = targets * (1 - config.label_smoothing) + config.label_smoothing / 2
    p = torch.sigmoid(logits)
    p_t = torch.where(targets > 0.5, p, 1 - p)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    w = torch.where(targets > 0.5, weights[1], weights[0])
    focus = (1 - p_t) ** config.focal_loss_gamma
    return (config.focal_loss_alpha * w * focus * cross_entropy).mean()


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW without decay on norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def train(
    model: ReferenceClassifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    weights: Tensor,
    config: TrainConfig,
    device: torch.device,
) -> tuple[int, list[float]]:
    """Train on batches of `batch_size`, one step per `gradient_accumulation_steps` of them.

    Returns the number of samples and each step's loss. The networks stay in evaluation mode, as
    pretrained ones do in `common.training`; dropout is that of the module.
    """
    model.dropout.train()
    samples, losses, loss_sum = 0, [], 0.0
    for number, (pixels, targets) in enumerate(batches, 1):
        logits = model(pixels.to(device))
        loss = focal_loss(logits, targets.to(device), weights, config)
        (loss / config.gradient_accumulation_steps).backward()
        loss_sum += loss.item()
        samples += len(targets)
        if number % config.gradient_accumulation_steps == 0:
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss_sum / config.gradient_accumulation_steps)
            loss_sum = 0.0
    return samples, losses


@torch.no_grad()
def evaluate(models: Sequence[nn.Module], batches: DataLoader, device: torch.device) -> np.ndarray:
    """Run every model on every image; returns logits (N, P)."""
    found = []
    for pixels, _ in batches:
        pixels = pixels.to(device)
        found.append(torch.stack([model.eval()(pixels) for model in models], dim=1).cpu())
    return torch.cat(found).numpy()
