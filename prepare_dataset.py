#!/usr/bin/env python3
"""Make graded folders from a table; audit, split or cache a dataset; write the demo; merge results.

    python prepare_dataset.py import ./labels.csv ./photographs ./my_graded_photographs
    python prepare_dataset.py audit ./my_graded_photographs --strict
    python prepare_dataset.py split ./my_graded_photographs ./my_split --val 0.15 --test 0.15
    python prepare_dataset.py split ./my_graded_photographs ./my_folds --folds 5
    python prepare_dataset.py demo ./demo_dataset
    python prepare_dataset.py cache ./my_graded_photographs --base_models coatnet convnext swinv2
    python prepare_dataset.py merge ./results_here ./results_there --output_dir ./coatnet_results

Training fills the cache itself; filling it beforehand shows early which files cannot be read.
"""

from common.cli import Parser, folder, guarded, known_folder

import argparse
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.audit.dataset import AuditConfig, audit
from common.audit.report import audit_text, write_audit
from common.config import TrainConfig
from common.data.class_names import quoted, require_grade_order
from common.data.folders import scan_dataset
from common.data.label_tables import NO_COLUMN, ColumnFlags
from common.data.metadata import METADATA, some
from common.data.patients import AUTO, PATIENT_HELP
from common.data.synthetic import write_dataset
from common.flags.evaluation import add_worker_flag
from common.flags.settings import add_named_field, default_of
from common.inspection.relations import what_is_known
from common.listing.split_folders import ALL, SPLITS, split_of
from common.listing.walking import count_of
from common.preparation.folds import check_folds, fold_names, plan_folds, write_folds
from common.preparation.import_table import (
    NO_ROW,
    ImportConfig,
    ImportPlan,
    LabelSource,
    plan_import,
    write_import,
)
from common.preparation.new_dataset import (
    MANIFEST,
    WAYS,
    remove_leftovers,
    require_apart,
    require_empty,
)
from common.preparation.shares import Shares
from common.preparation.split import Plan, plan_split, write_split
from common.reporting.table import format_table
from common.system.errors import InputError
from common.system.log import log, shell_path

# flags that decide which pixels are cached, and how
PIXEL_FIELDS = (
    "num_classes",
    "img_size",
    "enable_clahe",
    "clahe_clip_limit",
    "clahe_tile_grid_size",
    "num_workers",
    "skip_unreadable",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    demo = commands.add_parser("demo", help="write a synthetic dataset")
    demo.add_argument("dataset_path", type=folder)
    demo.add_argument("--train", type=int, default=100, help="images per grade (default 100)")
    demo.add_argument("--val", type=int, default=30, help="images per grade (default 30)")
    demo.add_argument("--test", type=int, default=40, help="images per grade (default 40)")
    demo.add_argument("--cal", type=int, default=0, help="images per grade (default 0: no cal)")
    demo.add_argument("--size", type=int, default=256, help="pixels per side (default 256)")
    demo.add_argument("--seed", type=int, default=0, help="equal seeds draw equal images")
    _add_cache_flags(commands.add_parser("cache", help="decode a dataset once for these models"))
    check = commands.add_parser("audit", help="look for faults, copies, leaks and shortcuts")
    check.add_argument("dataset_path", type=folder)
    check.add_argument(
        "--output_dir", type=folder, default=Path("audit_results"), help="(default ./audit_results)"
    )
    check.add_argument(
        "--strict",
        action="store_true",
        help="exit 1 on leakage across splits, or if pictures are not used or cannot be read",
    )
    divide = commands.add_parser("split", help="make a split, or folds, without leaks")
    _add_split_flags(divide)
    for command in (check, divide):
        _add_audit_flags(command)
    table = commands.add_parser("import", help="make graded folders from a table of grades")
    _add_import_flags(table)
    join = commands.add_parser("merge", help="join result directories of pairs trained apart")
    join.add_argument("results_dirs", type=folder, nargs="+", help="parts of one run")
    join.add_argument("--output_dir", type=folder, required=True, help="a new folder")
    return parser.parse_args(argv)


def _add_split_flags(divide: argparse.ArgumentParser) -> None:
    divide.add_argument("source", type=folder, help="graded folders, or an existing split")
    divide.add_argument("dest", type=folder, help="a new folder")
    divide.add_argument("--val", type=float, help=f"share (default {Shares.val:g})")
    divide.add_argument("--test", type=float, default=Shares.test, help="share (default 0.15)")
    divide.add_argument(
        "--cal",
        type=float,
        default=Shares.cal,
        help="share that is kept for temperatures, weights and thresholds (default 0)",
    )
    divide.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="write datasets fold_1 to fold_K of the same test and cal, each picture of the rest "
        "once in val",
    )
    divide.add_argument(
        "--allow_uneven",
        action="store_true",
        help="write a split that lacks a grade or misses the shares, too",
    )
    divide.add_argument(
        "--files", choices=WAYS, help="(default copy; hardlink with --folds, which costs no space)"
    )


