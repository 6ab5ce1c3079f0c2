"""Checkpoints in the earlier trainer's format, built independently of this code."""

import json
import shutil

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.transforms import InterpolationMode, v2

import model_analyzer
from common.data.folders import scan_split
from common.models.checkpoint import load_pair, restore_pair
from common.models.checkpoint_file import CheckpointError
from common.models.ovo import trunk_features
from common.pairs import class_pairs
from common.pixels.preprocessing import load_pixels
from common.prediction.predict import PredictionConfig, predict_run
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError
from common.trained_networks.loading import load_model


class EarlierNet(nn.Module):
    """The earlier trainer's network: a library's backbone, average pooling, three layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name == "densenet121":
            self.backbone = torchvision.models.densenet121(weights=None)
            width, self.backbone.classifier = self.backbone.classifier.in_features, nn.Identity()
        elif name == "efficientnetb2":
            self.backbone = torchvision.models.efficientnet_b2(weights=None)
            width, self.backbone.classifier = 1408, nn.Identity()
        elif name == "resnet50":
            self.backbone = torchvision.models.resnet50(weights=None)
            width, self.backbone.fc = 2048, nn.Identity()
        elif name == "seresnext50_32x4d":
            self.backbone = timm.create_model(name, num_classes=0)
            width = self.backbone.num_features
        else:
            self.backbone = timm.create_model(name)
            width, self.backbone.head = self.backbone.num_features, nn.Identity()
        self.classifier = nn.Sequential(
            nn.Dropout(0.28),
            nn.Linear(width, 512),
            nn.ReLU(),
            nn.BatchNorm1d(512),
            nn.Dropout(0.28),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.BatchNorm1d(128),
            nn.Dropout(0.28),
            nn.Linear(128, 1),
        )

    def forward(self, pixels):
        if hasattr(self.backbone, "head"):  # timm's forward hands the head more than it takes
            features = self.backbone.forward_features(pixels)
        else:
            features = self.backbone(pixels)
        if features.ndim == 4:
            features = features.mean((2, 3))
        return self.classifier(features).squeeze(1)


def shaken(net):
    """Move every parameter and statistic away from what initialisation gives."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator) * 0.01
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return net.eval()


def content(net, name, pair=(0, 1), size=224, **changes):
    return {
        "model_state_dict": net.state_dict(),
        "class_pair": pair,
        "model_name": name,
        "best_val_accuracy": np.float64(92.5),
        "train_accuracies": [80.0, np.float64(91.0)],
        "val_accuracies": [np.float64(85.0), np.float64(92.5)],
        "train_losses": [0.5, 0.3],
        "val_losses": [0.6, np.float32(0.25)],
        "val_auc": np.float64(0.97),
        "config": {"data": {"img_size": size, "enable_clahe": True, "clahe_clip_limit": 2.5}},
        **changes,
    }


