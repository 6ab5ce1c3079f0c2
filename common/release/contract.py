"""What an exported network takes and gives, in words and numbers, for programs and for people.

The contract lies as JSON beside the file and, the same text, within it. S pixels of a square side,
K classes that are scored, M models, P pairs, h x w positions of an evidence map.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.grading.grader_file import grader_from_dict, grader_to_dict
from common.grading.stored_grader import StoredGrader
from common.pairs import class_pairs
from common.pixels.preprocessing import Preprocessing
from common.release.pixel_program import steps_of
from common.system.environment import versions
from common.system.errors import InputError
from common.system.files import as_json

FORMAT = "ovo-dr-network-1"
KEY = "contract"  # of its text in the metadata of a file
PAIRS, CLASSES, PREDICTED = "pair_probabilities", "class_probabilities", "predicted"
REFERABLE, FEATURES, EVIDENCE = "referable_probability", "features", "evidence"
FORMATS = ("onnx", "torchscript", "safetensors")
MOST_IMAGES = 16  # of val that a file is compared with the model on, where none are given
MOST_GRADED = 400  # of val, on which 8-bit weights are judged


@dataclass(frozen=True)
class NetworkInput:
    """Pixels that a network takes; models that see the same pixels share them."""

    name: str
    preprocessing: Preprocessing  # without its mean and deviation, which are the models' own


@dataclass(frozen=True)
class NetworkMember:
    """One model of the network; which one, and what was chosen for it, is in the grader."""

    input: int  # place among the inputs
    preprocessing: Preprocessing
    tta: str  # which views of a picture are averaged within, one of `config.VIEWS`
    evidence_constants: np.ndarray | None = None  # (P,); None: no maps are given


@dataclass(frozen=True)
class Output:
    """Something that a network gives."""

    name: str
    shape: tuple[str | int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Verified:
    """How far what the file gives lies from what the model gives in PyTorch."""

    images: int
    source: str  # which images
    differences: dict[str, float]  # the largest, by output
    limit: float


@dataclass(frozen=True)
class Quantised:
    """What 8-bit weights change, on graded images."""

    description: str
    change: dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """What a network takes and gives."""

    kind: str  # one of FORMATS
    grader: StoredGrader
    inputs: tuple[NetworkInput, ...]
    members: tuple[NetworkMember, ...]
    feature_counts: tuple[int, ...]  # F of each member
    map_sizes: tuple[tuple[int, int], ...] = ()  # (h, w) of each member's evidence maps
    weights: str = "fp32"  # or "int8"
    verified: Verified | None = None
    quantised: Quantised | None = None

    @property
    def outputs(self) -> list[Output]:
        """List what the network gives, in order."""
        grader, pairs = self.grader, len(class_pairs(len(self.grader.class_names)))
        scored, count = grader.scored, len(self.members)
        found = [
            Output(
                PAIRS,
                ("pictures", count, pairs),
                "float32",
                "probability of each pair's second class, for each model in turn",
            ),
            Output(
                CLASSES,
                ("pictures", len(scored)),
                "float32",
                "probability of each class, as the evaluation combines and calibrates them",
            ),
            Output(PREDICTED, ("pictures",), "int64", "place of the predicted class in `classes`"),
        ]
        if scored.referable_from is not None:
            what = f"probability of {scored.from_on(scored.referable_from)}"
            found.append(Output(REFERABLE, ("pictures",), "float32", what))
        for place, features in enumerate(self.feature_counts):
            name = FEATURES if count == 1 else f"{FEATURES}_{place}"
            what = "pooled features of the picture, to be compared with those of the training's"
            found.append(Output(name, ("pictures", features), "float32", what))
        for place, size in enumerate(self.map_sizes):
            what = (
                "what each position adds to the logit of each pair, positive for its second class: "
                "mean over the map + evidence_constants = logit; evidence that the network used, "
                "not a lesion"
            )
            name = EVIDENCE if count == 1 else f"{EVIDENCE}_{place}"
            found.append(Output(name, ("pictures", pairs, *size), "float32", what))
        return found

    def to_json(self, file: str) -> str:
        """Write the contract as text; file: the name of the network's file."""
        return as_json(
            {
                "format": FORMAT,
                "file": file,
                "kind": self.kind,
                "about": _ABOUT,
                "inputs": [self._describe_input(place) for place in range(len(self.inputs))],
                "outputs": [asdict(output) for output in self.outputs],
                "classes": self.grader.scored.names,
                "referable": self.grader.scored.referable,
                "pairs": [
                    [self.grader.class_names[place] for place in pair]
                    for pair in class_pairs(len(self.grader.class_names))
                ],
                "members": [self._describe_member(place) for place in range(len(self.members))],
                "weights": self.weights,
                "verified": self.verified,
                "quantised": self.quantised,
                "evaluated": self.grader.evaluated,
                "grader": grader_to_dict(_without_places(self.grader), Path()),
                "made_with": versions(),
            }
        )

    def _describe_input(self, place: int) -> dict[str, Any]:
        found, size = self.inputs[place], self.inputs[place].preprocessing.img_size
        pixels = asdict(found.preprocessing)
        return {
            "name": found.name,
            "shape": ["pictures", size, size, 3],
            "dtype": "uint8",
            "channels": "RGB",
            "members": [
                own.label
                for own, member in zip(self.grader.members, self.members)
                if member.input == place
            ],
            "pixels": {key: pixels[key] for key in pixels if key not in ("mean", "std")},
            "steps": steps_of(found.preprocessing),
        }

    def _describe_member(self, place: int) -> dict[str, Any]:
        own, member = self.grader.members[place], self.members[place]
        maps = self.map_sizes[place] if self.map_sizes else ()
        return {
            "label": own.label,
            "model": own.model,
            "head": own.head,
            "input": self.inputs[member.input].name,
            "mean": member.preprocessing.mean,
            "std": member.preprocessing.std,
            "views": member.tta,
            "weight": float(self.grader.weights[place]),
            "evidence_constants": member.evidence_constants,
            "features": self.feature_counts[place],
            "map_size": maps,
        }


