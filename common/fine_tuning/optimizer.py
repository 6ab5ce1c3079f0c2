"""AdamW for a branch: what decays, and how fast each part of the network learns."""

from typing import Any

import torch
from torch import nn

from common.config import TrainConfig
from common.models.backbones import is_stage, stages_above
from common.models.ovo import Branch
from common.system.errors import InputError

CLASSIFIER = "classifier"


def part_rates(stages: nn.Sequential, config: TrainConfig) -> dict[str, float]:
    """Return for each part that is trained its factor of the learning rate.

    The classifier has --head_lr_factor, a stage --layer_decay to the power of how many stages lie
    between it and the classifier (Clark et al. 2020, "ELECTRA", appendix; Bao et al. 2022, "BEiT").
    Raises InputError where there are no stages to tell apart.
    """
    trained = [
        name for name, part in stages.named_children() if any(True for _ in part.parameters())
    ]
    rates = dict.fromkeys(trained, 1.0)
    if config.layer_decay != 1:
        above = stages_above(stages)
        if not any(above[name] for name in trained):
            parts = dict(stages.named_children())
            found = [name.replace(":", ".") for name in trained if is_stage(name, parts[name])]
            one = f"only {found[0]}" if found else "none"
            if trained == ["network"]:
                one = "a network that is no chain of them"
            raise InputError(
                f"--layer_decay {config.layer_decay:g}: expected several stages that are trained, "
                f"found {one}; leave the flag out"
            )
        rates = {name: config.layer_decay ** above[name] for name in trained}
    return {**rates, CLASSIFIER: config.head_lr_factor}


def rates_line(stages: nn.Sequential, config: TrainConfig) -> str:
    """Say which parts learn at another rate; "" where all learn alike."""
    rates = {name: rate for name, rate in part_rates(stages, config).items() if rate != 1}
    shown = ", ".join(f"{name.replace(':', '.')} {rate:.3g}" for name, rate in rates.items())
    return f"factors of the learning rate: {shown}; 1 elsewhere" if rates else ""


def make_optimizer(branch: Branch, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW that decays matrices and kernels but not norms, biases and other vectors.

    Each group has the factor of its learning rate as "lr_scale" and its parameters as "names".
    """
    rates = part_rates(branch.stages, config)
    parameters = {name: p for name, p in branch.named_parameters() if p.requires_grad}
    rate_of = {name: rates[_part(name)] for name in parameters}
    groups: list[dict[str, Any]] = []
    for rate in dict.fromkeys(rate_of.values()):
        for decays in (True, False):
            names = [
                n for n, p in parameters.items() if rate_of[n] == rate and decays == (p.ndim > 1)
            ]
            groups.append(
                {
                    "params": [parameters[name] for name in names],
                    "weight_decay": config.weight_decay if decays else 0.0,
                    "lr_scale": rate,
                    "names": names,
                }
            )
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _part(name: str) -> str:
    """Name the part of a branch that holds a parameter: "stages.blocks:3.0.weight" "blocks:3"."""
    first, second, *_ = name.split(".")
    return second if first == "stages" else CLASSIFIER


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let each group learn at its factor of this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def load_optimizer(optimizer: torch.optim.Optimizer, branch: Branch, saved: dict[str, Any]) -> None:
    """Give each parameter the moments that it had, whatever groups there were.

    All else of the groups stays as it is now, should it have been overridden. saved: a state; the
    groups of one of an earlier release are those that learn alike. Raises ValueError and others on
    a misfit.
    """
    groups = saved["param_groups"]
    named = "names" in groups[0]
    source = groups if named else make_optimizer(branch, TrainConfig()).param_groups
    names = [name for group in source for name in group["names"]]
    places = [place for group in groups for place in group["params"]]
    moments = {
        name: saved["state"][place]
        for name, place in zip(names, places, strict=True)
        if place in saved["state"]
    }
    own = optimizer.state_dict()["param_groups"]
    known = [(name, place) for g in own for name, place in zip(g["names"], g["params"])]
    if {name for name, _ in known} != set(names):
        raise ValueError("moments of other parameters")
    state = {place: moments[name] for name, place in known if name in moments}
    optimizer.load_state_dict({"state": state, "param_groups": own})
