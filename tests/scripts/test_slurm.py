"""slurm/*.sbatch: as SLURM runs them, on a cluster of one node, and their lines with stand-ins.

The cluster is a real one (slurmctld and slurmd on the loopback address) where SLURM is installed.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import MODEL, QUICK, ROOT, flags, same_weights, wait_for

from common.result_dir.paths import ResultDir

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
# stands in for train_guide.sh: notes its words, then ends with status $ENDS, or waits for SIGTERM
TRAINER = """#!/usr/bin/env bash
[ "$1" != --list ] || exec echo coatnet convnext swinv2
echo "$TRAINING_LOG $*" > "words_$SLURM_ARRAY_TASK_ID"
trap 'sleep 0.2; touch "saved_$SLURM_ARRAY_TASK_ID"; exit "${ENDS_THEN:-143}"' TERM
touch "began_$SLURM_ARRAY_TASK_ID"
own="ENDS_$SLURM_ARRAY_TASK_ID"
ENDS="${!own:-$ENDS}"
[ -z "$ENDS" ] || exit "$ENDS"
sleep 60 > /dev/null 2>&1 &
wait
"""


@pytest.fixture
def clone(tmp_path):
    """A folder to submit from, with a stand-in for the trainer."""
    write_script(tmp_path / "train_guide.sh", TRAINER)
    return tmp_path


def write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# -- the lines of train.sbatch, as one task of an array ------------------------------------------


@pytest.fixture
def task(clone) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start the script as SLURM would: task(flag, ..., VARIABLE=value)."""
    commands = clone / "bin"
    commands.mkdir()
    write_script(commands / "squeue", '#!/bin/sh\necho "${STATE:-RUNNING}"\n')
    write_script(commands / "scontrol", '#!/bin/sh\necho "$*" >> requeued\n')
    of_slurm = {
        "SLURM_SUBMIT_DIR": str(clone),
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_JOB_ID": "9",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_TMPDIR": "/local",
        "PATH": f"{commands}:{PATH}",
    }
    started = []

    def start(*words: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            ["bash", ROOT / "slurm" / "train.sbatch", *words],
            cwd=clone,
            env={**os.environ, **of_slurm, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("environment", "status", "words"),
    [
        ({}, 0, "this task alone is requeued"),
        ({"STATE": "COMPLETING"}, 143, "SLURM itself has cancelled or requeued"),
        ({"SLURM_RESTART_COUNT": "100"}, 143, "MAX_REQUEUES=100 is reached"),
        ({"ENDS_THEN": "2"}, 2, "failed with status 2 and is not started again"),
        ({"ENDS_THEN": "0"}, 0, "convnext is complete"),
        ({"ENDS_THEN": "3"}, 3, "convnext ended; left to others, which the line above names"),
    ],
)
def test_sigterm_is_handed_on_and_the_task_alone_requeued_once_all_is_saved(
    clone, task, environment, status, words
):
    process = task(**environment)
    wait_for((clone / "began_1").exists, 20)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == status and words in said
    assert (clone / "saved_1").exists(), "the script has waited for the trainer"
    requeued = clone / "requeued"
    assert (requeued.read_text() == "requeue 7_1\n") if not environment else not requeued.exists()


@pytest.mark.parametrize("status", [0, 2, 137, 143])
def test_what_ends_without_a_signal_is_never_requeued(clone, task, status):
    said, _ = (process := task(ENDS=str(status))).communicate(timeout=20)
    assert process.returncode == status and not (clone / "requeued").exists()
    assert ("is complete" if status == 0 else f"failed with status {status}") in said


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {},
            " convnext --cache_dir /local/ovo_cache_{user} --num_workers 2 --require_trained "
            "--epochs 3",
        ),
        ({"SLURM_TMPDIR": "", "TMPDIR": "/x", "CACHE_DIR": "c"}, " convnext --cache_dir c "),
        (
            {"PAIR_GROUPS": "0-1,0-2 1-2", "SLURM_ARRAY_TASK_ID": "2"},
            "convnext_0-1,0-2_training_log.txt convnext {any} --pairs 0-1 0-2 --epochs 3",
        ),
        ({"BACKBONES": "a resnet50"}, " resnet50 --cache_dir "),
    ],
)
def test_a_task_takes_its_backbone_and_its_group_of_pairs(clone, task, environment, words):
    process = task("--epochs", "3", ENDS="0", **environment)
    process.communicate(timeout=20)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    [found] = clone.glob("words_*")
    before, _, after = words.format(user=user, any="\0").partition("\0")
    text = found.read_text()
    assert text.startswith(before) and after.strip() in text


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3"}, "array task 3 of 3 (3 backbones x 1 groups of pairs); "),
        ({"SLURM_SUBMIT_DIR": "/"}, "no train_guide.sh in /; submit from the clone's folder"),
    ],
)
def test_a_task_without_work_is_one_line(clone, task, environment, error):
    said, _ = (process := task(**environment)).communicate(timeout=20)
    assert process.returncode == 2 and f"error: {error}" in said and said.count("\n") == 1


