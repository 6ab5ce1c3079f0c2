"""Run mutated inputs of the targets of `dev.fuzz`, and look what became of them."""

import contextlib
import io
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

import model_analyzer
from common.models import checkpoint, checkpoint_file
from common.pixels.decoding import ImageError
from common.prediction import predictions
from common.result_dir import run, stored
from common.system.errors import InputError
from dev.fuzz_targets import MAKERS, structured

SECONDS = 20  # a single input may take, on a machine that does other things as well
REFUSED = (InputError, ImageError, SystemExit)


class Hang(BaseException):
    """An input took too long."""


def mutate(seeds: list[bytes], rng: random.Random) -> bytes:
    """Change a seed in one to four ways."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        kind, at = rng.randrange(8), rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 16, 64, 500))
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        elif kind == 5:
            data[at:at] = rng.randbytes(length)
        elif kind == 6:
            data[at:at] = data[at : at + length] * rng.randrange(1, 4)
        else:
            number = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63))
            data[at : at + 8] = number.to_bytes(8, rng.choice(("little", "big")))
    return bytes(data)


class TargetRun:
    """Runs inputs of one target in a folder and counts what became of them."""

    def __init__(self, name: str, folder: Path, keep: Path | None) -> None:
        self.name, self.keep = name, keep
        self.outside, self.inside = folder / name, folder / name / "in"
        self.outside.mkdir(parents=True)
        self.target = MAKERS[name](self.outside)
        self.reset()
        self.known = self.surroundings()
        self.count = self.refused = 0
        self.failures: list[str] = []

    def reset(self) -> None:
        """Start with an empty folder."""
        shutil.rmtree(self.inside, ignore_errors=True)
        self.inside.mkdir()

    def surroundings(self) -> set[str]:
        """List what lies around the folder, two levels up."""
        return {str(p) for p in self.outside.parent.rglob("*") if self.inside not in p.parents}

    def attempt(self, data: bytes) -> None:
        """Try one input."""
        self.count += 1
        said = io.StringIO()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with (
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                status = self.target.read(data, self.inside)
            self.refused += bool(status)
        except REFUSED as error:
            self.refused += 1
            if isinstance(error, InputError | ImageError) and not str(error):
                self.fail(data, "an error without words")
        except (Exception, Hang):
            self.fail(data, traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def fail(self, data: bytes, reason: str) -> None:
        """Record a failure and keep its input."""
        self.failures.append(reason)
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{self.name}_{len(self.failures)}.bin").write_bytes(data)

    def run(self, count: int, number: int) -> None:
        """Try `count` inputs: four fifths mutated, the rest made by hypothesis where it can."""
        rng = random.Random(f"{self.name} {number}")
        strategy = structured(self.name)
        made = count // 5 if strategy is not None else 0
        for n in range(count - made):
            self.attempt(mutate(self.target.seeds, rng))
            if n % 500 == 499:
                self.look_around()
        if strategy is not None and made:
            self.run_hypothesis(strategy, made, number)
        self.look_around()

    def run_hypothesis(self, strategy: st.SearchStrategy[bytes], count: int, number: int) -> None:
        """Try inputs that hypothesis makes."""

        @hypothesis_seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def attempt_all(data: bytes) -> None:
            self.attempt(data)

        attempt_all()

    def look_around(self) -> None:
        """Fail if something was written outside the folder."""
        for path in sorted(self.surroundings() - self.known):
            self.failures.append(f"written outside the folder: {path}")
        self.known = self.surroundings()
        self.reset()


def on_alarm(number: int, frame: FrameType | None) -> None:
    """End an input that takes too long."""
    raise Hang(f"more than {SECONDS} s")


def campaign(
    names: list[str], count: int, number: int, keep: Path | None = None
) -> dict[str, TargetRun]:
    """Try `count` inputs on each target; returns what became of them."""
    before = signal.signal(signal.SIGALRM, on_alarm)
    runs = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                started = time.monotonic()
                run = runs[name] = TargetRun(name, Path(folder), keep)
                run.run(count, number)
                print(
                    f"{name}: {run.count} inputs, {run.refused} refused, "
                    f"{len(run.failures)} failures, {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                for reason in sorted(set(run.failures))[:5]:
                    print(reason, flush=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    return runs


def run_atheris(name: str, count: int) -> None:
    """Let atheris, guided by coverage, choose the inputs of a target."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    target = MAKERS[name](folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    (folder / "in").mkdir()

    def attempt(data: bytes) -> None:
        with contextlib.suppress(*REFUSED), contextlib.redirect_stdout(io.StringIO()):
            target.read(data, folder / "in")

    for module in (checkpoint, checkpoint_file, predictions, run, stored, model_analyzer):
        for key, value in list(vars(module).items()):
            if (
                callable(value)
                and getattr(value, "__module__", "") == module.__name__
                and (not isinstance(value, type))
            ):
                setattr(module, key, atheris.instrument_func(value))
    atheris.Setup([sys.argv[0], str(corpus), f"-runs={count}", "-max_len=20000"], attempt)
    atheris.Fuzz()
