"""The readable report of an evaluation: one HTML file with everything in it."""

from typing import Any

import numpy as np

from common.data.folders import Split
from common.evaluation.gates import PASS, RULE, Gate, rating
from common.prediction.predictions import PairPredictions
from common.prediction.voting import ClassPredictions
from common.reporting import page as html
from common.result_dir import ResultDir
from common.system.environment import versions
from common.system.files import write_text
from common.system.log import utc_now

_MISTAKES = 12


_WORDS = (
    ("accuracy", "share of images graded right; balanced: the mean over the grades' recalls"),
    ("recall, sensitivity", "of the images of a grade, or of referable ones, the share found"),
    ("specificity", "of the images that need no referral, the share not referred"),
    ("referable (ref.)", "grade 2 or worse"),
    ("kappa", "agreement beyond chance, large mistakes weighing more (quadratic); 1 is best"),
    ("AUC", "chance that a case ranks above another image; macro: mean over grades; 0.5: a coin"),
    ("ECE, Brier", "how far stated confidence is from how often it is right; 0 is best"),
    (
        "coupling, soft, hard, weighted",
        "ways to turn ten comparisons of two grades into one grade; "
        "tempered, calibrated: after scaling confidence on validation images",
    ),
    ("McNemar", "test whether two models differ on the images that only one of them gets right"),
    ("interval [a, b]", "where the value would lie in 95 % of samples like this one"),
)


_LIMITS = (
    "Research software: no medical device, no claim of regulatory clearance. The figures hold for "
    "photographs like these, from these cameras and patients, graded by these graders; elsewhere "
    "they must be measured again. Intervals tell the chance of sampling, not a bias of the set: a "
    "set balanced by copies, or one that shares patients with training, flatters. The software "
    "grades diabetic retinopathy only and sees neither macular oedema nor other diseases. "
    "Confidence is that of the model, not of a physician."
)


def worst_mistakes(targets: np.ndarray, classes: ClassPredictions) -> np.ndarray:
    """List the wrong predictions: farthest from the true grade first, then the most confident.

    targets (N,). Returns at most 12 indices.
    """
    distance = np.abs(targets - classes.predicted)
    confidence = classes.probabilities[np.arange(len(targets)), classes.predicted]
    order = np.lexsort((-confidence, -distance))
    return order[: min(_MISTAKES, int((distance > 0).sum()))]


def write_report(
    directory: ResultDir,
    split: Split,
    content: dict[str, Any],
    tables: list[str],
    details: list[str],
    gates: list[Gate],
    found: PairPredictions,
    classes: ClassPredictions,
    gate_table: str,
) -> None:
    """Write report.html: what was tested on what, results, pictures, mistakes, gates, limits.

    content: of metrics_<split>.json; tables: text tables, details: those of an ensemble's members;
    classes: what was predicted for the images of `found`, in the split's order.
    """
    names = content["class_names"]
    what = ", ".join(content.get("members", [content["model"]]))
    counts = ", ".join(f"{n} of grade {g}" for g, n in zip(names, content["images_per_grade"]))
    missed = sum(gate.status != PASS for gate in gates)
    parts = [
        html.paragraph(
            f"Tested: {what}. On: {content['images']} images of {content['dataset_path']}, split "
            f"{split.name} ({counts}). Intervals: 95 %, bootstrap over "
            f"{content['bootstrap']['units']}. From pairs to grades: {content['vote']}. "
            f"Written {utc_now()}, PyTorch {versions()['torch']}."
        ),
        html.paragraph(
            f"Grade by the gates below: {rating(gates)}; {missed} of {len(gates)} gates were "
            "failed or not measured.",
            note=True,
        ),
        html.heading("Results"),
        *map(_text, tables),
        html.heading("Confusion, ROC curves and calibration"),
        *(
            html.picture(directory.figure(f"{kind}_{split.name}"), f"{kind} on {split.name}")
            for kind in ("confusion", "roc", "reliability")
        ),
        html.heading("Worst mistakes"),
        *_mistakes(split, names, found.targets, classes),
        html.heading("Gates"),
        html.preformatted(gate_table),
        html.paragraph(RULE),
        html.heading("Words"),
        *(html.paragraph(f"{word}: {meaning}.") for word, meaning in _WORDS),
        html.heading("Limits of use"),
        html.paragraph(_LIMITS, note=True),
        *([html.heading("Each model"), *map(_text, details)] if details else []),
    ]
    title = f"Diabetic-retinopathy grading: {what}{content['synthetic']}"
    write_text(directory.report, html.page(title, parts))


def _text(table: str) -> str:
    return html.preformatted(table) if "\n" in table else html.paragraph(table)


def _mistakes(
    split: Split,
    names: list[str],
    targets: np.ndarray,
    classes: ClassPredictions,
) -> list[str]:
    shown = []
    for index in worst_mistakes(targets, classes):
        true, called = names[targets[index]], names[classes.predicted[index]]
        confidence = 100 * classes.probabilities[index, classes.predicted[index]]
        caption = f"{true} called {called} ({confidence:.0f} %): {split.ids[index]}"
        shown.append(html.thumbnail(split.paths[index], caption))
    return shown or [html.paragraph("There is none.")]
