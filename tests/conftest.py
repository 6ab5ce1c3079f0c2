"""Small synthetic datasets and quick trainings that many tests share."""

import contextlib
import fcntl
import hashlib
import io
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

# Tiny networks: several threads only wait for each other, minutes long where cores are shared.
# Before any import of torch; the scripts that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# where a test takes several, those that wait leave their cores to the other workers
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import torch
from helpers import GRADES, QUICK, QUICK_AUDIT, flags
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

import train_ovo
from common.audit.dataset import Audit, audit
from common.data.folders import scan_split
from common.data.synthetic import write_dataset
from common.doubts import training_pictures
from common.doubts.references import MOST_PICTURES
from common.doubts.training_pictures import keep_reference
from common.duplicates import links, point_search
from common.duplicates.signatures import Signature
from common.evaluation.evaluate import evaluate
from common.evaluation.findings import Findings
from common.evaluation.gates import FAIL, Gate
from common.evaluation.questions import Answers
from common.figures import evaluation as figures
from common.fitting.grader import Grader, Sample
from common.fitting.sources import Trained
from common.inspection import file_checks
from common.metrics.intervals import BootstrapConfig, Interval
from common.model_card import mistakes
from common.prediction import altered, predict
from common.prediction.predict import PredictionConfig
from common.prediction.voting import ClassPredictions
from common.reporting.summary import Part, Report
from common.reporting.tables import evaluation_tables
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.files import atomic_write
from common.trained_networks import loading
from common.trained_networks.loading import LoadedModel, fingerprint_files

# tests send Ctrl-C, which a shell tells what it starts in the background to ignore
signal.signal(signal.SIGINT, signal.default_int_handler)

SEEN = ("train", "val")
_DRAWING = [(Figure, "savefig"), (Figure, "get_tightbbox"), (ConstrainedLayoutEngine, "execute")]
_PLOTS = {name: plot for name, plot in vars(figures).items() if name.startswith("plot_")}
_DRAWN = [(place, name, getattr(place, name)) for place, name in _DRAWING]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes long, so that several workers end at the same time.

    Without a GPU leave out what needs one.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> torch.device:
    """The CPU, and a GPU where there is one: one test of both."""
    return torch.device(request.param)


