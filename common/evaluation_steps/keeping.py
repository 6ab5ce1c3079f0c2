"""Keep what scripts after the evaluation take up: answers, graders, looks at training pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.data.folders import Split
from common.evaluation.outcome import Outcome
from common.evaluation.questions import Answers, Asked
from common.evaluation_steps.models import Model
from common.fitting.sources import Trained
from common.grading.earlier_evaluations import store_grader
from common.reporting.contact_sheets import label_error_sheet
from common.reporting.weakness_tables import label_errors_table
from common.result_dir.paths import ResultDir
from common.result_dir.review_sheet import update_review_sheet
from common.system.files import read_json, write_json
from common.system.log import log

if TYPE_CHECKING:  # takes seconds to import: steps that need it do it
    from common.prediction.predict import PredictionConfig


def store_answers(answers: Answers, output: ResultDir, images: Split) -> None:
    """Store the answers of the final grader beside its figures."""
    path, sheet = output.metrics(images.name), output.figure(f"label_errors_{images.name}")
    sheet.unlink(missing_ok=True)  # of an earlier evaluation
    if answers.label_errors is not None:
        label_error_sheet(answers.label_errors, images, sheet)
        listed = label_errors_table(answers.label_errors).to_csv()
        for line in update_review_sheet(output, images.name, *listed):
            log(line)
    write_json(path, read_json(path) | {"screening": answers.to_json()})


def store_graders(
    models: Sequence[Model], final: Outcome, asked: Asked, dataset_path: str
) -> list[str]:
    """Store all that was chosen, of each model and of their ensemble, for new pictures.

    Returns what is to be said of it.
    """
    several = [(models, final)] if len(models) > 1 else []
    remarks = []
    for own, outcome in [*(([model], model.outcome) for model in models), *several]:
        remarks += store_grader(
            outcome,
            [model.result for model in own],
            [model.run.directory.root for model in own],
            asked,
            dataset_path,
            in_ensemble=outcome is not final,
        )
    return remarks


def keep_references(
    models: Sequence[Model], trained: Sequence[Trained], config: "PredictionConfig", most: int
) -> list[str]:
    """Keep with each model what its training pictures look like; says of whom it is not known.

    most: pictures of train, and of val, that are looked at.
    """
    from common.doubts.training_pictures import keep_reference

    remarks = []
    for model, own in zip(models, trained):
        why_not = keep_reference(own, model.checkpoints, config, most)
        if why_not:
            remarks.append(
                f"note: {model.label}: new pictures cannot be compared with its training pictures: "
                f"{why_not}"
            )
    return remarks