def _add_cache_flags(cache: argparse.ArgumentParser) -> None:
    cache.add_argument("dataset_path", type=folder)
    cache.add_argument("--base_models", nargs="+", required=True, metavar="MODEL")
    cache.add_argument(
        "--splits",
        nargs="+",
        choices=SPLITS,
        default=list(SPLITS),
        help="(default all that are there)",
    )
    cache.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")
    cache.add_argument(
        "--cache_dir",
        type=known_folder,
        default=default_of("cache_dir"),
        help="(default ./cache, or CACHE_DIR)",
    )
    for name in PIXEL_FIELDS:
        add_named_field(cache, name)


def _add_import_flags(table: argparse.ArgumentParser) -> None:
    table.add_argument(
        "table", type=label_source, help="of grades, as text; or SPLIT=TABLE, if all its rows are"
    )
    table.add_argument("images", type=folder, nargs="+", help="folders of pictures")
    table.add_argument("dest", type=folder, help="a new folder")
    table.add_argument(
        "--more",
        type=label_source,
        nargs="+",
        default=[],
        metavar="SPLIT=TABLE",
        help="tables of other splits",
    )
    table.add_argument("--files", choices=WAYS, default="hardlink", help="(default hardlink)")
    for name, what in (
        ("image_column", "the pictures' names"),
        ("grade_column", "the grades"),
        ("split_column", f"train, val, cal or test; {NO_COLUMN} for no split"),
    ):
        table.add_argument(f"--{name}", default="", metavar="NAME", help=f"the column of {what}")
    table.add_argument(
        "--ungradable",
        nargs="+",
        default=[],
        metavar="VALUE",
        help="in the column of grades: marks pictures to leave out",
    )
    table.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="for metadata.csv, beside patient, eye, camera, site, age and sex; or such as "
        "patient=COLUMN",
    )
    add_named_field(table, "num_classes")
    table.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")


def label_source(text: str) -> LabelSource:
    """Read TABLE or SPLIT=TABLE."""
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        if not split_of(name):
            raise argparse.ArgumentTypeError(
                f"expected train, val, cal or test before =, found {text!r}"
            )
        return LabelSource(folder(path), split_of(name))
    return LabelSource(folder(text))


def _add_audit_flags(parser: argparse.ArgumentParser) -> None:
    add_named_field(parser, "num_classes")
    parser.add_argument("--class_names", nargs="+", default=(), help="class folders, grade order")
    add_worker_flag(parser, "threads that read pictures, at most the cores")
    parser.add_argument(
        "--patient_regex",
        default=AUTO,
        help=PATIENT_HELP,
    )
    parser.add_argument(
        "--cache_dir",
        type=known_folder,
        default=default_of("cache_dir"),
        help="keeps what was computed of each picture (default ./cache)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of splits and of what is drawn by chance (default 0)"
    )


