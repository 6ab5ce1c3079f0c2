"""Learning-rate schedules as pure functions of the optimiser step, and what they cannot reach."""

import math

from common.config import LAST, TrainConfig


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


def plateau_patience(config: TrainConfig) -> int:
    """Return how many validations without gain halve the rate: a third of --patience."""
    return max(1, config.patience // 3)


def schedule_line(config: TrainConfig) -> str:
    """Say in one line how the learning rate moves, and when a classifier may stop early."""
    rate, epochs = config.learning_rate, config.epochs
    decay = {
        "cosine": f"then cosine to {config.min_lr:g}",
        "linear": f"then linear to {config.min_lr:g}",
        "plateau": f"halved after {plateau_patience(config)} validations without gain",
        "none": "then constant",
    }[config.scheduler]
    stop = f"stops after {config.patience} validations without gain"
    if config.monitor == LAST:
        stop = "keeps the last epoch's weights, without early stopping (--patience and --min_delta "
        stop += "have no effect)"
    elif _validations(config) <= config.patience:
        stop += f", which {epochs} {_plural('epoch', epochs)} cannot hold"
    warmup = f"{config.warmup_epochs} of {epochs} epochs of warm-up" * (config.warmup_epochs > 0)
    if config.warmup_epochs > epochs:
        warmup = f"warm-up over {config.warmup_epochs} epochs, longer than the run"
    return f"learning rate: {', '.join(filter(None, (warmup, f'{rate:g}', decay)))}; {stop}"


def schedule_warnings(config: TrainConfig) -> list[str]:
    """Say what of the schedule cannot happen within the run, each in one sentence with a remedy.

    Epochs decide, not steps: the warm-up of every pair, however small, is as many epochs of its
    own steps, and a step is a whole effective batch.
    """
    rate, epochs, warmup = config.learning_rate, config.epochs, config.warmup_epochs
    first_stop = (config.patience + 1) * config.validation_frequency
    warnings = []
    if warmup > epochs:
        warnings.append(
            f"warning: --warmup_epochs {warmup} is longer than the {epochs} "
            f"{_plural('epoch', epochs)} of the run: the learning rate reaches "
            f"{rate * epochs / warmup:.3g}, never {rate:g}; set --warmup_epochs "
            f"{_suggestion(epochs)}"
        )
    elif warmup == epochs:
        warnings.append(
            f"warning: --warmup_epochs {warmup} is as long as the run: the learning rate reaches "
            f"{rate:g} in the last step only, and never decays; set --warmup_epochs "
            f"{_suggestion(epochs)}"
        )
    elif first_stop < warmup and config.monitor != LAST:
        warnings.append(
            f"warning: a classifier without gain stops after epoch {first_stop} (--patience "
            f"{config.patience}), within the warm-up of {warmup} epochs, at a learning rate of "
            f"{rate * first_stop / warmup:.3g}, not {rate:g}; set --warmup_epochs "
            f"{_suggestion(first_stop)}, or a larger --patience"
        )
    fastest = rate * max(1.0, config.head_lr_factor)
    if fastest >= 1:
        warnings.append(
            f"warning: the learning rate is up to {fastest:g} (--learning_rate times "
            "--head_lr_factor), and AdamW moves each weight by about as much in a step, so that "
            "nothing is learned; set smaller ones"
        )
    waits = plateau_patience(config)
    if config.scheduler == "plateau" and _validations(config, before_the_last=True) <= waits:
        warnings.append(
            f"warning: --scheduler plateau never lowers the learning rate within {epochs} "
            f"{_plural('epoch', epochs)}: it waits for {waits} validations without gain, a third "
            "of --patience; set a smaller --patience, or --scheduler cosine"
        )
    return warnings


def _validations(config: TrainConfig, before_the_last: bool = False) -> int:
    """Count the validations of a run, the last epoch's among them or not."""
    if before_the_last:
        return (config.epochs - 1) // config.validation_frequency
    return -(-config.epochs // config.validation_frequency)


def _suggestion(epochs: int) -> int:
    """Return a tenth of these epochs, what the guide's 10 of 100 are."""
    return epochs // 10


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
