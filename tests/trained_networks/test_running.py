"""Pictures are shown to the networks of a result directory as each of its files would see them."""

import dataclasses

import numpy as np
import pytest
import torch

from common.data.folders import scan_split
from common.models.checkpoint import load_pair, restore_pair
from common.models.ovo import trunk_features
from common.pixel_store.pixel_cache import open_cache
from common.prediction.altered import AlteredPixels
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError
from common.trained_networks import running
from common.trained_networks.loading import TrunkGroup, load_model
from common.trained_networks.running import predict_logits, predict_pixels

CPU = torch.device("cpu")


def test_predictions_are_those_of_each_file_alone(trained, demo, shared_cache):
    directory, split = ResultDir(trained), scan_split(demo, "test")
    member = load_model(find_run(directory))
    cache = open_cache(split, member.preprocessing, shared_cache, 2)
    logits = predict_logits(member, cache, CPU, "fp32")
    for column, path in enumerate(find_run(directory).files):
        alone = restore_pair(load_pair(path), str(path))
        with torch.no_grad():
            for image in (0, 7, 19):
                features = trunk_features(
                    alone.trunk,
                    cache.read(np.array([image])),
                    alone.checkpoint.preprocessing,
                    CPU,
                    "fp32",
                )
                found = alone.branch(features).item()
                assert found == pytest.approx(float(logits[image, column]), abs=1e-5)


def test_the_trunk_runs_once_per_image_for_all_pairs(trained, demo, shared_cache, monkeypatch):
    member = load_model(find_run(ResultDir(trained)))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    seen = []
    monkeypatch.setattr(
        running,
        "trunk_features",
        lambda trunk, pixels, *rest, **how: (
            seen.append(len(pixels)),
            trunk_features(trunk, pixels, *rest, **how),
        )[1],
    )
    predict_logits(member, cache, CPU, "fp32")
    assert sum(seen) == len(cache)


@pytest.mark.parametrize("name", ["trained", "trained_swin"])
def test_what_is_said_of_a_picture_is_the_same_to_the_last_bit_whatever_is_beside_it(
    name, request, demo, shared_cache
):
    member = load_model(find_run(ResultDir(request.getfixturevalue(name))))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    expected = predict_logits(member, cache, CPU, "fp32")  # of a full chunk and the rest of one
    every = predict_pixels(member, cache.read(np.arange(16)), CPU, "fp32").features
    for rows in ([7], [19, 3], [*range(15, 4, -1)]):
        found = predict_pixels(member, cache.read(np.array(rows)), CPU, "fp32")
        assert np.array_equal(found.logits, expected[rows])
        known = [place for place, row in enumerate(rows) if row < len(every)]
        assert np.array_equal(found.features[known], every[[rows[place] for place in known]])


@pytest.fixture
def threads_of(monkeypatch):
    """Watch a function of `running`; returns how many threads each call of it had."""

    def watch(name):
        counts, run = [], getattr(running, name)
        monkeypatch.setattr(
            running, name, lambda *given: (counts.append(torch.get_num_threads()), run(*given))[1]
        )
        return counts

    return watch


@pytest.mark.parametrize(
    "what, precision, most",
    [
        ("branches", "fp32", 1e-5),
        ("branches", "bf16", 0.03),
        ("views", "fp32", 1e-5),
        ("trunks", "fp32", 1e-5),
    ],
)
def test_what_is_asked_side_by_side_says_what_it_says_one_after_the_other(
    trained, demo, shared_cache, set_threads, threads_of, what, precision, most
):
    member, tta = load_model(find_run(ResultDir(trained))), "d4" if what == "views" else "none"
    if what == "trunks":  # as where nothing was frozen
        (group,) = member.groups
        own = [TrunkGroup(group.trunk, [branch]) for branch in group.branches]
        member = dataclasses.replace(member, groups=own)
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    counts, found = threads_of("_run_branch" if what == "branches" else "_run_group"), []
    for threads in (1, 2):
        set_threads(threads)
        counts.clear()
        found.append(predict_logits(member, cache, CPU, precision, tta))
        assert set(counts) == {1}, "of each"
    assert np.abs(found[0] - found[1]).max() <= most
    assert np.array_equal(found[1], predict_logits(member, cache, CPU, precision, tta)), "each time"


def test_pixels_of_another_configuration_are_refused(trained, demo, tmp_path):
    from dataclasses import replace

    member = load_model(find_run(ResultDir(trained)))
    other = replace(member.preprocessing, enable_clahe=False)
    cache = open_cache(scan_split(demo, "test"), other, tmp_path, 2)
    with pytest.raises(InputError, match="other pixels"):
        predict_logits(member, cache, CPU, "fp32")


def test_views_are_averaged_as_if_each_were_a_dataset_of_its_own(trained, demo, shared_cache):
    member = load_model(find_run(ResultDir(trained)))
    cache = open_cache(scan_split(demo, "test"), member.preprocessing, shared_cache, 2)
    pixels = cache.read(np.arange(5))

    def logits(views, tta="none"):
        return predict_logits(member, AlteredPixels(views, member.preprocessing), CPU, "fp32", tta)

    turned = [np.rot90(pixels, quarters, (1, 2)).copy() for quarters in range(4)]
    every = [view for each in turned for view in (each, each[:, :, ::-1].copy())]
    alone = [logits(view) for view in every]
    found = logits(pixels, "d4")
    assert np.array_equal(found, sum(alone[1:], alone[0]) / 8)
    assert np.allclose(logits(every[5], "d4"), found, atol=1e-5), "however it is turned"
    of_flips = [alone[place] for place in (0, 1, 4, 5)]  # a half turn is both flips
    assert np.allclose(logits(pixels, "flips"), np.mean(of_flips, axis=0), atol=1e-5)
    assert np.abs(found - alone[0]).max() > 1e-3
