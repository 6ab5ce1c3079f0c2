"""Write a dataset and models with stored predictions, as large as asked, to time what reads them.

The classifiers are tiny and hardly trained: what is stored of the images is drawn. The models agree
with each other as much as networks do that were trained on the same photographs.
"""

from pathlib import Path

import cv2
import numpy as np

import train_ovo
from common.data.class_names import GRADES
from common.data.folders import Split, scan_dataset
from common.fitting.ensemble import apply_vote
from common.prediction.classes import classes_of
from common.prediction.predictions import Cost, Origin, PairPredictions, save_predictions
from common.result_dir.paths import ResultDir
from common.result_dir.run import Run, find_run
from common.system.random_streams import random_generator
from common.trained_networks.loading import fingerprint_files
from common.trained_networks.outputs import pair_probabilities

SIZE = 32  # pixels: none is looked at but by the networks of the worst mistakes
_SHARES = {"train": 0.02, "val": 0.2, "test": 1.0}  # of the images that are asked for
_TRUTH, _SHARED, _OWN = 3.0, 1.2, 0.7  # how much of a logit a grade, an image and a model decide


def write_dataset_and_models(root: Path, images: int, models: int) -> list[Path]:
    """Write root/dataset with `images` to test and trained models; returns their directories."""
    dataset = root / "dataset"
    for name, share in _SHARES.items():
        _write_pictures(dataset / name, max(2 * GRADES, round(images * share)))
    directories = [root / f"model_{number}" for number in range(models)]
    for number, directory in enumerate(directories):
        words = f"--base_models demo_convnext --no_pretrained --epochs 1 --seed {number}"
        words += " --batch_size 8 --gradient_accumulation_steps 1 --device cpu --precision fp32"
        places = {"dataset_path": dataset, "output_dir": directory, "cache_dir": root / "cache"}
        given = [word for name, place in places.items() for word in (f"--{name}", str(place))]
        if train_ovo.main([*words.split(), *given]):
            raise RuntimeError(f"{directory}: the training failed")
    found = scan_dataset(dataset)
    for name in ("val", "test"):
        split = found.split(name)
        for number, directory in enumerate(directories):
            store_predictions(find_run(ResultDir(directory)), split, number)
    return directories


def _write_pictures(folder: Path, count: int) -> None:
    """Write pictures of noise of five grades: drawing eyes takes longer than all that is timed."""
    generator = random_generator("noise", 0, folder.name)
    for number in range(count):
        place = folder / str(number % GRADES)
        place.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(place / f"{folder.name}_{number:06d}.png"), noise)


def store_predictions(run: Run, split: Split, number: int) -> None:
    """Store drawn predictions of a split as those of a model."""
    shape = (len(split), run.num_classes)
    of_images = random_generator("stored predictions", 0, split.name).normal(0, 1, shape)
    own = random_generator("stored predictions", 1 + number, split.name).normal(0, 1, shape)
    near = -np.abs(split.labels[:, None] - np.arange(run.num_classes))  # of the true grade
    logits = _TRUTH / 2 * near + _SHARED * of_images + _OWN * own
    pairs = pair_probabilities(logits, "softmax")
    origin = Origin(
        fingerprint_files(run.files),
        split.fingerprint(with_times=True),
        split.fingerprint(),
        "fp32",
    )
    found = PairPredictions(
        model=run.model,
        head=run.head,
        class_names=list(run.names),
        ids=np.array(split.ids),
        targets=split.labels,
        pair_probabilities=pairs,
        pair_accuracies=np.full(pairs.shape[1], 0.9),
        cost=Cost(10**6, 1.0, 100.0, "cpu"),
        origin=origin,
        scored=classes_of(run.names),
    )
    voted = apply_vote(run.model, found, "coupling")
    save_predictions(run.directory.predictions(split.name), found, voted.classes, voted.vote)
