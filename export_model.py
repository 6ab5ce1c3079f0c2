#!/usr/bin/env python3
"""Write a model or an ensemble as one file that other programs run, and check that it is the same.

    python export_model.py --results_dirs ./convnext_5class_results --format onnx \\
        --output ./convnext.onnx

The file takes pixels and gives the probabilities of pairs, classes and referable disease. Beside it
lies what makes pixels of a photograph: in words and numbers (convnext.json), and as a short program
that needs nothing of this software (convnext_pixels.py).
"""

from common.cli import Parser, expand_home, guarded, named_file

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.flags.evaluation import add_grader_flags
from common.flags.finding import find_graded_by
from common.locks.run_lock import lock_directory
from common.new_pictures.listing import list_pictures
from common.release.contract import (
    FORMATS,
    MOST_GRADED,
    MOST_IMAGES,
    Contract,
    program_files,
    reference_files,
    require_own,
)
from common.release.onnx_grader import require_onnx
from common.release.pixel_program import pixel_program
from common.system.errors import InputError
from common.system.files import write_text
from common.system.log import duration, log

if TYPE_CHECKING:  # these take seconds to import: steps that need them do it
    from common.grading.loading import LoadedGrader
    from common.release.exported_network import ExportedNetwork
    from common.release.verification import Pictures


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__)
    add_grader_flags(parser, arithmetic=False)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="onnx runs in onnxruntime and the like, torchscript in PyTorch alone; safetensors "
        f"holds the weights, by the names of the networks' libraries (default {FORMATS[0]})",
    )
    parser.add_argument("--output", type=named_file, required=True, metavar="FILE")
    parser.add_argument(
        "--evidence", action="store_true", help="the file gives the exact evidence maps, too"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        type=expand_home,
        metavar="PLACE",
        help="photographs to compare the file with the model on: folders, files or patterns "
        f"(default: {MOST_IMAGES} of the training's val, or drawn ones where that is not there)",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        default="",
        help="of onnx: store weights in 8 bits; what that changes is measured on at most "
        f"{MOST_GRADED} images of the training's val",
    )
    args = parser.parse_args(argv)
    if args.quantize and args.format != "onnx":
        raise InputError(f"--quantize {args.quantize} is for --format onnx; leave out one of them")
    if args.output.is_dir() or args.output.suffix in (".json", ".py"):
        raise InputError(f"--output {args.output}: expected the name of a file, such as model.onnx")
    return args


def load(args: argparse.Namespace) -> "LoadedGrader":
    """Load the models and what was chosen for them."""
    found = find_graded_by(args.results_dirs, args.base_models, args.grader)
    import torch

    from common.grading.loading import load_grader_and_models

    return load_grader_and_models(found.runs, found.given, args.tta, torch.device("cpu"), "fp32")


def choose_pictures(
    contract: Contract, loaded: "LoadedGrader", args: argparse.Namespace
) -> "Pictures":
    """Choose what the file is compared with the model on."""
    from common.release.verification import drawn_pictures, given_pictures, val_pictures

    if args.images:
        listing = list_pictures(args.images)
        return given_pictures(contract, [picture.path for picture in listing.pictures])
    for model in loaded.networks.models:
        found = val_pictures(contract, model.run, MOST_IMAGES)
        if found is not None:
            return found
    return drawn_pictures(contract)


def choose_graded(contract: Contract, loaded: "LoadedGrader") -> "Pictures":
    """Choose what 8-bit weights are judged on."""
    from common.release.verification import val_pictures

    for model in loaded.networks.models:
        found = val_pictures(contract, model.run, MOST_GRADED)
        if found is not None:
            return found
    places = ", ".join(model.run.dataset_path or "?" for model in loaded.networks.models)
    raise InputError(
        "--quantize int8 is judged on graded images of the training's val, which is not there "
        f"({places}); leave it out, or bring the dataset back"
    )


