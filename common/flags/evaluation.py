"""The flags that scripts share which use trained models: evaluation, analyses, new pictures."""

from common.cli import expand_home, folder, named_file, whole_number

import argparse
from pathlib import Path

from common.config import VIEWS
from common.data.patients import AUTO, PATIENT_HELP
from common.doubts.references import MOST_PICTURES
from common.fitting.calibration import WEIGHTS
from common.flags.settings import add_named_field, default_of
from common.listing.split_folders import SPLITS
from common.prediction.alterations import ALTERATIONS
from common.prediction.evaluated_models import RESULT_PATTERNS
from common.prediction.voting import VOTES
from common.result_dir.paths import FIGURE_FORMATS
from common.screening.patients import PATIENT_RULES

HOLDOUT_CHECKS = ("pictures", "names")


def add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every script that predicts."""
    for name in (
        "dataset_path",
        "cache_dir",
        "num_workers",
        "threads",
        "skip_unreadable",
        "device",
        "use_amp",
        "precision",
    ):
        add_named_field(parser, name)
    parser.add_argument(
        "--class_names",
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="class folders to read, matched with the model's classes by name or meaning "
        "(default: all)",
    )
    parser.add_argument(
        "--class_map",
        nargs="+",
        default=(),
        metavar="FOLDER=CLASS",
        help="which of the model's classes a folder holds, by name or index, where its name does "
        "not say; FOLDER=FIRST..LAST for several",
    )


def add_ensemble_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the evaluation: which models, how they vote, what is fitted and restated."""
    _add_results_dirs(parser, "result directories of train_ovo.py")
    below = (
        ", or, with --output_dir DIR, in DIR/convnext_5class_results; a model alone in DIR itself"
    )
    _add_base_models(parser, below)
    parser.add_argument(
        "--output_dir",
        type=folder,
        default=None,
        help="of the ensemble (default ./super_ensemble_results); with --base_models, the folder "
        "that the models are in, too",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=["uniform"],
        metavar="W",
        help=f"{', '.join(WEIGHTS)} on cal or val, or a number per model (default uniform)",
    )
    parser.add_argument(
        "--calibrate",
        nargs="?",
        const="on",
        default="auto",
        choices=("auto", "on", "off"),
        help="divide log probabilities by temperatures fitted on cal or val: where that is "
        "possible, always (alone or with on: end with an error if it is not), or not (default "
        "auto)",
    )
    _add_tta(parser, "what each model was trained with")
    parser.add_argument(
        "--prevalence",
        default="",
        metavar="SHARES|TABLE",
        help="restate results at a population's grade mix: shares, or a label table",
    )
    parser.add_argument(
        "--prevalence_column",
        default="",
        metavar="NAME",
        help="the column of grades in the table of --prevalence, where its name does not tell",
    )
    parser.add_argument(
        "--evidence_maps",
        type=int,
        choices=range(13),
        default=6,
        metavar="N",
        help="show so many of the worst mistakes with maps of the evidence for the class given, 0 "
        "to 12 (default 6; 0 saves the time of loading the models again)",
    )
    parser.add_argument(
        "--reference_pictures",
        type=whole_number,
        default=MOST_PICTURES,
        metavar="N",
        help="look at up to N pictures each of train and val, once for a model, so that predict.py "
        f"can tell new ones that are unlike them; 0: do not (default {MOST_PICTURES})",
    )
    parser.add_argument("--require", action="store_true", help="exit 1 unless every gate passes")
    parser.add_argument(
        "--verbose", action="store_true", help="print all tables below the short summary"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="only compute stored predictions again; exit 1 if they differ",
    )
    parser.add_argument(
        "--holdout_check",
        choices=HOLDOUT_CHECKS,
        default=HOLDOUT_CHECKS[0],
        help="compare the test pictures with those that were trained on, or only names and bytes, "
        "without opening them (default pictures)",
    )
    parser.add_argument(
        "--num_classes", type=int, default=None, help="expected of the models (default: theirs)"
    )
    _add_screening_flags(parser)
    _add_measuring_flags(parser)


