"""What the rows of a run rest on: for the file beside them, for its page and for the terminal."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.grading.stored_grader import StoredGrader
from common.listing.walking import count_of
from common.new_pictures.answers import REFERABLE, Answers
from common.new_pictures.journal import RunSettings
from common.new_pictures.page import TITLE, RunWords
from common.new_pictures.rows import UNGRADABLE, UNLIKE, RowFormat
from common.prediction.labels import views_text
from common.screening.abstention import MEANINGS
from common.system.environment import versions
from common.system.log import utc_now


@dataclass(frozen=True)
class Arithmetic:
    """What ran the networks, and how."""

    runner: str  # "PyTorch", or the exported file
    device: str
    precision: str
    tta: tuple[str, ...]  # of each model, one of `config.VIEWS`


@dataclass(frozen=True)
class _Deciding:
    """What a run that goes on must have alike, in the order in which it is stored."""

    model: str  # fingerprint of the networks
    runner: str
    device: str
    precision: str
    tta: tuple[str, ...]
    operating_point: str | None
    review_share: float | None
    chosen: str  # fingerprint of what the evaluation chose
    doubts: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _Telling:
    """What a reader of the rows wants to know beside that."""

    images: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    facts: dict[str, str]  # by their names
    warnings: tuple[str, ...]
    begun: str
    versions: dict[str, str]


def settings_of(
    answers: Answers, form: RowFormat, arithmetic: Arithmetic, places: Sequence[str]
) -> RunSettings:
    """Say what rows are made with; a run that goes on must have the first part alike."""
    grader, asked = answers.grader, answers.asked
    review = grader.review.thresholds
    deciding = _Deciding(
        model=grader.fingerprint,
        runner=arithmetic.runner,
        device=arithmetic.device,
        precision=arithmetic.precision,
        tta=arithmetic.tta,
        operating_point=None if asked.point is None else grader.points[asked.point].rule,
        review_share=None if asked.review is None else review[asked.review].share,
        chosen=fingerprint_choices(grader),
        doubts=answers.doubts.fingerprint,
        columns=tuple(form.columns),
    )
    telling = _Telling(
        images=tuple(places),
        label=grader.label,
        classes=tuple(grader.scored.names),
        facts=dict(facts_of(answers, arithmetic)),
        warnings=tuple(warnings_of(answers, arithmetic)),
        begun=utc_now(),
        versions=versions(),
    )
    return RunSettings(deciding, telling)


def fingerprint_choices(grader: StoredGrader) -> str:
    """Hash all that was chosen for a grader; where its models lie does not matter."""
    members = tuple(replace(member, directory=Path()) for member in grader.members)
    text = repr(replace(grader, members=members, dataset_path="", label=""))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def words_of(answers: Answers, arithmetic: Arithmetic, count: int) -> RunWords:
    """Say what the page of a run says as a whole."""
    scored = answers.grader.scored
    return RunWords(
        title=f"{TITLE}: {count_of(count, 'new picture')}",
        class_names=scored.names,
        class_titles=scored.titles,
        facts=facts_of(answers, arithmetic),
        warnings=warnings_of(answers, arithmetic),
        untold=_untold(answers),
    )


def _untold(answers: Answers) -> list[str]:
    """List what nobody can tell of the pictures, since nothing is known to tell it by."""
    told = {
        REFERABLE: answers.asked.point is not None,
        UNGRADABLE: answers.doubts.tells_ungradable,
        UNLIKE: answers.doubts.tells_unlike,
    }
    return [name for name, known in told.items() if not known]


def facts_of(answers: Answers, arithmetic: Arithmetic) -> list[tuple[str, str]]:
    """Say who has graded, and what each decision rests on."""
    grader, asked = answers.grader, answers.asked
    facts = facts_of_grader(grader, arithmetic)
    if len(grader.members) > 1:
        shares = [f"{m.label} {w:.3g}" for m, w in zip(grader.members, grader.weights)]
        facts.append(("Weights", f"{', '.join(shares)} ({grader.weighting})"))
    facts += [
        ("Chosen on", _chosen_on(grader)),
        ("Calibration", grader.calibration_text),
        ("Referable", grader.scored.referable),
    ]
    if asked.point is not None:
        point = grader.points[asked.point]
        if point.rule == "argmax":
            text = "argmax: what is graded as referable, without a threshold"
            text += "".join(
                f"; none was found for {other.rule} ({other.why_none})"
                for other in grader.points
                if other.why_none and other.detection == point.detection
            )
        else:
            text = f"{point.rule}: P(referable) of {point.decision.threshold:.4f} or more"
        facts.append(("Operating point", text))
    threshold = answers.review
    if threshold is not None and not grader.why_not_unsure(threshold):
        facts.append(
            (
                "Unsure",
                f"{MEANINGS[grader.review.measure]} of {threshold.value:.4g} or more: "
                f"{threshold.share:.0%} are to be reviewed, {threshold.where_chosen:.1%} were "
                f"where it was chosen ({grader.review.note})",
            )
        )
    return facts


def facts_of_grader(
    grader: StoredGrader, arithmetic: Arithmetic, of_views: str = ""
) -> list[tuple[str, str]]:
    """Say who has graded, and how that was computed; of_views: more on several views, if any."""
    labels = [member.label for member in grader.members]
    graded_by = grader.label if len(labels) == 1 else f"{grader.label} ({', '.join(labels)})"
    facts = [
        ("Graded by", f"{graded_by}, fingerprint {grader.fingerprint}"),
        ("Computed", f"{arithmetic.runner} on {arithmetic.device}, {arithmetic.precision}"),
    ]
    views = views_text(dict(zip(labels, arithmetic.tta)))
    return [*facts, ("Views", views + of_views)] if views else facts


def warnings_of(answers: Answers, arithmetic: Arithmetic) -> list[str]:
    """Say what is left open, and what differs from the evaluation."""
    grader = answers.grader
    evaluated = tuple(member.tta for member in grader.members)
    found = list(answers.open_questions)
    if grader.evaluated and evaluated != arithmetic.tta:
        found.append(
            f"temperatures and thresholds were chosen with --tta {' '.join(evaluated)}, and the "
            f"pictures are graded with {' '.join(arithmetic.tta)}"
        )
    return found


def _chosen_on(grader: StoredGrader) -> str:
    chosen = grader.chosen_on
    if not chosen.name:
        return f"nothing: {chosen.why_none}"
    counts = ", ".join(
        f"{title} {count}" for title, count in zip(grader.scored.titles, chosen.images_per_class)
    )
    return f"{chosen.name}, {count_of(chosen.images, 'image')} ({counts})"