_ABOUT = (
    "Probabilities of diabetic-retinopathy grades for one photograph of the fundus at a time. Make "
    "the pixels as `inputs` says; normalisation, views, vote, calibration and the weights of an "
    "ensemble are within the network. Research software: no output claims regulatory clearance."
)


def _without_places(grader: StoredGrader) -> StoredGrader:
    """Leave out where the models and the dataset lie: it is nobody's business elsewhere."""
    members = tuple(replace(member, directory=Path()) for member in grader.members)
    return replace(grader, members=members, dataset_path="")


def program_files(file: Path, contract: Contract) -> list[Path]:
    """Name the programs beside a network's file that make the pixels of each input."""
    return [file.with_name(f"{file.stem}_{each.name}.py") for each in contract.inputs]


def reference_files(file: Path, members: int) -> list[Path]:
    """Name the files beside a network's that keep what each model's training pictures look like."""
    ends = [""] if members == 1 else [f"_{place}" for place in range(members)]
    return [file.with_name(f"{file.stem}_reference{end}.npz") for end in ends]


def require_own(file: Path) -> None:
    """Raise InputError where something lies at a network's file, or beside it, that is not its own.

    Its own is what an earlier export of a file of this name has left: all that its contract is of.
    """
    contract = file.with_suffix(".json")
    if contract.exists():
        try:
            content = json.loads(contract.read_bytes())
            named = content["file"] if content["format"] == FORMAT else ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            named = ""
        if named == file.name:
            return
        whose = f"the contract of {named}" if named else "no contract of an exported network"
        raise InputError(
            f"{contract} is there already and is {whose}; choose another --output, whose name is "
            "its own without its ending, too"
        )
    for place in file.parent.iterdir() if file.parent.is_dir() else ():
        programs = place.name.startswith(f"{file.stem}_pixels") and place.suffix == ".py"
        references = place.name.startswith(f"{file.stem}_reference") and place.suffix == ".npz"
        if programs or references or place.name in (file.name, f"{file.name}.data"):
            raise InputError(
                f"{place} is there already, without the contract of an earlier export "
                f"({contract.name}); move it away, or choose another --output"
            )


def input_names(preprocessings: Sequence[Preprocessing]) -> tuple[list[NetworkInput], list[int]]:
    """Give models that see the same pixels one input; returns them, and each model's place."""
    keys = list(dict.fromkeys(each.cache_key() for each in preprocessings))
    first = [next(p for p in preprocessings if p.cache_key() == key) for key in keys]
    names = ["pixels"] if len(keys) == 1 else [f"pixels_{place}" for place in range(len(keys))]
    inputs = [NetworkInput(name, each) for name, each in zip(names, first)]
    return inputs, [keys.index(each.cache_key()) for each in preprocessings]


def parse_contract(text: str, source: str) -> Contract:
    """Read a contract; raises InputError naming `source` for anything else."""
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, this release knows {FORMAT}")
        return _parse(content, source)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{source}: expected a network that export_model.py wrote ({reason[:200]}); export the "
            "model again"
        ) from error


def _parse(content: dict[str, Any], source: str) -> Contract:
    grader = grader_from_dict(content["grader"], Path(), source)
    grader = replace(grader, evaluated=bool(content["evaluated"]))
    names = [str(each["name"]) for each in content["inputs"]]
    members, features, sizes = [], [], []
    for each in content["members"]:
        place = names.index(each["input"])
        pixels = content["inputs"][place]["pixels"]
        preprocessing = Preprocessing(**pixels, mean=each["mean"], std=each["std"])
        constants = each["evidence_constants"]
        members.append(
            NetworkMember(
                place,
                preprocessing,
                str(each["views"]),
                None if constants is None else np.array(constants, float),
            )
        )
        features.append(int(each["features"]))
        sizes += [tuple(each["map_size"])] if each["map_size"] else []
    if len(members) != len(grader.members):
        raise ValueError(f"{len(members)} models, of which {len(grader.members)} are graded with")
    inputs = [
        NetworkInput(name, next(m.preprocessing for m in members if m.input == place))
        for place, name in enumerate(names)
    ]
    verified, quantised = content["verified"], content["quantised"]
    return Contract(
        kind=str(content["kind"]),
        grader=grader,
        inputs=tuple(inputs),
        members=tuple(members),
        feature_counts=tuple(features),
        map_sizes=tuple(sizes),
        weights=str(content["weights"]),
        verified=None if verified is None else Verified(**verified),
        quantised=None if quantised is None else Quantised(**quantised),
    )