# -- a real cluster ------------------------------------------------------------------------------

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=3,builtin_interval=3
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}/cgroup\nCgroupAutomount=no\n"


class Cluster:
    """A SLURM of one node, on this machine alone."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self.environment["PATH"] += ":/usr/sbin"
        for name in ("state", "spool", "cgroup"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        with socket.socket() as one, socket.socket() as two:
            for each in (one, two):
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (one, two)]
        text = CONFIGURATION.format(host=host, ports=ports, folder=folder)
        (folder / "slurm.conf").write_text(text)
        (folder / "cgroup.conf").write_text(CGROUPS.format(folder=folder))
        self.log = folder / "daemons.txt"
        with open(self.log, "w") as log:
            self.daemons = [
                subprocess.Popen(
                    words, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
                for words in (["slurmctld", "-D", "-i"], ["slurmd", "-D"])
            ]

    def ask(self, *words: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """Run a command of SLURM; returns what it says."""
        found = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return (found.stdout + found.stderr).strip()

    def states(self, job: str) -> dict[str, str]:
        """Return the state of a job, or of each task of an array; those long done are missing."""
        command = "squeue --noheader --states=all --array --format=%i=%T --jobs"
        lines = self.ask(*command.split(), job).split()
        return dict(line.split("=") for line in lines if "=" in line)

    def end(self) -> None:
        """End it, and all that it runs."""
        self.ask("scancel", "--full", "--user=root", "--signal=KILL")
        self.ask("scontrol", "shutdown")
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A real SLURM; the test is skipped, with the reason, where it is missing or does not start."""
    if os.getuid() or not all(shutil.which(d, path="/usr/sbin") for d in ("slurmctld", "slurmd")):
        pytest.skip("SLURM (slurmctld, slurmd) is not installed, or this is not root")
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            wait_for(lambda: found.ask("sinfo", "--noheader", "--format=%T") == "idle", 30)
        except AssertionError:
            pytest.skip(f"SLURM does not start: {found.log.read_text()[-300:]}")
        yield found
    finally:
        found.end()


RESOURCES = ("--gres=none", "--mem=100", "--cpus-per-task=1", "--time=10")


@pytest.fixture
def two_grades(demo, tmp_path) -> Path:
    """The synthetic dataset without grades 2 to 4: one pair is a whole model."""
    folder = tmp_path / "two_grades"
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for grade in ("0", "1"):
            (folder / split / grade).symlink_to(demo / split / grade)
    return folder


# trains the small network for real, and another one as soon as a file is there
TWO_TRAINERS = """#!/usr/bin/env bash
[ "$1" != quick ] || { until [ -e go ]; do sleep 0.1; done; exit 0; }
exec "$CLONE/train_guide.sh" "$@"
"""


