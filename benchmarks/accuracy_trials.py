"""Train as train_ovo.py does, with one change that the product does not have.

    python -m benchmarks.accuracy_trials l2_sp --base_models ... (flags of train_ovo.py)

`accuracy.py --ablation` calls it to find out whether such a change would be worth a flag. Each
change draws from what is the same in a run that was interrupted, so that one can be gone on with.

B samples of an effective batch, K grades, P pairs.
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import train_ovo
from common.config import TrainConfig
from common.data.sampler import HeadBatch
from common.pairs import Head
from common.system.device import autocast
from common.system.random_streams import random_generator
from common.training import loop, step
from common.training.context import TrainContext
from common.training.loss import own_pairs
from common.training.trainer import HeadTrainer

L2_SP = 5.0  # a step's pull, over its learning rate; about half of the way back in 250 steps
MIXUP = 0.2  # both parameters of the beta distribution
PSEUDO = 0.3  # of the loss, that of the pairs which an image does not belong to
DISTILLED = 0.5  # of the loss, that against the average's answers


def hold_to_the_pretrained_weights() -> None:
    """Pull the stages back to where they started, by a share of the distance at each step.

    L2-SP (Li, Grandvalet & Davoine 2018, eq. 2), apart from the gradient as AdamW's decay is.
    """
    build, update = loop.build_trainer, step.update
    start: dict[str, list[Tensor]] = {}

    def stages(one: HeadTrainer) -> list[Tensor]:
        return list(one.branch.stages.parameters())

    def build_and_note(context: TrainContext, head: Head) -> HeadTrainer:
        built = build(context, head)
        start[head.name] = [weight.detach().clone() for weight in stages(built)]
        return built

    def update_and_pull(
        config: TrainConfig, trainer: HeadTrainer, found: step.BatchSums, size: int
    ) -> None:
        update(config, trainer, found, size)
        pull = min(1.0, L2_SP * trainer.sums.learning_rate)
        with torch.no_grad():
            for weight, before in zip(stages(trainer), start[trainer.head.name], strict=True):
                weight.lerp_(before, pull)

    loop.build_trainer, step.update = build_and_note, update_and_pull


def mix_samples() -> None:
    """Mix each sample of a batch with another one, and its loss likewise (Zhang et al. 2018)."""
    forward, losses = step.forward, step.sample_losses
    drawn: list[tuple[float, Tensor]] = []  # the share of a sample itself, and its partners (B,)

    def mixed_forward(context: TrainContext, launch: list[step.Batch]) -> list[Tensor]:
        (batch,) = launch
        one = batch.trainer
        generator = random_generator("mixup", context.config.seed, one.step, *one.head.classes)
        share = float(generator.beta(MIXUP, MIXUP))
        partners = torch.from_numpy(generator.permutation(len(batch.targets)))
        drawn[:] = [(share, partners)]
        features = share * batch.features + (1 - share) * batch.features[partners]
        return forward(context, [step.Batch(one, features, batch.targets, batch.mask)])

    def mixed_losses(
        config: TrainConfig, head: Head, class_weights: Tensor, logits: Tensor, targets: Tensor
    ) -> Tensor:
        share, partners = drawn[0]
        own = losses(config, head, class_weights, logits, targets)
        others = losses(config, head, class_weights, logits, targets[partners])
        return share * own + (1 - share) * others

    step.forward, step.sample_losses = mixed_forward, mixed_losses  # validation has its own


def ask_pairs_of_others() -> None:
    """Let an image teach the pairs of other grades, too: 0 below both, 1 above, a share between.

    Of a grade y the pair (a, b) shall say (y - a) / (b - a), within 0 and 1: grades are in order.
    """
    losses = step.sample_losses

    def ordinal_losses(
        config: TrainConfig, head: Head, class_weights: Tensor, logits: Tensor, targets: Tensor
    ) -> Tensor:
        first, second = torch.tensor(head.pairs, device=targets.device).T  # (P,) each
        said = targets[:, None]  # (B, 1)
        shares = ((said - first) / (second - first)).clamp(0, 1)  # (B, P)
        found = F.binary_cross_entropy_with_logits(logits.float(), shares, reduction="none")
        others = (said != first) & (said != second)
        pseudo = (found * others).sum(1) / others.sum(1)
        own = losses(config, head, class_weights, logits, targets)
        return (1 - PSEUDO) * own + PSEUDO * pseudo

    step.sample_losses = ordinal_losses


def learn_from_the_average() -> None:
    """Learn also what the average of the weights so far says, from a third of the steps on.

    Needs --ema_decay. After Tarvainen & Valpola 2017, with all images labelled.
    """
    forward, losses = step.forward, step.sample_losses
    said: list[Tensor] = []  # by the average, (B, P); empty where it is too young

    def forward_and_ask(context: TrainContext, launch: list[step.Batch]) -> list[Tensor]:
        (batch,) = launch
        one, said[:] = batch.trainer, []
        assert one.average is not None, "--ema_decay"
        if one.step > context.config.epochs * one.steps_per_epoch / 3:
            with torch.no_grad(), autocast(context.device, context.precision):
                said.append(one.average(batch.features).float())
        return forward(context, launch)

    def distilled_losses(
        config: TrainConfig, head: Head, class_weights: Tensor, logits: Tensor, targets: Tensor
    ) -> Tensor:
        own = losses(config, head, class_weights, logits, targets)
        if not said:
            return own
        columns, _ = own_pairs(head.pairs, logits.device)
        [theirs], mine = said, columns[targets]  # (B, P), (B, K - 1)
        found = F.binary_cross_entropy_with_logits(
            logits.float().gather(1, mine), theirs.gather(1, mine).sigmoid(), reduction="none"
        )
        return (1 - DISTILLED) * own + DISTILLED * found.mean(1)

    step.forward, step.sample_losses = forward_and_ask, distilled_losses


def draw_balanced(power: float) -> None:
    """Draw an epoch's images again and again, rare grades oftener, in place of weighing the loss.

    power: 1 gives each grade the same number of places; 0.5 the square root of that.
    """
    pair_batches = loop.pair_batches

    def balanced(
        order: np.ndarray,
        labels: np.ndarray,
        heads: list[Head],
        batch: int,
        chunk: int,
        features_of: Callable[[np.ndarray], Tensor],
    ) -> Iterator[HeadBatch]:
        if torch.is_grad_enabled():  # it is training, not validation
            weights = np.bincount(labels)[labels] ** -power
            generator = np.random.default_rng(order)  # of this seed and epoch
            order = generator.choice(len(labels), len(order), p=weights / weights.sum())
        return pair_batches(order, labels, heads, batch, chunk, features_of)

    loop.pair_batches = balanced


TRIALS: dict[str, Callable[[], None]] = {
    "l2_sp": hold_to_the_pretrained_weights,
    "mixup": mix_samples,
    "pseudo_pairs": ask_pairs_of_others,
    "self_distillation": learn_from_the_average,
    "balanced": lambda: draw_balanced(1.0),
    "half_balanced": lambda: draw_balanced(0.5),
}

if __name__ == "__main__":
    TRIALS[sys.argv[1]]()
    sys.exit(train_ovo.main(sys.argv[2:]))