def write_demo(args: argparse.Namespace) -> None:
    """Draw the demo dataset into a folder that is empty or holds an earlier demo."""
    folder = args.dataset_path
    counts = {"train": args.train, "val": args.val, "test": args.test}
    counts |= {"cal": args.cal} if args.cal else {}
    if min(counts.values()) < 1 or not 64 <= args.size <= 4096:
        raise InputError("expected 1 or more images per grade and --size 64 to 4096")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "SYNTHETIC.md").is_file():
        raise InputError(f"{folder} is not empty; synthetic images must not mix with photographs")
    total = write_dataset(folder, counts, args.seed, args.size)
    log(f"wrote {total} synthetic images to {folder}; they show no eye and are of no medical value")


def fill_caches(args: argparse.Namespace) -> None:
    """Decode every split for every model; models with equal pixels share the work."""
    from common.models.backbones import preprocessing_for, resolve
    from common.pixel_store.pixel_cache import keep_readable, open_cache

    config = _checked_config(args, *PIXEL_FIELDS)
    dataset = scan_dataset(args.dataset_path, config.num_classes, config.class_names)
    found = [name for name in (*args.splits, ALL) if dataset.has(name)]
    splits = [dataset.split(name) for name in found or args.splits]
    for line in dataset.remarks():
        log(line)
    for model in args.base_models:
        preprocessing = preprocessing_for(resolve(model), config.pixel_options)
        for split in splits:
            if config.skip_unreadable:
                split = keep_readable(
                    split, preprocessing, args.cache_dir, config.num_workers
                ).split
            open_cache(split, preprocessing, args.cache_dir, config.num_workers)
            counts = split.counts(config.num_classes)
            log(f"{model}: {split.name} is cached, {len(split)} images, per grade {counts}")