@pytest.mark.slow
def test_slurm_requeues_only_the_preempted_task_which_goes_on_and_is_evaluated_after(
    cluster, two_grades, shared_cache, quick_train, tmp_path
):
    values = {**QUICK, "epochs": 30, "patience": 30, "num_classes": 2, "dataset_path": two_grades}
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    write_script(tmp_path / "train_guide.sh", TWO_TRAINERS)
    (tmp_path / "evaluate_ensemble.py").symlink_to(ROOT / "evaluate_ensemble.py")

    def submit(script: str, option: str, *words: str) -> str:
        command = ("sbatch", "--parsable", *RESOURCES, option, f"slurm/{script}.sbatch", *words)
        own = {"BACKBONES": f"{MODEL} quick", "CACHE_DIR": str(shared_cache), "CLONE": str(ROOT)}
        return cluster.ask(*command, cwd=tmp_path, **own)

    job = submit("train", "--array=0-1", *flags(**{**values, "base_models": False}))
    judged = flags(dataset_path=two_grades, device="cpu", resamples=50, evidence_maps=0)
    after = submit("evaluate", f"--dependency=afterok:{job}", *judged)
    outs = [tmp_path / f"ovo_train_{job}_{place}.out" for place in (0, 1)]
    log = tmp_path / f"{MODEL}_training_log.txt"
    wait_for(lambda: log.is_file() and "  epoch   2/30" in log.read_text(), 300)
    cluster.ask("scancel", "--signal=TERM", "--batch", f"{job}_0")  # as --signal=B:TERM sends it
    wait_for(lambda: cluster.states(job).get(f"{job}_0") == "PENDING", 60)
    (tmp_path / "go").touch()
    wait_for(lambda: all("is complete" in out.read_text() for out in outs), 300)
    starts = [out.read_text().count("cache in") for out in outs]
    assert starts == [2, 1], "the other one went on"
    assert "stopped with all saved, and this task alone is requeued" in outs[0].read_text()
    assert "stopping after this step" in log.read_text() and "with --resume" in log.read_text()

    assert quick_train(tmp_path / "plain", **values) == 0
    assert same_weights(tmp_path / f"{MODEL}_2class_results", tmp_path / "plain")
    wait_for(lambda: cluster.states(after) == {after: "COMPLETED"}, 300)
    results = ResultDir(tmp_path / f"{MODEL}_2class_results").results
    assert (results / "metrics_test.json").is_file()


@pytest.mark.slow
def test_slurm_starts_no_failed_or_cancelled_task_again(cluster, clone):
    shutil.copytree(ROOT / "slurm", clone / "slurm")
    command = ("sbatch", "--parsable", *RESOURCES)
    job = cluster.ask(*command, "--array=0-2", "slurm/train.sbatch", cwd=clone, ENDS_0="2")
    after = cluster.ask(*command, f"--dependency=afterok:{job}", "slurm/evaluate.sbatch", cwd=clone)
    for place in (1, 2):
        wait_for((clone / f"began_{place}").exists, 60)
    cluster.ask("scancel", f"{job}_1")
    cluster.ask("scontrol", "requeue", f"{job}_2")  # as SLURM does to what it preempts
    out = clone / f"ovo_train_{job}_2.out"
    wait_for(lambda: "start 2, cache in" in out.read_text(), 200)
    cluster.ask("scancel", f"{job}_2")
    states = dict(zip((f"{job}_{n}" for n in (0, 1, 2)), ("FAILED", "CANCELLED", "CANCELLED")))
    wait_for(lambda: cluster.states(job) == states, 60)
    said = [(clone / f"ovo_train_{job}_{place}.out").read_text() for place in (0, 1, 2)]
    assert "failed with status 2 and is not started again" in said[0]
    assert all("SLURM itself has cancelled or requeued" in text for text in said[1:])
    assert [text.count("cache in") for text in said] == [1, 1, 2]
    wait_for(lambda: cluster.states(after) == {after: "CANCELLED"}, 60)