@pytest.fixture(scope="session", autouse=True)
def blank_figures():
    """Save each figure as one white pixel: evaluating a tiny model takes less than drawing it.

    Its vector file holds that pixel, too. Those of an evaluation are not even laid out.
    """
    picture = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(picture, "PNG")

    def save(figure, file, **_):
        file.write(picture.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        patch.setattr(Figure, "get_tightbbox", lambda figure: figure.bbox_inches)
        for name in _PLOTS:
            patch.setattr(figures, name, lambda *_, **__: Figure())
        yield


@pytest.fixture
def planned_figures(monkeypatch):
    """Lay out an evaluation's figures after all, where a set of images is odd."""
    for name, plot in _PLOTS.items():
        monkeypatch.setattr(figures, name, plot)


@pytest.fixture
def drawn_figures(monkeypatch, planned_figures):
    """Draw figures after all, in a test that looks at them."""
    for place, name, method in _DRAWN:
        monkeypatch.setattr(place, name, method)


@pytest.fixture(scope="session", autouse=True)
def trusted_disk():
    """Leave files to the system's memory: no test takes the power away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all workers of pytest-xdist share, or this process's own without them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def remembered_looks(shared_folder):
    """Compute once for all tests what depends on pictures alone: most look at copies of a few.

    That is a picture's signature, which of some signatures are of one eye, and (in each worker)
    whether two of them are.
    """
    real, agreements = point_search.agreement, {}

    def agreement(first, second, a, b):
        key = _digest(first), _digest(second)
        if key not in agreements:
            agreements[key] = real(first, second, a, b)
        return agreements[key]

    def remembering(name, compute):
        folder = shared_folder / name
        folder.mkdir(exist_ok=True)

        def remembered(*inputs):
            place = folder / _digest(inputs).hex()
            with contextlib.suppress(FileNotFoundError):
                return pickle.loads(place.read_bytes())
            found = compute(*inputs)
            with contextlib.suppress(OSError), atomic_write(place) as file:  # tests fill disks
                file.write(pickle.dumps(found))
            return found

        return remembered

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((file_checks, "signature_of"), (links, "matching_pictures")):
            patch.setattr(module, name, remembering(name, getattr(module, name)))
        patch.setattr(point_search, "agreement", agreement)
        yield


@pytest.fixture(scope="session", autouse=True)
def remembered_models():
    """Load a model once for all evaluations: most are of copies of a few.

    What is said while loading is said each time: such models are loaded anew.
    """
    known: dict[tuple[object, ...], LoadedModel] = {}
    said: list[str] = []
    real = {"load": loading.load_model, "log": loading.log}

    def log(text):
        said.append(text)
        real["log"](text)

    def load(run):
        contents = tuple(hashlib.sha256(path.read_bytes()).digest() for path in run.files)
        key = (run.model, run.head, run.num_classes, run.trained_names, contents)
        if key not in known:
            said.clear()
            found = real["load"](run)
            if said:
                return found
            known[key] = found
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "log", log)
        for module in (predict, altered, mistakes, training_pictures):
            patch.setattr(module, "load_model", load)
        yield


def _digest(value: object) -> bytes:
    return hashlib.sha256(pickle.dumps(_plain(value))).digest()


def _plain(value: object) -> object:
    """Write arrays and signatures as values that are pickled alike where they are equal."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Signature):
        return _plain(list(vars(value).values()))
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture(scope="session")
def make_once(shared_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fill a folder once for all workers: make_once(name, make) calls make(folder) in the first."""

    def fill(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared_folder / name, shared_folder / f"{name}.done"
        with open(shared_folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return fill


@pytest.fixture(scope="session")
def demo(make_once) -> Path:
    """A synthetic dataset: 10 training images per grade (7 of grade 0), 4 to validate and test."""

    def make(root: Path) -> None:
        write_dataset(root, {"train": 10, "val": 4, "test": 4}, seed=1, size=96)
        for path in sorted((root / "train" / "0").iterdir())[7:]:
            path.unlink()

    return make_once("demo", make)


@pytest.fixture(scope="session")
def large_demo(make_once) -> Path:
    """A synthetic dataset to learn from: 60 larger training images per grade, 20 to validate."""
    return make_once(
        "large_demo",
        lambda root: write_dataset(root, {"train": 60, "val": 20}, seed=3, size=128),
    )


@pytest.fixture(scope="session")
def audited(demo, tmp_path_factory) -> Audit:
    """An audit of the demo dataset with a patient, a copy and a doubted grade, to be divided."""
    root = Path(shutil.copytree(demo, tmp_path_factory.mktemp("audited") / "d"))
    first, second, third = sorted((root / "train" / "1").iterdir())[:3]
    first.rename(first.with_name("7_left.jpg"))
    second.rename(root / "val" / "1" / "7_right.jpg")
    shutil.copy(third, root / "test" / "1" / "copy.jpg")
    shutil.copy(next((root / "train" / "3").iterdir()), root / "train" / "4" / "doubted.jpg")
    (root / "train" / "0" / "notes.jpg").write_text("x")
    return audit(root, QUICK_AUDIT)


@pytest.fixture(scope="session")
def shared_cache(shared_folder) -> Path:
    """A pixel cache for all tests that do not test the cache."""
    return shared_folder / "cache"


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """Let PyTorch compute with so many threads until the test ends: set_threads(count)."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick_train(demo, shared_cache) -> Callable[..., int]:
    """Train a tiny backbone in this process: quick_train(folder, **flags) -> exit status."""

    def run(output: Path, **changes) -> int:
        values = {**QUICK, "dataset_path": demo, "cache_dir": shared_cache, "output_dir": output}
        return train_ovo.main(flags(**values | changes))

    return run


@pytest.fixture(scope="session")
def know_training_pictures(demo, shared_cache) -> Callable[[Path], None]:
    """Look at a model's training pictures once, so that the evaluations of copies need not."""

    def look(output: Path) -> None:
        run, train, val = find_run(ResultDir(output)), *(scan_split(demo, s) for s in SEEN)
        config = PredictionConfig(shared_cache, 2, torch.device("cpu"), "fp32")
        fingerprint = fingerprint_files(run.files)
        assert not keep_reference(Trained("", run, train, val), fingerprint, config, MOST_PICTURES)

    return look


@pytest.fixture(scope="session")
def trained(make_once, quick_train, know_training_pictures) -> Path:
    """A result directory with all ten pairs of a tiny backbone, to be read only."""

    def make(folder: Path) -> None:
        output = folder / "demo_5class_results"
        assert quick_train(output) == 0
        know_training_pictures(output)

    return make_once("trained", make) / "demo_5class_results"


@pytest.fixture(scope="session")
def trained_swin(make_once, quick_train, know_training_pictures) -> Path:
    """The same of another tiny backbone, to be read only."""

    def make(folder: Path) -> None:
        assert quick_train(folder / "swin_5class_results", base_models="demo_swinv2") == 0
        know_training_pictures(folder / "swin_5class_results")

    return make_once("trained_swin", make) / "swin_5class_results"


@pytest.fixture
def trained_copy(trained, tmp_path) -> Path:
    """A copy of that result directory, which a test may change."""
    return shutil.copytree(trained, tmp_path / "demo_convnext_5class_results")


@pytest.fixture
def report_on():
    """Make a report on a model that grades each image of a split `shift` too high."""

    def make(split, shift, classes=GRADES, **changes):
        gate = Gate(
            "accuracy", "ensemble", "accuracy", "> 98 %", Interval(0.5, 0.4, 0.6), FAIL, FAIL
        )
        predicted = (split.labels + shift) % len(classes)
        predictions = ClassPredictions(np.eye(len(classes))[predicted], predicted)
        bootstrap = BootstrapConfig(20)
        evaluation = evaluate(split.labels, predictions, bootstrap, classes)
        findings = Findings(evaluation, {"coupling": evaluation.metrics})
        members = predictions.probabilities[None]
        sample = Sample("test", np.array(split.ids), split.labels, predictions, members)
        values = {
            "models": ["coatnet"],
            "dataset_path": "images",
            "split": split,
            "vote": "coupling",
            "grader": Grader("coatnet", classes, sample, None, "there is no val", bootstrap),
            "findings": findings,
            "answers": Answers(),
            "gates": [gate],
            "results": Part("coatnet on test", evaluation_tables(findings, "vote"), ["a remark"]),
            "questions": Part("Questions", []),
        }
        return Report(**{**values, **changes})

    return make
