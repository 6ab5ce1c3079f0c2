"""Trainings on one screen: what is done, who is at what, what stopped and what has not begun."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from common.locks.holder import Holder
from common.system.log import duration, printable, utc_now
from common.watching.standing import (
    DONE,
    NEW,
    RUNNING,
    SILENT,
    STOPPED,
    HeadStanding,
    RunStanding,
)

_NAME = 48  # letters of a directory's name


def screen(runs: Sequence[RunStanding], width: int = 80) -> str:
    """Lay out some directories, in lines of at most `width` letters."""
    lines = [_summary(runs)]
    for run in runs:
        lines += _run_lines(run, width)
    return "\n".join(_cut(line, width) for line in lines)


def all_done(runs: Sequence[RunStanding]) -> bool:
    """Tell whether nothing is left to train."""
    return all(each.state == DONE for run in runs for each in run.heads) and not any(
        run.problem for run in runs
    )


def _summary(runs: Sequence[RunStanding]) -> str:
    heads = [each for run in runs for each in run.heads]
    states = (DONE, RUNNING, SILENT, STOPPED, NEW)
    counts = [(state, sum(each.state == state for each in heads)) for state in states]
    said = ", ".join(f"{count} {state}" for state, count in counts if count or state == DONE)
    return f"{utc_now()}  {len(heads)} classifiers: {said}"


def _run_lines(run: RunStanding, width: int) -> Iterator[str]:
    name = printable(run.root.resolve().name)
    if len(name) > _NAME:  # seeds and classes are told at its end
        name = f"{name[: _NAME - 33]}...{name[-30:]}"
    if run.problem:
        yield f"{name}: {printable(run.problem)}"
        return
    yield f"{name}: {len(run.of(DONE))} of {len(run.heads)} done"
    running = sorted(run.of(RUNNING), key=lambda each: (_who(each), each.waits))
    for (who, waits), group in groupby(running, key=lambda each: (_who(each), each.waits)):
        own = list(group)
        line = f"  running    {_names(own):<20} {_epochs(own)}, {_eta(own, waits)}, {who}"
        yield from _with_sign(line, own, width)
    for who, group in groupby(sorted(run.of(SILENT), key=_who), key=_who):
        own = list(group)
        line = f"  silent     {_names(own):<20} after {_epochs(own)}, {who}"
        yield from _with_sign(line, own, width)
    for who, group in groupby(sorted(run.of(STOPPED), key=_who), key=_who):
        own = list(group)
        was = f", {who} is gone" if who else ""
        yield f"  stopped    {_names(own):<20} after {_epochs(own)}{was}"
    if run.of(NEW):
        yield f"  not begun  {_names(run.of(NEW), most=12)}"


def _with_sign(line: str, heads: Sequence[HeadStanding], width: int) -> list[str]:
    """Add the last sign of life of a process of another machine, below where it is too long."""
    ages = [each.sign_age for each in heads if each.sign_age is not None]
    if not ages:
        return [line]
    said = f"last sign {duration(min(ages))} ago"
    joined = f"{line}, {said}"
    return [joined] if len(joined) <= width else [line, f"{'':13}{said}"]


def _who(each: HeadStanding) -> str:
    holder: Holder | None = each.holder
    return f"{printable(holder.host)[:20]} pid {holder.pid}" if holder else ""


def _names(heads: Sequence[HeadStanding], most: int = 5) -> str:
    names = [each.head.name for each in heads]
    if len(names) > most:
        names = [*names[: most - 1], f"+{len(names) - most + 1}"]
    return " ".join(names)


def _epochs(heads: Sequence[HeadStanding]) -> str:
    found = sorted(each.epoch for each in heads)
    span = f"{found[0]}" if found[0] == found[-1] else f"{found[0]}-{found[-1]}"
    return f"epoch {span}/{max(each.epochs for each in heads)}"


def _eta(heads: Sequence[HeadStanding], waits: bool) -> str:
    """Say when those of one process will have seen all epochs; they are trained side by side."""
    if waits:
        return "ended"
    left = [each.left for each in heads if each.left is not None]
    return f"ETA {duration(max(left))}" if left else "ETA not known"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."