def earlier_pixels(path, size):
    """The earlier trainer's pixels, with OpenCV and torchvision."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(2.5, (8, 8)).apply(lab[..., 0])
    image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    resize = v2.Resize((size, size), InterpolationMode.BILINEAR, antialias=True)
    tensor = v2.functional.to_dtype(
        v2.functional.pil_to_tensor(resize(v2.functional.to_pil_image(image))),
        torch.float32,
        scale=True,
    )
    normalise = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return normalise(tensor)[None]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module.module."])
def test_a_checkpoint_saved_under_data_parallel_is_the_same(tmp_path, prefix):
    net = shaken(EarlierNet("resnet50"))
    whole = content(net, "resnet50")
    wrapped = {prefix + key: value for key, value in net.state_dict().items()}
    for name, state in (("plain", net.state_dict()), ("wrapped", wrapped)):
        torch.save(whole | {"model_state_dict": state}, tmp_path / f"{name}.pth")
    plain, found = (load_pair(tmp_path / f"{name}.pth") for name in ("plain", "wrapped"))
    assert found.stages.keys() == plain.stages.keys() and found.classifier.keys()
    assert all(torch.equal(found.stages[key], plain.stages[key]) for key in plain.stages)
    restore_pair(found, "wrapped.pth")
    assert found.preprocessing == plain.preprocessing and found.preprocessing.version == 1


@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "efficientnetb2",
        "resnet50",
        "seresnext50_32x4d",
        "coatnet_0_rw_224",
        "convnext_tiny",
    ],
)
def test_gives_the_earlier_network_s_logits(name, demo, tmp_path):
    torch.manual_seed(1)  # a network drawn by chance may say next to nothing
    net = shaken(EarlierNet(name))
    path = tmp_path / f"best_{name}_1_3.pth"
    torch.save(content(net, name, (1, 3)), path)
    classifier = restore_pair(load_pair(path), str(path))
    preprocessing = classifier.checkpoint.preprocessing
    assert classifier.checkpoint.head.classes == (1, 3) and preprocessing.clahe_clip_limit == 2.5
    image = next((demo / "test" / "3").iterdir())
    pixels = load_pixels(image, preprocessing)[None].copy()  # torch wants its own
    with torch.no_grad():
        expected = net(earlier_pixels(image, 224)).item()
        features = trunk_features(
            classifier.trunk, pixels, preprocessing, torch.device("cpu"), "fp32"
        )
        assert classifier.branch(features).item() == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-3


def with_data(**data):
    """A checkpoint of two small tensors whose configuration has these settings of the data."""
    small = {"backbone.a": torch.zeros(1), "classifier.1.weight": torch.zeros(1)}
    found = content(nn.Module(), "resnet50", model_state_dict=small)
    found["config"]["data"].update(data)
    return found


def pixels_with(image, tmp_path, **data):
    torch.save(with_data(**data), tmp_path / "best_resnet50_0_1.pth")
    found = load_pair(tmp_path / "best_resnet50_0_1.pth").preprocessing
    return found, load_pixels(image, found)


@pytest.mark.parametrize("tiles", [4, (4, 4), [16, 16]])
def test_the_earlier_clahe_tiles_are_those_of_the_pixels(demo, tmp_path, tiles):
    image = next((demo / "test" / "3").iterdir())
    number = tiles if isinstance(tiles, int) else tiles[0]
    found, pixels = pixels_with(image, tmp_path, clahe_tile_grid_size=tiles, img_size=[64, 64])
    lab = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2LAB)
    lab[..., 0] = cv2.createCLAHE(2.5, (number, number)).apply(lab[..., 0])
    whole = v2.functional.to_pil_image(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
    expected = v2.Resize((64, 64), InterpolationMode.BILINEAR, antialias=True)(whole)
    assert np.abs(np.asarray(expected).astype(int) - pixels).max() <= 1
    usual, eight = pixels_with(image, tmp_path, img_size=64)
    assert np.abs(eight.astype(int) - pixels).max() > 10
    assert found.cache_key() != usual.cache_key()
    stated, _ = pixels_with(image, tmp_path, img_size=64, clahe_tile_grid_size=(8, 8))
    assert stated.cache_key() == usual.cache_key(), "what was cached stays of use"


def test_the_earlier_mean_deviation_and_interpolation_are_followed(demo, tmp_path):
    image = next((demo / "test" / "3").iterdir())
    given = {"mean": [0.5] * 3, "std": (0.25,) * 3, "interpolation": "BICUBIC", "img_size": 64}
    found, pixels = pixels_with(image, tmp_path, **given, enable_clahe="false")
    assert (found.mean, found.std, found.enable_clahe) == ((0.5,) * 3, (0.25,) * 3, False)
    _, plain = pixels_with(image, tmp_path, img_size=64, enable_clahe=False)
    assert not np.array_equal(pixels, plain), "by another interpolation"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"clahe_tile_grid_size": (8, 4)}, "CLAHE tiles (8, 4): expected as many"),
        ({"clahe_tile_grid_size": 0}, "1 to 64 tiles"),
        ({"interpolation": "nearest"}, "expected interpolation"),
        ({"crop_black_borders": True}, "its pixels were made with crop_black_borders True"),
        ({"normalize": False}, "its pixels were made with normalize False"),
        ({"num_classes": 1}, "of 1 classes"),
    ],
)
def test_what_the_earlier_pixels_cannot_be_made_of_is_one_line(tmp_path, data, said):
    path = tmp_path / "best_resnet50_0_1.pth"
    torch.save(with_data(**data), path)
    with pytest.raises(CheckpointError, match="incomplete earlier checkpoint") as caught:
        load_pair(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_settings_of_the_earlier_training_alone_change_nothing(tmp_path):
    path = tmp_path / "best_resnet50_0_1.pth"
    found = []
    for data in ({}, {"rotation_range": 30, "random_resized_crop": True, "normalize": True}):
        torch.save(with_data(**data), path)
        found.append(load_pair(path).preprocessing)
    assert found[0] == found[1]


def test_the_earlier_number_of_classes_is_that_of_the_model(tmp_path):
    path = tmp_path / "best_resnet50_0_1.pth"
    for data, count in (({}, 5), ({"num_classes": 3}, 3)):
        torch.save(with_data(**data), path)
        assert len(load_pair(path).class_names) == count


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A result directory that the earlier trainer left behind, at a small input size."""
    root = tmp_path_factory.mktemp("earlier") / "densenet121_5class_results"
    (root / "models").mkdir(parents=True)
    net = shaken(EarlierNet("densenet121"))
    for a, b in class_pairs(5):
        path = root / "models" / f"best_densenet121_{a}_{b}.pth"
        torch.save(content(net, "densenet121", (a, b), 64), path)
    return root


