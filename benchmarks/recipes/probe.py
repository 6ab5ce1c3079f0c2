"""A linear One-vs-One classifier on the features of a pretrained network that nothing has trained.

What fine-tuning has to beat: scikit-learn's logistic regression on the pooled features, a pair at a
time. N images, F features, P pairs, K classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from common.config import TrainConfig
from common.data.folders import Split
from common.metrics.calibration_error import negative_log_likelihood
from common.models.backbones import build, preprocessing_for, resolve
from common.models.ovo import chunk_size, trunk_features
from common.pairs import class_pairs
from common.pixel_store.pixel_cache import open_cache
from common.prediction.classes import scored_classes
from common.prediction.predictions import Cost, Origin, PairPredictions
from common.prediction.voting import combine_pairs
from common.system.log import log

STRENGTHS = (0.0001, 0.001, 0.01, 0.1)  # C, among which train alone chooses
_INNER = 5  # folds of train


@dataclass(frozen=True)
class ProbeSetting:
    """What a probe sees, and how its regularisation is chosen."""

    config: TrainConfig  # backbone, weights and pixels
    device: torch.device
    cache: Path
    groups: np.ndarray  # (N,) of train: which images belong together


def ask_probe(train: Split, val: Split, setting: ProbeSetting) -> PairPredictions:
    """Fit on train, with the C that is best within it, and predict val."""
    config = setting.config
    inputs = pooled_features(train, setting)
    strength = choose_strength(inputs, train.labels, setting.groups, config.num_classes)
    log(f"probe of {config.model}: C {strength:g}, by the log loss in {_INNER} folds of train")
    asked = pooled_features(val, setting)
    pairs = pair_probabilities(inputs, train.labels, asked, strength, config.num_classes)
    names = [str(grade) for grade in range(config.num_classes)]
    return PairPredictions(
        model=config.model,
        head="ovo",
        class_names=names,
        ids=np.array(val.ids),
        targets=val.labels,
        pair_probabilities=pairs,
        pair_accuracies=np.full(pairs.shape[1], np.nan),
        cost=Cost(inputs.shape[1], 0.0, 0.0, str(setting.device)),
        origin=Origin("", val.fingerprint(with_times=True), val.fingerprint(), "fp32"),
        scored=scored_classes(names, "", None),
    )


@torch.inference_mode()
def pooled_features(split: Split, setting: ProbeSetting) -> np.ndarray:
    """Return the features (N, F) of the pretrained network, of which nothing freezes."""
    config, device = setting.config, setting.device
    spec = resolve(config.model)
    preprocessing = preprocessing_for(spec, config.pixel_options)
    backbone = build(
        spec,
        preprocessing.img_size,
        config.pretrained,
        config.weights,
        False,
        config.seed,
        pooled_stages=config.pooled_stages,
    )
    stages = backbone.stages.to(device)
    cache = open_cache(split, preprocessing, setting.cache, config.num_workers)
    size = chunk_size(device)
    chunks = [np.arange(i, min(i + size, len(split))) for i in range(0, len(split), size)]
    rows = [trunk_features(stages, cache.read(c), preprocessing, device, "fp32") for c in chunks]
    return torch.cat(rows).cpu().numpy()


def choose_strength(
    inputs: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int
) -> float:
    """Return the C with the least log loss in grouped folds of these images (N, F) alone."""
    likely = np.zeros((len(STRENGTHS), len(labels), num_classes))
    for learned, asked in GroupKFold(_INNER).split(inputs, labels, groups):
        for place, strength in enumerate(STRENGTHS):
            pairs = pair_probabilities(
                inputs[learned], labels[learned], inputs[asked], strength, num_classes
            )
            likely[place, asked] = combine_pairs(pairs, num_classes).probabilities
    losses = [float(negative_log_likelihood(each, labels)) for each in likely]
    return STRENGTHS[int(np.argmin(losses))]


def pair_probabilities(
    inputs: np.ndarray, labels: np.ndarray, asked: np.ndarray, strength: float, num_classes: int
) -> np.ndarray:
    """Fit each pair on inputs (N, F) of its two classes; returns (M, P) for those asked (M, F).

    A pair of which a class has no image is undecided.
    """
    scaler = StandardScaler().fit(inputs)
    inputs, asked, found = scaler.transform(inputs), scaler.transform(asked), []
    for a, b in class_pairs(num_classes):
        own = np.isin(labels, (a, b))
        if len(np.unique(labels[own])) < 2:
            found.append(np.full(len(asked), 0.5))
            continue
        linear = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
        linear.fit(inputs[own], labels[own] == b)
        found.append(linear.predict_proba(asked)[:, 1])
    return np.stack(found, axis=1)
