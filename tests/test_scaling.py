"""The simulation of shared trainings, and the model of time and money."""

import json

import pytest

from benchmarks import simulate_scaling
from benchmarks.cluster.check import CheckPlan, fitted
from benchmarks.cluster.model import Assumptions, Network, estimate
from benchmarks.cluster.simulation import Costs, Troubles, epoch_seconds, shares, simulate

COUNTS = [100.0] * 5
COSTS = [Costs(0.01, 0.02)] * 2
EPOCH = 0.01 * 500 + 0.02 * 2000  # of one backbone, in one process
CALM = Troubles()


def ends(size, troubles=CALM, seed=0):
    return [
        process.end
        for process in simulate(shares(2, COUNTS, size), COUNTS, COSTS, 10, 30.0, troubles, seed)
    ]


def test_one_process_takes_its_start_and_its_epochs():
    assert ends(1) == [pytest.approx(30 + 2 * 10 * EPOCH)]


def test_a_backbone_that_is_divided_passes_its_trunk_more_than_once():
    alone, divided = sum(ends(1)) - 30, sum(ends(4)) - 4 * 30
    assert ends(2) == [pytest.approx(30 + 10 * EPOCH)] * 2, "a backbone to each"
    assert alone < divided < 1.15 * alone
    one_pair = shares(1, COUNTS, 10)[0]
    assert epoch_seconds(one_pair, COUNTS, COSTS) == [pytest.approx(0.01 * 200 + 0.02 * 200)]


def test_processes_without_work_are_done_at_once():
    assert sorted(ends(30))[:10] == [0.0] * 10 and all(sorted(ends(30))[10:])


def test_trouble_costs_time_and_none_of_it_is_forgotten():
    calm = max(ends(4))
    struck = simulate(
        shares(2, COUNTS, 4), COUNTS, COSTS, 10, 30.0, Troubles(preemptions=20.0, requeue=60.0), 1
    )
    for process, quiet in zip(struck, ends(4)):
        assert process.end == pytest.approx(quiet + process.lost + process.waited)
    assert any(process.waited for process in struck)
    assert max(ends(4, Troubles(spread=0.5))) > calm
    failures = Troubles(failures=10.0)
    together = Troubles(failures=10.0, together=True)
    alone, all_again = (sum(sum(ends(8, t, s)) for s in range(20)) for t in (failures, together))
    assert 20 * sum(ends(8)) < alone < all_again, "who starts all again loses more"


def test_what_three_runs_took_gives_the_costs_back():
    plan, costs = CheckPlan(), Costs(0.003, 0.011)
    counts = [float(plan.images)] * 5

    def took(work, epochs):
        return 7.0 + epochs * sum(epoch_seconds(work, counts, [costs]))

    every = shares(1, counts, 1)[0]
    one = [work for work in every if work.key[1] == (0, 1)]
    times = took(every, plan.many), took(every, plan.few), took(one, plan.many)
    start, found = fitted(plan, counts, *times)
    assert start == pytest.approx(7.0)
    assert (found.trunk, found.sample) == (pytest.approx(0.003), pytest.approx(0.011))


def test_the_model_follows_its_assumptions():
    networks = [Network("a", "first", 224, 2.0, 5.0), Network("b", "second", 256, 3.0, 6.0)]
    usual, one = Assumptions(), estimate(networks, 10_000, 1, Assumptions())
    twice = estimate(networks, 20_000, 1, usual)
    assert twice.training - 1 / 60 == pytest.approx(2 * (one.training - 1 / 60))
    assert estimate(networks, 10_000, 1, Assumptions(gpu_tflops=120)).training < one.training
    assert estimate(networks, 10_000, 8, usual).training < one.training / 4
    assert one.counting == pytest.approx(1, abs=0.1) and one.money == 2 * one.gpu_hours
    assert one.cache == 10_000 * 3 * (224**2 + 256**2)


def test_the_table_is_printed_and_kept_as_json(tmp_path, capsys):
    command = ["--images", "54000", "--gpus", "1", "8", "--json", str(tmp_path / "a.json")]
    assert simulate_scaling.main(command) == 0
    out = capsys.readouterr().out
    assert "54,000" in out and "assumed and not measured: 60 TFLOP/s" in out
    kept = json.loads((tmp_path / "a.json").read_text())
    assert [each["gpus"] for each in kept["estimates"]] == [1, 8]
    assert kept["assumptions"]["troubles"]["requeue"] == 600


@pytest.mark.parametrize("words", [["--seed", "-1"], ["--images", "1e6"], ["--epochs", "x"]])
def test_what_is_no_number_is_one_line(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        simulate_scaling.main(words)
    error = capsys.readouterr().err
    assert f"argument {words[0]}: expected a whole number of 0 or more" in error
    assert error.count("\n") == 1


def test_processes_without_end_are_quickly_shared_out():
    counts, costs = [2e5] * 5, [Costs(1e-4, 2e-4)] * 7
    few, many = (shares(7, counts, size, costs) for size in (70, 100_000))
    assert sorted(filter(None, few), key=repr) == sorted(filter(None, many), key=repr)
    ended = simulate(many, counts, costs, 10, 30.0, Troubles(spread=0.1), 0)
    assert len(ended) == 100_000 and sum(each.end > 0 for each in ended) == 70


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0"], "--images and --gpus: expected 1 or more"),
        (["--gpu_tflops", "0"], "--gpu_tflops 0.0: expected more than 0"),
        (["--mix", "0.5", "0.1"], "--mix"),
        (["--together"], "--together has no effect without --failures"),
        (["--preemptions", "-1"], "--preemptions -1.0: expected 0 or more"),
        (["--spread", "nan"], "--spread nan: expected 0 or more"),
        (["--failures", "2"], "hardly ever let a start and an epoch of"),
        (["--failures", "1e9", "--images", "1"], "hardly ever let a start and an epoch of"),
        (["--spread", "5"], "--spread 5: expected 0 to 1, such as 0.1"),
        (["--gpus", "1000000000"], "--gpus 1000000000: expected 100,000 at most"),
        (["--epochs", "1000000000"], "--epochs 1000000000: expected 10,000 at most"),
        (["--mix", *["0.01"] * 100], "--mix: expected 2 to 10 shares"),
    ],
)
def test_what_cannot_be_is_refused(words, said, capsys):
    assert simulate_scaling.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