def add_images_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says where new pictures are."""
    parser.add_argument(
        "--images",
        nargs="+",
        required=True,
        type=expand_home,
        metavar="PLACE",
        help="folders, however deep, files, or patterns such as 'left/*.jpg'",
    )


def add_grader_flags(parser: argparse.ArgumentParser, arithmetic: bool = True) -> None:
    """Add the flags of scripts that take models as they are used: which, and how these run.

    arithmetic: device and precision can be chosen.
    """
    _add_results_dirs(
        parser,
        "result directories of train_ovo.py, or that of an ensemble, which "
        "evaluate_ensemble.py has written",
    )
    _add_base_models(parser)
    parser.add_argument(
        "--grader",
        type=named_file,
        default=None,
        metavar="FILE",
        help="what an evaluation has chosen, results/grader.json (default: that of the one model, "
        "or of super_ensemble_results if it is of these models)",
    )
    for name in ("device", "precision", "threads") if arithmetic else ():
        add_named_field(parser, name)
    _add_tta(parser, "what each model was evaluated with, else trained with")


def _add_tta(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--tta",
        default="",
        choices=tuple(VIEWS),
        help="test-time augmentation of all models: take an image as it is (none), or average the "
        "logits of its mirror images (flips: 4 views), or of these in all quarter turns (d4: 8) "
        f"(default: {default})",
    )


def add_worker_flag(parser: argparse.ArgumentParser, help: str) -> None:
    """Add how many threads read pictures."""
    default = default_of("num_workers")
    parser.add_argument(
        "--num_workers", type=int, default=default, help=f"{help} (default {default})"
    )


def add_patient_regex(parser: argparse.ArgumentParser) -> None:
    """Add the pattern of the patients' names."""
    parser.add_argument("--patient_regex", default=AUTO, help=PATIENT_HELP)


def _add_screening_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a screening programme asks of the final grader."""
    parser.add_argument(
        "--operating_point",
        nargs="+",
        default=["argmax"],
        metavar="RULE",
        help="who is referred: sensitivity=0.90, specificity=0.90 or youden choose a threshold on "
        "val or cal; several may be given, the first of which is named first in the report. "
        "argmax, which refers what is graded as referable, is always measured beside them "
        "(default argmax alone)",
    )
    parser.add_argument(
        "--patient_rule",
        choices=PATIENT_RULES,
        default=PATIENT_RULES[0],
        help="how a patient's images become one decision: the worst of them, or the mean of their "
        "probabilities (default worst)",
    )
    parser.add_argument(
        "--robustness",
        nargs="*",
        default=None,
        metavar="ALTERATION",
        help="predict the split again under alterations of the photographs, all or some of "
        f"{', '.join(each.name for each in ALTERATIONS)}; takes as many predictions",
    )


def add_analysis_flags(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Add the flags of the scripts that read stored predictions."""
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="ALIAS",
        help="only these models, ALIAS_shared or ALIAS_softmax for that head, ALIAS_seed1 for that "
        "one of several seeds (default all that are found)",
    )
    _add_results_dirs(parser, f"(default {' and '.join(RESULT_PATTERNS)})")
    parser.add_argument(
        "--output_dir", type=folder, default=Path(output_dir), help=f"(default {output_dir})"
    )
    _add_measuring_flags(parser)


def _add_results_dirs(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument(
        "--results_dirs", nargs="+", type=folder, default=[], metavar="DIR", help=help
    )


def _add_base_models(parser: argparse.ArgumentParser, below: str = "") -> None:
    parser.add_argument(
        "--base_models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="in place of --results_dirs: models (ALIAS_shared or ALIAS_softmax with that head; of "
        "several seeds all, ALIAS_seed1 for that one) in their default directories, such as "
        f"./convnext_5class_results{below}",
    )


def add_figure_flags(parser: argparse.ArgumentParser) -> None:
    """Add how figures are stored."""
    parser.add_argument(
        "--figure_format",
        choices=FIGURE_FORMATS,
        default=FIGURE_FORMATS[0],
        help="of the vector file that is written beside each figure's PNG "
        f"(default {FIGURE_FORMATS[0]})",
    )


def _add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is measured: the split, the vote, the cut, and how the bootstrap resamples."""
    parser.add_argument(
        "--referable_from",
        default="",
        metavar="CLASS",
        help="first class that is referred, by name or index (default: by the names)",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="(default test)")
    parser.add_argument(
        "--vote", choices=VOTES, default="coupling", help="pairs to classes (default coupling)"
    )
    add_patient_regex(parser)
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of the bootstrap (default 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    add_figure_flags(parser)
