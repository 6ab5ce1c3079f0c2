"""results.json: what was measured, by section.

One section on speed and one on ablation for each type of device, one on precision and one on what
needs no network. Types are those of the file; `benchmarks.report` lays them out as RESULTS.md.
"""

import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.system.errors import InputError
from common.system.files import read_json, write_json

HERE = Path(__file__).parents[1]
DEVICES = ("cpu", "cuda")
PRECISION = "precision"  # the key of its section
_SIDE_BY_SIDE = "side_by_side_"  # and the network
STORED = "stored"
_OTHER_HOURS = "other_hours"


@dataclass(frozen=True)
class Speed:
    """The speeds of the reference and the product at the same work, and the ratio's range."""

    reference_per_second: float
    product_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class EnsembleSpeed(Speed):
    """The speeds of evaluating several models one after the other."""

    names: list[str]
    date: str = ""  # when it was measured


@dataclass(frozen=True)
class ModelSpeed:
    """What was measured for one backbone."""

    precision: str
    img_size: int
    data_share: float  # of a later epoch, spent on fetching pixels
    training: Speed  # pair-samples
    evaluation: Speed  # images, of a filled cache
    cold: Speed  # images, filling the cache first
    decoding: Speed  # images: the reference's epoch against the product's first fill
    training_flops: float  # a second
    share_of_ceiling: float  # of the FLOP/s of large matrix products
    peak_gb: float
    evaluation_share: float | None = None  # of the same; older figures have none
    date: str = ""  # when it was measured


@dataclass
class SpeedSection:
    """The product against the reference on one device."""

    versions: dict[str, str]
    processor: str
    command: str
    models: dict[str, ModelSpeed] = field(default_factory=dict)
    seven: EnsembleSpeed | None = None
    date: str = ""


@dataclass(frozen=True)
class OtherHour:
    """The ratios that the same commands gave on another machine, or in another hour."""

    told: str  # when, on what, how
    training: dict[str, float]  # by model
    evaluation: dict[str, float]  # by model, or "7 models"


@dataclass
class AblationSection:
    """For each backbone, an epoch's time in each form over that of the product as it is."""

    processor: str
    command: str
    models: dict[str, dict[str, float]] = field(default_factory=dict)
    date: str = ""


@dataclass(frozen=True)
class KindOfWork:
    """The share of an epoch that a kind of operations takes, and how near it is to its bound."""

    share: float
    of_bound: float  # NaN where nothing bounds it


@dataclass
class ProfileSection:
    """Where a training epoch's time goes on one device, for each backbone."""

    processor: str
    command: str
    ceiling: float  # FLOP/s of large matrix products
    bandwidth: float  # bytes/s of a large copy
    models: dict[str, dict[str, KindOfWork]] = field(default_factory=dict)
    date: str = ""


@dataclass(frozen=True)
class Way:
    """What one way to grade gave: its speed, and kappa on val with its 95 % interval."""

    seconds_per_epoch: float
    images_per_second: float  # at evaluation
    kappa: float
    kappa_low: float
    kappa_high: float


@dataclass
class SideBySideSection:
    """The product beside what else one might take."""

    processor: str
    command: str
    data: str
    ways: dict[str, Way] = field(default_factory=dict)
    date: str = ""


@dataclass(frozen=True)
class PrecisionDifference:
    """How far predictions under bf16 are from those under fp32; NaN where an AUC is undefined."""

    images: int
    agreement: float  # share of the images with the same grade
    auc_class: float  # largest difference
    auc_pair: float
    probability: float


@dataclass
class PrecisionSection:
    """bf16 against fp32, for each backbone."""

    command: str
    data: str
    models: dict[str, PrecisionDifference]
    date: str = ""


@dataclass(frozen=True)
class Spent:
    """What a command takes."""

    processor_seconds: float
    seconds: float


@dataclass
class StoredSection:
    """Commands that run no network, or hardly any: flags, and what reads stored predictions."""

    command: str
    processor: str
    images: int
    models: int
    resamples: int
    helps: dict[str, Spent]  # of each command's --help
    scripts: dict[str, Spent]
    refusals: dict[str, Spent] = field(default_factory=dict)  # of what model_analyzer.py is given
    date: str = ""


Section = (
    SpeedSection
    | AblationSection
    | ProfileSection
    | SideBySideSection
    | PrecisionSection
    | StoredSection
)


@dataclass(frozen=True)
class Results:
    """All sections; those by device lack a device on which nothing was measured."""

    speed: dict[str, SpeedSection]
    ablation: dict[str, AblationSection]
    profile: dict[str, ProfileSection]
    precision: PrecisionSection | None
    side_by_side: dict[str, SideBySideSection]  # by network
    stored: StoredSection | None = None
    other_hours: list[OtherHour] = field(default_factory=list)  # written by hand