def write_and_verify(
    network: "ExportedNetwork", loaded: "LoadedGrader", folder: Path, args: argparse.Namespace
) -> Contract:
    """Write the file into a folder, load it again, and compare; returns the contract with it."""
    from common.release.formats import open_network, quantise, write_network
    from common.release.verification import expected_outputs, judge_quantised, run_file, verify

    contract, name = network.contract, args.output.name
    pictures = choose_pictures(contract, loaded, args)
    graded = choose_graded(contract, loaded) if args.quantize else None
    expected = expected_outputs(contract, loaded.networks, pictures)
    started = time.perf_counter()
    path = folder / name
    write_network(network, path, contract.to_json(name))
    size = sum(file.stat().st_size for file in folder.iterdir())
    seconds = duration(time.perf_counter() - started)
    log(f"exported as {args.format} in {seconds}, {size / 1e6:.1f} MB")
    run = open_network(network, path)
    verified = verify(expected, run_file(run, pictures), pictures)
    for output, difference in verified.differences.items():
        log(f"largest difference in {output}: {difference:.2g}")
    log(f"the file gives what the model gives, on {pictures.source}")
    contract = replace(contract, verified=verified)
    if graded is None:
        return contract
    plain = run_file(run, graded)
    small = folder / f"int8_{name}"
    contract = replace(contract, weights="int8")
    quantise(path, small, replace(network.contract, weights="int8").to_json(name))
    found = judge_quantised(plain, run_file(open_network(network, small), graded, chunk=1), graded)
    log(f"{small.stat().st_size / 1e6:.1f} MB with 8-bit weights; {found.description}")
    path.with_name(f"{name}.data").unlink(missing_ok=True)
    os.replace(small, path)
    return replace(contract, quantised=found)


def describe(folder: Path, contract: Contract, loaded: "LoadedGrader", output: Path) -> None:
    """Write beside the network what it takes and gives, and what its training pictures look like.

    folder: where the network lies before all is moved to `output` and its neighbours.
    """
    write_text(folder / output.with_suffix(".json").name, contract.to_json(output.name))
    for program, each in zip(program_files(output, contract), contract.inputs):
        write_text(folder / program.name, pixel_program(each.preprocessing, each.name))
    models = loaded.networks.models
    for model, place in zip(models, reference_files(output, len(models))):
        if model.run.directory.reference.is_file():
            shutil.copyfile(model.run.directory.reference, folder / place.name)


def put_in_place(folder: Path, output: Path, models: int) -> None:
    """Move what was written and verified to its place, and drop what is left of an earlier one."""
    contract = output.with_suffix(".json").name
    order = {contract: 0, output.name: 2}  # by the contract it is known whose the others are
    found = sorted(folder.iterdir(), key=lambda file: order.get(file.name, 1))
    names = [file.name for file in found]
    for earlier in (
        output,
        *reference_files(output, models),
        output.with_name(f"{output.name}.data"),
    ):
        earlier.unlink(missing_ok=True)
    for file in found:
        os.replace(file, output.with_name(file.name))
    log(f"wrote {output}, and beside it {', '.join(names[:-1])}")


@contextlib.contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """Make an empty folder to write in, and remove it; InputError while another export is there.

    One that is found belonged to an export that was killed: who has the lock is alone here. Files
    of one name with different endings would share what lies beside them, so they share the lock.
    """
    if not output.parent.is_dir() and os.path.lexists(output.parent):
        raise InputError(f"--output {output}: expected a folder, found a file: {output.parent}")
    lock = output.with_name(f".{output.stem}.lock")
    with lock_directory(output.parent, lock, f"{output} is being exported", "--output"):
        require_own(output)
        folder = output.with_name(f".{output.stem}.unfinished")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Load, join, write, verify, and only then put into place."""
    args = parse_args(argv)
    if args.format == "onnx":
        require_onnx()
    with folder_beside(args.output) as folder:
        loaded = load(args)
        from common.release.exported_network import build_network

        grader = loaded.grader
        log(f"{grader.label}: {grader.calibration_text}")
        network = build_network(loaded.networks.models, grader, args.format, args.evidence)
        contract = write_and_verify(network, loaded, folder, args)
        describe(folder, contract, loaded, args.output)
        put_in_place(folder, args.output, len(loaded.networks.models))
    return 0


if __name__ == "__main__":
    sys.exit(main())