def test_a_directory_of_it_is_used_as_it_is(earlier, demo, shared_cache, tmp_path):
    for grade in range(5):
        (tmp_path / str(grade)).mkdir()
        shutil.copy(next((demo / "test" / str(grade)).iterdir()), tmp_path / str(grade))

    run = find_run(ResultDir(earlier))
    assert (run.model, run.num_classes, run.head) == ("densenet121", 5, "ovo")
    member = load_model(run)
    assert np.allclose(member.pair_accuracies, 0.925)
    config = PredictionConfig(shared_cache, 1, torch.device("cpu"), "fp32")
    found = predict_run(run, scan_split(tmp_path, "test"), config)
    assert found.pair_probabilities.shape == (5, 10)
    assert np.ptp(found.pair_probabilities, axis=1).max() < 1e-6, "ten times the same network"


def test_it_is_analysed_like_any_other(earlier, tmp_path, capsys):
    assert model_analyzer.main(["--model", str(earlier), "--output_dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "10 of 10 classifiers of pairs are above 90 %" in said and "densenet121" in said
    rows = json.loads((tmp_path / "model_analysis.json").read_text())["classifiers"]
    assert rows[0]["val_accuracy"] == 0.925 and rows[0]["sensitivity"] is None
    assert rows[0]["overfitting_gap"] == pytest.approx(0.91 - 0.925)


def test_its_record_is_read_in_shares(earlier):
    found = load_pair(earlier / "models" / "best_densenet121_0_1.pth")
    assert found.val_accuracy == 0.925 and found.best_epoch == 2
    assert found.best.validation.auc == 0.97
    assert [row.train_accuracy for row in found.history] == [0.8, 0.91]
    assert np.isnan(found.best.validation.sensitivity)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {}},
        {"class_pair": "x"},
        {"model_state_dict": {"other.weight": torch.zeros(1)}},
        {"best_val_accuracy": None},
    ],
)
def test_an_incomplete_one_is_named(change, tmp_path):
    small = {"backbone.a": torch.zeros(1), "classifier.1.weight": torch.zeros(1)}
    values = content(nn.Module(), "resnet50") | {"model_state_dict": small} | change
    torch.save(values, tmp_path / "best_resnet50_0_1.pth")
    with pytest.raises(CheckpointError, match="incomplete earlier checkpoint"):
        load_pair(tmp_path / "best_resnet50_0_1.pth")


def test_foreign_weights_are_an_input_error(tmp_path):
    path = tmp_path / "best_resnet50_0_1.pth"
    small = {"backbone.a": torch.zeros(1), "classifier.1.weight": torch.zeros(1)}
    torch.save(content(nn.Module(), "resnet50") | {"model_state_dict": small}, path)
    with pytest.raises(InputError, match="not a usable pair checkpoint"):
        restore_pair(load_pair(path), str(path))


def test_numpy_objects_other_than_scalars_are_refused(tmp_path):
    path = tmp_path / "best_resnet50_0_1.pth"
    torch.save({"model_state_dict": {}, "class_pair": np.array([{"a": 1}], dtype=object)}, path)
    with pytest.raises(CheckpointError, match="unreadable"):
        load_pair(path)
