"""One network of a whole grader says what evaluation and explanation say."""

import json

import numpy as np
import pytest
import torch
from helpers import loaded_grader, random_model

from common.config import VIEWS
from common.release.contract import EVIDENCE, PAIRS, PREDICTED, REFERABLE, parse_contract
from common.release.exported_network import build_network, example_pixels
from common.release.formats import named_weights, open_network, write_network
from common.release.verification import (
    LIMIT,
    Pictures,
    expected_outputs,
    largest_differences,
    run_file,
    verify,
)
from common.system.errors import InputError


def pictures_for(contract, count=3):
    return Pictures(f"{count} pictures of noise", example_pixels(contract, count, seed=1))


def outputs_of(network, pictures):
    names = [each.name for each in network.contract.outputs]
    with torch.inference_mode():
        found = network(*map(torch.from_numpy, pictures.pixels))
    return {name: values.numpy() for name, values in zip(names, found, strict=True)}


def compare(loaded, evidence=True):
    """Return the network of a grader, and how far its outputs lie from the expected ones."""
    network = build_network(loaded.networks.models, loaded.grader, "onnx", evidence)
    pictures = pictures_for(network.contract)
    expected = expected_outputs(network.contract, loaded.networks, pictures)
    found = outputs_of(network, pictures)
    assert found.keys() == expected.keys()
    for each in network.contract.outputs:
        shape = [3 if side == "pictures" else side for side in each.shape]
        assert (list(found[each.name].shape), str(found[each.name].dtype)) == (shape, each.dtype)
    assert np.ptp(expected[PAIRS], axis=0).max() > 1e-3, "pictures that are told apart"
    return network, largest_differences(expected, found)


MODELS = {
    "convnext": lambda: random_model("demo_convnext", "ovo"),
    "swinv2": lambda: random_model("demo_swinv2", "shared"),
    "coatnet": lambda: random_model("demo_coatnet", "softmax"),
    "a CNN": lambda: random_model("resnet18", "shared"),
    "joined stages": lambda: random_model("demo_coatnet", "shared", pooled_stages="trained"),
    "two classes": lambda: random_model("demo_convnext", "ovo", "01"),
    "folders in another order": lambda: random_model("demo_convnext", "shared", "201"),
    "another order, softmax": lambda: random_model("demo_convnext", "softmax", "210"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_becomes_one_network_with_the_same_probabilities_and_maps(name):
    tta = {"convnext": "d4", "swinv2": "flips"}.get(name, "none")
    network, differences = compare(loaded_grader(MODELS[name](), tta=tta))
    assert max(differences.values()) < 1e-5
    assert len(network.trunks) == 1
    assert [each.name for each in network.contract.inputs] == ["pixels"]


def test_models_of_different_sizes_have_an_input_each_and_equal_trunks_are_kept_once():
    first, second = random_model("demo_convnext", "shared"), random_model("demo_convnext", "ovo")
    large = random_model("demo_convnext", "softmax", img_size=96)
    loaded = loaded_grader(first, large, second, weights=(0.5, 0.3, 0.2))
    network, differences = compare(loaded)
    assert max(differences.values()) < 1e-5
    shapes = [(each.name, each.preprocessing.img_size) for each in network.contract.inputs]
    assert shapes == [("pixels_0", 64), ("pixels_1", 96)]
    assert [member.input for member in network.contract.members] == [0, 1, 0]
    assert len(network.trunks) == 2, "the first and the third share theirs"
    assert {f"{EVIDENCE}_{place}" for place in range(3)} < differences.keys()


def test_without_evidence_there_are_no_maps_and_without_a_cut_nothing_is_referable():
    loaded = loaded_grader(random_model("demo_convnext", classes="abc"))
    network, differences = compare(loaded, evidence=False)
    assert not {REFERABLE, EVIDENCE} & differences.keys()
    content = json.loads(network.contract.to_json("x.onnx"))
    assert content["referable"].startswith("not known")


def test_the_contract_is_read_as_it_was_written_and_names_no_place_of_the_training():
    loaded = loaded_grader(random_model("demo_convnext"), random_model("demo_swinv2"), tta="d4")
    contract = build_network(loaded.networks.models, loaded.grader, "onnx", True).contract
    text = contract.to_json("x.onnx")
    assert "/home" not in text and "secret" not in text
    read = parse_contract(text, "x.onnx")
    assert read.to_json("x.onnx") == text
    assert [member.tta for member in read.members] == ["d4", "d4"] and VIEWS["d4"] == 8
    np.testing.assert_array_equal(
        read.members[1].evidence_constants, contract.members[1].evidence_constants
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "ovo-dr-network-1"}', "null"])
def test_what_is_no_contract_is_one_line(text):
    with pytest.raises(InputError, match=r"x.onnx: expected a network that export_model.py wrote"):
        parse_contract(text, "x.onnx")


def test_a_network_that_gives_other_values_is_refused():
    loaded = loaded_grader(random_model("demo_convnext"))
    network = build_network(loaded.networks.models, loaded.grader, "onnx", True)
    pictures = pictures_for(network.contract)
    expected = expected_outputs(network.contract, loaded.networks, pictures)
    found = outputs_of(network, pictures)
    verified = verify(expected, found, pictures)
    assert (verified.images, verified.limit) == (3, LIMIT)
    assert verified.differences[PREDICTED] == 0
    for name in (PAIRS, EVIDENCE):
        moved = found | {name: found[name] + 2 * LIMIT * (1 + np.abs(expected[name]).max())}
        with pytest.raises(InputError, match=f"at most 0.001, found .* in {name} on 3 pictures"):
            verify(expected, moved, pictures)
    with pytest.raises(InputError, match=f"found inf in {PAIRS}"):
        verify(expected, found | {PAIRS: np.full_like(found[PAIRS], np.nan)}, pictures)


@pytest.mark.parametrize("kind", ["torchscript", "safetensors"])
def test_formats_of_pytorch_give_what_the_model_gives(kind, tmp_path):
    loaded = loaded_grader(
        random_model("demo_swinv2", "ovo"), random_model("demo_convnext", "shared")
    )
    network = build_network(loaded.networks.models, loaded.grader, kind, True)
    pictures = pictures_for(network.contract, 7)
    expected = expected_outputs(network.contract, loaded.networks, pictures)
    path = tmp_path / "x"
    write_network(network, path, network.contract.to_json("x"))
    found = run_file(open_network(network, path), pictures)
    assert max(largest_differences(expected, found).values()) < 1e-5


def test_weights_have_the_names_of_the_networks_own_library():
    timm = pytest.importorskip("timm")
    loaded = loaded_grader(random_model("resnet18", "shared"))
    state = named_weights(
        build_network(loaded.networks.models, loaded.grader, "safetensors", False)
    )
    own = timm.create_model("resnet18", num_classes=0).state_dict().keys()
    names = {
        name.removeprefix("trunks.0.").removeprefix("members.0.shared.")
        for name in state
        if ".classifier." not in name
    }
    assert names == own
    assert state["members.0.shared.classifier.weight"].shape == (3, 512)