def ablation_key(device: str) -> str:
    """Name the section on a type of device."""
    return f"ablation_{device}"


def profile_key(device: str) -> str:
    """Name the section on where the time goes on a type of device."""
    return f"profile_{device}"


def side_by_side_key(model: str) -> str:
    """Name the section on what else one might take in place of a network's classifiers."""
    return f"{_SIDE_BY_SIDE}{model}"


def load(folder: Path) -> Results:
    """Read results.json, if there is one; raises InputError if it is damaged."""
    return _parse(folder, _read(folder))


def today() -> str:
    """Return the date, as sections and rows hold it."""
    return datetime.now(UTC).date().isoformat()


def store(folder: Path, key: str, section: Section) -> Results:
    """Put one section, with its date, into results.json; returns all that it then holds."""
    section.date = today()
    content = _read(folder)
    content[key] = _to_json(section)
    found = _parse(folder, content)
    write_json(folder / "results.json", content)
    return found


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected earlier results, found {content!r:.80}; move it away")
    # a section on ablation is read under either name
    return {key.replace("means_", "ablation_"): value for key, value in content.items()}


def _parse(folder: Path, content: dict[str, Any]) -> Results:
    ablation = {device: ablation_key(device) for device in DEVICES}
    try:
        precision = content.get(PRECISION)
        return Results(
            speed={d: _speed_section(content[d]) for d in DEVICES if d in content},
            ablation={
                d: AblationSection(**content[k]) for d, k in ablation.items() if k in content
            },
            profile={
                device: _profile_section(content[profile_key(device)])
                for device in DEVICES
                if profile_key(device) in content
            },
            precision=_precision_section(precision) if precision else None,
            side_by_side={
                key.removeprefix(_SIDE_BY_SIDE): _side_by_side(found)
                for key, found in content.items()
                if key.startswith(_SIDE_BY_SIDE)
            },
            stored=_stored_section(content[STORED]) if STORED in content else None,
            other_hours=[OtherHour(**found) for found in content.get(_OTHER_HOURS, [])],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / 'results.json'}: expected earlier results, found something else "
            f"({error!r}); move it away"
        ) from error


def _speed_section(content: dict[str, Any]) -> SpeedSection:
    models = {name: _model_speed(found) for name, found in content["models"].items()}
    seven = EnsembleSpeed(**content["seven"]) if content.get("seven") else None
    return SpeedSection(**{**content, "models": models, "seven": seven})


def _model_speed(content: dict[str, Any]) -> ModelSpeed:
    speeds = {
        "training": Speed(**content["training"]),
        "evaluation": Speed(**content["evaluation"]),
        "cold": Speed(**content["evaluation, cold"]),
        "decoding": Speed(**content["decoding"]),
    }
    rest = {key: value for key, value in content.items() if key != "evaluation, cold"}
    return ModelSpeed(**{**rest, **speeds})


def _profile_section(content: dict[str, Any]) -> ProfileSection:
    models = {
        name: {kind: _kind_of_work(found) for kind, found in kinds.items()}
        for name, kinds in content["models"].items()
    }
    return ProfileSection(**{**content, "models": models})


def _side_by_side(content: dict[str, Any]) -> SideBySideSection:
    ways = {
        title: Way(**{name: math.nan if value is None else value for name, value in found.items()})
        for title, found in content["ways"].items()
    }
    return SideBySideSection(**{**content, "ways": ways})


def _kind_of_work(content: dict[str, Any]) -> KindOfWork:
    bound = content["of_bound"]
    return KindOfWork(content["share"], math.nan if bound is None else bound)


def _precision_section(content: dict[str, Any]) -> PrecisionSection:
    models = {name: _difference(found) for name, found in content["models"].items()}
    return PrecisionSection(**{**content, "models": models})


def _stored_section(content: dict[str, Any]) -> StoredSection:
    parts: dict[str, dict[str, Spent]] = {
        part: {name: Spent(**spent) for name, spent in content[part].items()}
        for part in ("helps", "scripts", "refusals")
        if part in content  # earlier results hold no refusals
    }
    return StoredSection(**{**content, **parts})


def _difference(content: dict[str, Any]) -> PrecisionDifference:
    undefined = {name: math.nan for name, value in content.items() if value is None}
    return PrecisionDifference(**{**content, **undefined})


def _to_json(section: Section) -> dict[str, Any]:
    content = asdict(section)
    if isinstance(section, SpeedSection):
        for found in content["models"].values():
            found["evaluation, cold"] = found.pop("cold")
    return content