def check_dataset(args: argparse.Namespace) -> int:
    """Audit a dataset, print and write what was found; returns the exit status."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=args.output_dir).close()  # that it cannot be written is said now
    found = audit(args.dataset_path, _audit_config(args, shortcuts=True))
    settings = {
        "dataset_path": str(args.dataset_path),
        "patient_regex": args.patient_regex,
        "class_names": list(args.class_names),
        "seed": args.seed,
    }
    written = write_audit(found, args.output_dir, settings)
    print(audit_text(found), end="\n\n")
    took = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in found.seconds.items())
    sheets = sum(path.suffix == ".png" for path in written)
    log(
        f"audited {len(found.entries)} files ({took}); wrote {len(written)} files to "
        f"{args.output_dir}, {sheets} of them contact sheets"
    )
    return 1 if args.strict and (found.leaks or found.not_looked_at) else 0


def split_dataset(args: argparse.Namespace) -> None:
    """Write a split, or folds, in which no patient, picture or copy is in two places."""
    shares, dest = _shares(args), args.dest.resolve()
    require_apart(args.source, dest)
    require_empty(dest)
    remove_leftovers(dest)
    found = audit(args.source, _audit_config(args, shortcuts=False))
    for line in [*found.dataset.remarks(), *(found.metadata.remarks if found.metadata else ())]:
        log(line)
    for note in found.notes:
        log(f"note: {note}")
    if args.folds is None:
        plan = plan_split(found, shares, args.seed)
    else:
        plan = plan_folds(found, args.folds, shares, args.seed)
    if plan.uneven and not args.allow_uneven:
        raise InputError(
            f"the split would not be what was asked for: {'; '.join(plan.uneven)}. "
            "prepare_dataset.py audit shows what belongs together; --allow_uneven writes the split "
            "all the same"
        )
    if args.folds is None:
        counts = write_split(found, plan, dest, args.files or "copy")
        _log_split(plan, counts, args.num_classes)
        written, where = f"{args.dest} with {MANIFEST}", "in one split"
    else:
        counts = write_folds(found, plan, args.folds, dest, args.files or "hardlink")
        _log_folds(plan, counts, args.folds, found.dataset.titles)
        written, where = f"{args.dest}/fold_1 to fold_{args.folds}, with {MANIFEST}", "in one part"
    log(
        f"wrote {written}; all copies of a picture and photographs of an eye that were found are "
        f"{where}; {what_is_known(found.related.patients, where)}"
    )
    if args.folds is not None:
        _log_next(args)


def _shares(args: argparse.Namespace) -> Shares:
    """Read which share each part gets; InputError for what cannot be, before anything is opened."""
    shares = Shares(Shares.val if args.val is None else args.val, args.test, args.cal)
    if args.folds is None:
        shares.check()
        return shares
    if args.val is not None:
        raise InputError(
            f"--val {args.val:g} and --folds {args.folds}: each fold's val is its part of what is "
            "not test or cal, so that --val has no meaning; leave it out"
        )
    check_folds(args.folds, shares)
    return shares


def import_dataset(args: argparse.Namespace) -> None:
    """Make graded folders of a table's rows and their pictures."""
    dest = args.dest.resolve()
    for images in args.images:
        require_apart(images, dest)
    require_empty(dest)
    remove_leftovers(dest)
    config = _checked_config(args, "num_classes")
    columns = ColumnFlags(
        args.image_column, args.grade_column, args.split_column, tuple(args.ungradable)
    )
    reading = ImportConfig(config.num_classes, config.class_names, columns, tuple(args.keep))
    plan = plan_import([args.table, *args.more], args.images, reading)
    for remark in plan.remarks:
        log(remark)
    known = write_import(plan, dest, args.files)
    _log_import(plan)
    log(
        f"wrote {args.dest} with {MANIFEST}"
        + (f" and {METADATA} ({', '.join(known)})" if known else "")
    )
    classes = _class_flags(args)
    path, split = shell_path(args.dest), shell_path(f"{args.dest}_split")
    log(f"next: python prepare_dataset.py audit {path}{classes}")
    if {"train", "val"} <= set(plan.splits):
        log(f"      python train_ovo.py --base_models convnext --dataset_path {path}{classes}")
    else:
        log(f"      python prepare_dataset.py split {path} {split}{classes}")


def merge_results(args: argparse.Namespace) -> None:
    """Join result directories of one run, each with some of its pairs."""
    from common.joint_runs.finish import evaluation_of
    from common.preparation.merge import plan_merge, write_merge

    for part in args.results_dirs:
        require_apart(part, args.output_dir)
    require_empty(args.output_dir)
    remove_leftovers(args.output_dir)
    merge = plan_merge(args.results_dirs)
    for remark in merge.remarks:
        log(f"note: {remark}")
    write_merge(merge, args.output_dir)
    config = merge.first.config
    log(f"{args.output_dir}: {merge.standings.line(config.names)}")
    if merge.standings.complete:
        log(f"next: {evaluation_of([args.output_dir], config.dataset_path)}")


def _log_import(plan: ImportPlan) -> None:
    """Say what each split holds, and what was left out."""
    for split in plan.splits:
        row = plan.counts(split)
        log(f"{f'{split}: ' if split else ''}{sum(row)} images, per grade {row}")
        missing = [name for name, count in zip(plan.folders, row) if not count]
        if missing:
            log(f"note: {split or 'the table'} has no picture of class {', '.join(missing)}")
    highest = max(row.grade or 0 for row, _ in plan.used)
    if highest == 1 < len(plan.folders) - 1:
        log(
            "WARNING: no grade is above 1: if the table says only no DR and DR, or referable or "
            "not, import it with --num_classes 2 and --class_names; here 1 is taken for class "
            f"{plan.folders[1]} of {len(plan.folders)}"
        )
    for reason, names in plan.reasons().items():
        what = count_of(len(names), "picture" if reason == NO_ROW else "row")
        log(f"left out: {what}, {reason}: {some(names)}")


