"""An exported ONNX file is the model, runs without PyTorch, and is refused where it is not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import loaded_grader, random_model

from common.release import formats
from common.release.contract import EVIDENCE, PAIRS
from common.release.exported_network import build_network, example_pixels
from common.release.formats import open_network, quantise, write_network
from common.release.verification import (
    Pictures,
    expected_outputs,
    judge_quantised,
    largest_differences,
    run_file,
)
from common.system.errors import InputError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from common.release.onnx_grader import (  # noqa: E402 (after importorskip)
    open_networks,
    open_session,
)


@pytest.fixture(scope="module")
def loaded():
    """Two small models of different sizes and heads, which average mirrored views."""
    first = random_model("demo_convnext", "shared", "210")
    second = random_model("demo_convnext", "softmax", img_size=96)
    return loaded_grader(first, second, weights=(0.6, 0.4), tta="flips")


@pytest.fixture(scope="module")
def network(loaded):
    return build_network(loaded.networks.models, loaded.grader, "onnx", evidence=True)


@pytest.fixture(scope="module")
def exported(network, make_once) -> Path:
    """The file, with its weights beside it, as where they are more than 2 GB."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(formats, "_MOST_IN_ONE", 1000)
            write_network(network, folder / "x.onnx", network.contract.to_json("x.onnx"))

    folder = make_once("exported", make)
    assert sorted(each.name for each in folder.iterdir()) == ["x.onnx", "x.onnx.data"]
    return folder / "x.onnx"


@pytest.fixture(scope="module")
def pictures(network) -> Pictures:
    pixels = example_pixels(network.contract, 7, seed=1)
    return Pictures("7 pictures of noise", pixels, np.arange(7) % 3)


def test_onnxruntime_gives_what_the_models_give_for_batches_of_any_size(
    exported, network, loaded, pictures
):
    expected = expected_outputs(network.contract, loaded.networks, pictures)
    run = open_network(network, exported)
    for chunk in (1, 3, 7):
        differences = largest_differences(expected, run_file(run, pictures, chunk))
        assert differences.keys() == expected.keys() and f"{EVIDENCE}_1" in differences
        assert max(differences.values()) < 1e-5


def test_the_networks_of_a_file_say_what_those_in_pytorch_say(exported, loaded, pictures):
    networks = open_networks(exported, "cpu")
    assert networks.grader.fingerprint == loaded.grader.fingerprint
    own = [pictures.pixels[member.input] for member in networks.contract.members]
    assert [p.img_size for p in networks.preprocessings] == [each.shape[1] for each in own]
    for found, expected in zip(
        networks.say(own).pair_probabilities, loaded.networks.say(own).pair_probabilities
    ):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    alone = networks.say([each[3:4] for each in own])
    for every, one in zip(networks.say(own).pair_probabilities, alone.pair_probabilities):
        assert np.array_equal(every[3:4], one), "whatever is beside it"


def test_eight_bit_weights_are_smaller_and_judged_on_graded_pictures(
    exported, network, pictures, tmp_path
):
    small = tmp_path / "small.onnx"
    quantise(exported, small, replace(network.contract, weights="int8").to_json("x.onnx"))
    assert small.stat().st_size < 0.7 * exported.with_name("x.onnx.data").stat().st_size
    networks = open_networks(small, "cpu")
    assert networks.contract.kind == "onnx" and networks.chunk == 1
    plain, rounded = (run_file(open_network(network, path), pictures) for path in (exported, small))
    assert 1e-6 < np.abs(plain[PAIRS] - rounded[PAIRS]).max() < 0.2
    found = judge_quantised(plain, rounded, pictures)
    assert found.change["images"] == 7
    assert found.change["kappa"].low <= found.change["kappa"].value <= found.change["kappa"].high
    assert "7 pictures of noise" in found.description
    with pytest.raises(InputError, match="judged on graded pictures"):
        judge_quantised(plain, rounded, Pictures("x", pictures.pixels))


def test_other_files_are_one_line(tmp_path):
    for name, content in (("none", None), ("text", b"x" * 99)):
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"expected an ONNX file of export_model\.py"):
            open_networks(path, "cpu")
    stranger, kind = tmp_path / "stranger.onnx", onnx.TensorProto.FLOAT
    x, y = (onnx.helper.make_tensor_value_info(name, kind, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph, ir_version=10), stranger)
    with pytest.raises(InputError, match=r"expected a network that export_model\.py wrote"):
        open_networks(stranger, "cpu")
    with pytest.raises(InputError, match="--device tpu: expected auto or cpu"):
        open_networks(stranger, "tpu")


def test_a_gpu_is_taken_by_its_number(tmp_path, monkeypatch):
    def session(path, options, providers):
        asked.append(providers)

    asked, file = [], tmp_path / "a.onnx"
    file.touch()
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for device in ("auto", "cuda", "cuda:1", "cpu"):
        open_session(file, device)
    gpus = [
        [each[1]["device_id"] for each in own if each != "CPUExecutionProvider"] for own in asked
    ]
    assert gpus == [[0], [0], [1], []]
    for device in ("cuda:", "cuda:x", "cpu:1"):
        with pytest.raises(InputError, match=f"--device {device}: expected auto or cpu"):
            open_session(file, device)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [])
    with pytest.raises(InputError, match="or cuda where onnxruntime-gpu is installed"):
        open_session(file, "cuda:1")


def test_the_metadata_is_the_contract(exported, network):
    found = {each.key: each.value for each in onnx.load(exported).metadata_props}
    assert json.loads(found["contract"]) == json.loads(network.contract.to_json("x.onnx"))
