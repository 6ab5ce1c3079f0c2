"""Focal loss with class weights and label smoothing, one value per sample.

N samples, K classes, P pairs of them.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from common.pairs import Head, Pair


def binary_focal_loss(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    gamma: float,
    alpha: float,
    label_smoothing: float,
) -> Tensor:
    """Compute alpha * w_y * (1 - p_t)^gamma * BCE(z, smoothed target) for each sample.

    logits (N,) float; targets (N,) integer 0 or 1; class_weights (2,) float, w_0 and w_1. Of more
    dimensions, the weights are (..., 2) for each logit.
    `alpha` is a plain factor; gamma = 0 and alpha = 1 leave weighted cross-entropy. The smoothed
    target is t (1 - s) + s / 2; p_t is the probability of the true class, unsmoothed. Returns (N,)
    float32. Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 5.
    """
    logits = logits.float()
    hard = targets.to(logits.dtype)
    smoothed = hard * (1 - label_smoothing) + label_smoothing / 2
    cross_entropy = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    # (1 - p_t)^gamma through its logarithm: finite gradients however sure the classifier is
    log_miss = F.logsigmoid(logits * (1 - 2 * hard))
    weights = torch.where(targets.bool(), class_weights[..., 1], class_weights[..., 0])
    return alpha * weights * torch.exp(gamma * log_miss) * cross_entropy


@functools.cache
def own_pairs(pairs: tuple[Pair, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """List for each class the pairs that it belongs to, and in which of them it is the second.

    pairs (P,): all of K classes. Returns columns (K, K - 1) int64 and targets (K, K - 1) of 0, 1.
    """
    classes = range(pairs[-1][1] + 1)
    columns = [[n for n, pair in enumerate(pairs) if k in pair] for k in classes]
    targets = [[int(k == pairs[n][1]) for n in own] for k, own in zip(classes, columns)]
    return torch.tensor(columns, device=device), torch.tensor(targets, device=device)


def shared_focal_loss(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    pairs: tuple[Pair, ...],
    gamma: float,
    alpha: float,
    label_smoothing: float,
) -> Tensor:
    """Average for each sample the `binary_focal_loss` of the K - 1 pairs that its class belongs to.

    logits (N, P) of one network with an output for each of `pairs`; targets (N,) integer 0..K-1;
    class_weights (P, 2) of each pair. What other pairs say of a sample costs nothing. Returns (N,)
    float32. After Pawara et al. 2020, "One-vs-One classification for deep neural networks".
    """
    columns, is_second = own_pairs(pairs, logits.device)
    own = columns[targets]  # (N, K - 1)
    losses = binary_focal_loss(
        logits.gather(1, own),
        is_second[targets],
        class_weights[own],
        gamma,
        alpha,
        label_smoothing,
    )
    return losses.mean(1)


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    gamma: float,
    alpha: float,
    label_smoothing: float,
) -> Tensor:
    """Compute alpha * w_y * (1 - p_t)^gamma * CE(z, smoothed target) for each sample.

    logits (N,) of a binary classifier, see `binary_focal_loss`, or (N, K) of a softmax head, whose
    targets (N,) are 0..K-1, class_weights (K,), smoothed target t (1 - s) + s / K.
    """
    if logits.ndim == 1:
        return binary_focal_loss(logits, targets, class_weights, gamma, alpha, label_smoothing)
    logits = logits.float()
    cross_entropy = F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=label_smoothing
    )
    log_p = F.log_softmax(logits, dim=1)
    others = log_p.masked_fill(F.one_hot(targets, logits.shape[1]).bool(), -torch.inf)
    log_miss = torch.logsumexp(others, dim=1)  # ln(1 - p_t), exact where p_t is close to 1
    return alpha * class_weights[targets] * torch.exp(gamma * log_miss) * cross_entropy


def moved_by(head: Head, class_weights: Tensor) -> Tensor:
    """Say how far class weights move the logits of a head that learns with them.

    class_weights as in `sample_losses`; returns one value for each output (1,), (P,) or (K,): ln of
    w_1 / w_0 of each pair, or ln w_c of a softmax. A pair that learns from n_0 and n_1 images adds
    ln(w_1 n_1 / (w_0 n_0)) to what an image says; less this, ln(n_1 / n_0), as without weights.
    Source: King & Zeng 2001, "Logistic regression in rare events data", prior correction.
    """
    logs = class_weights.log()
    return logs if head.kind == "softmax" else (logs[..., 1] - logs[..., 0]).reshape(-1)


def balanced_class_weights(counts: list[int]) -> list[float]:
    """Weigh K classes by n / (K n_c), so that each class has the same total weight.

    counts (K,) of training images, each positive; raises ValueError for an empty class.
    """
    if min(counts) < 1:
        raise ValueError(f"expected at least one image of each class, found counts {counts}")
    return [sum(counts) / (len(counts) * count) for count in counts]