def _log_split(plan: Plan, counts: Counter[tuple[str, int]], num_classes: int) -> None:
    """Say what each split holds and lacks, and what was left out."""
    grades = range(num_classes)
    for split in SPLITS:
        row = [counts[split, grade] for grade in grades]
        if split != "cal" or any(row):
            log(f"{split}: {sum(row)} images, per grade {row}")
    _log_rest(plan)


def _log_folds(
    plan: Plan, counts: Counter[tuple[str, int]], folds: int, titles: Sequence[str]
) -> None:
    """Say what each fold's val and what they have in common hold, and what was left out."""
    rows: list[list[object]] = []
    total = sum(count for (part, _), count in counts.items() if part not in ("cal", "test"))
    for part in (*fold_names(folds), "cal", "test"):
        row = [counts[part, grade] for grade in range(len(titles))]
        name, train = (f"{part}: val", total - sum(row))
        if part in ("cal", "test"):
            name, train = f"all folds: {part}", 0
        if any(row) or train:
            rows.append([name, sum(row), *row, train or ""])
    header = ["", "images", *titles, "in train (the other folds)"]
    print(f"\n{format_table(header, rows)}\n", flush=True)
    _log_rest(plan)


def _log_next(args: argparse.Namespace) -> None:
    """Say how the folds are trained and evaluated."""
    dest, classes = shell_path(args.dest), _class_flags(args)
    numbers = " ".join(str(number + 1) for number in range(args.folds))
    log(f"next: for fold in {numbers}; do")
    log(f"        python train_ovo.py --base_models convnext --dataset_path {dest}/fold_$fold \\")
    log(
        f"          --output_dir ./convnext_fold${{fold}}_5class_results --resume{classes} || break"
    )
    log("      done")
    log("      python evaluate_ensemble.py --results_dirs ./convnext_fold*_5class_results \\")
    regex = args.patient_regex
    patients = "" if regex == AUTO else f" --patient_regex {shlex.quote(regex)}"
    log(f"        --dataset_path {dest}/fold_1 --output_dir ./super_ensemble_results{patients}")


def _class_flags(args: argparse.Namespace) -> str:
    """Write the flags that say which classes there are, where they are not the usual ones."""
    if not args.class_names and args.num_classes == default_of("num_classes"):
        return ""
    names = f" --class_names {quoted(args.class_names)}" if args.class_names else ""
    return f" --num_classes {args.num_classes}{names}"


def _log_rest(plan: Plan) -> None:
    """Say where a split is uneven, and what was left out."""
    for line in plan.uneven:
        log(f"WARNING: {line}")
    for reason in sorted({reason for reason in plan.reasons if reason}):
        log(f"left out: {plan.reasons.count(reason)} files, {reason}")


def _audit_config(args: argparse.Namespace, shortcuts: bool) -> AuditConfig:
    config = _checked_config(args, "num_classes", "num_workers", "seed")
    return AuditConfig(
        num_classes=config.num_classes,
        class_names=config.class_names,
        patient_regex=args.patient_regex,
        num_workers=config.num_workers,
        seed=config.seed,
        cache_dir=args.cache_dir,
        shortcuts=shortcuts,
    )


def _checked_config(args: argparse.Namespace, *names: str) -> TrainConfig:
    """Hold the flags of these names to the limits that training has."""
    values = {name: getattr(args, name) for name in names}
    try:
        require_grade_order(args.class_names)
        return TrainConfig(class_names=tuple(args.class_names), **values)
    except ValueError as error:
        raise InputError(str(error)) from error


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the command that was asked for."""
    args = parse_args(argv)
    if args.command == "audit":
        return check_dataset(args)
    commands = {
        "demo": write_demo,
        "cache": fill_caches,
        "split": split_dataset,
        "import": import_dataset,
        "merge": merge_results,
    }
    commands[args.command](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
