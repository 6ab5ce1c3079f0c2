"""Learning-rate schedules as pure functions of the optimiser step."""

import math


def lr_factor(
    step: int, total_steps: int, warmup_steps: int, scheduler: str, min_factor: float
) -> float:
    """Return the factor of the peak learning rate at an optimiser step, counted from 0.

    Linear warm-up reaches 1 after `warmup_steps`; then cosine (Loshchilov & Hutter 2017, eq. 5) or
    linear decay reaches `min_factor` at the last of `total_steps`. "plateau" and "none" stay at 1
    (`plateau_factor` says what a plateau takes off).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if scheduler in ("plateau", "none"):
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps))
    decay = (1 + math.cos(math.pi * progress)) / 2 if scheduler == "cosine" else 1 - progress
    return min_factor + (1 - min_factor) * decay


def plateau_factor(scores: list[float], patience: int, min_delta: float) -> float:
    """Halve the factor each time `patience` validations in a row bring no better score.

    scores: one per validation so far, higher is better.
    """
    factor, best, waited = 1.0, -math.inf, 0
    for score in scores:
        if score > best + min_delta:
            best, waited = score, 0
        else:
            waited += 1
        if waited >= patience:
            factor, waited = factor / 2, 0
    return factor
