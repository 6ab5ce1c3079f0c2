"""Predicting altered photographs: the usual path, all members, nothing in the pixel cache."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.folders import scan_split
from common.pixels.preprocessing import load_pixels
from common.prediction import altered
from common.prediction.alterations import ALTERATIONS, Alteration, chosen_alterations
from common.prediction.altered import Predicted, altered_pixels, predict_altered
from common.prediction.predict import PredictionConfig, predict_run
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError
from common.trained_networks.loading import pixels_of

CPU = torch.device("cpu")
NOTHING = Alteration("nothing", "left as it is", lambda photo: photo.pixels)
TWO = chosen_alterations(["darker", "rotation"])


@pytest.fixture(scope="module")
def before(trained, demo, shared_cache):
    """What the tiny model says of the test photographs as they are."""
    run, config = find_run(ResultDir(trained)), PredictionConfig(shared_cache, 2, CPU, "fp32")
    return Predicted(run, predict_run(run, scan_split(demo, "test"), config))


@pytest.fixture
def config(tmp_path):
    return PredictionConfig(tmp_path / "cache", 2, CPU, "fp32")


def test_photographs_that_are_left_as_they_are_give_the_predictions_of_before(before, demo, config):
    split = scan_split(demo, "test")
    found = predict_altered([before], split, [NOTHING, *TWO], config)
    assert list(found) == ["nothing", "darker", "rotation"]
    same = found["nothing"][0]
    assert np.allclose(same.pair_probabilities, before.pairs.pair_probabilities, atol=1e-6)
    assert np.array_equal(same.targets, before.pairs.targets)
    other = found["darker"][0].pair_probabilities
    assert np.abs(other - before.pairs.pair_probabilities).max() > 1e-4
    views = replace(before, pairs=predict_run(before.run, split, replace(config, tta="flips")))
    averaged = predict_altered([views], split, [NOTHING], config)["nothing"][0].pair_probabilities
    assert np.allclose(averaged, views.pairs.pair_probabilities, atol=1e-6), "over the same views"
    assert np.abs(averaged - before.pairs.pair_probabilities).max() > 1e-4


def test_pixels_take_the_usual_path(before, demo):
    wanted, path = pixels_of(before.run), scan_split(demo, "test").paths[3]
    others = replace(wanted, img_size=32, version=1)
    found = altered_pixels(path, [NOTHING, *TWO], [wanted, others])
    assert [each.shape for each in found] == [
        (3, *load_pixels(path, p).shape) for p in (wanted, others)
    ]
    for each, preprocessing in zip(found, (wanted, others)):
        assert np.array_equal(each[0], load_pixels(path, preprocessing))
        assert not np.array_equal(each[1], each[0])


def test_sixteen_bits_and_dicom_are_altered_like_others(before, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    wanted = pixels_of(before.run)
    grey = (np.linspace(0, 60000, 64 * 64).reshape(64, 64)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    file.Rows = file.Columns = 64
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.PixelData = (grey >> 8).astype(np.uint8).tobytes()
    file.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    for name in ("deep.png", "scan.dcm"):
        (found,) = altered_pixels(tmp_path / name, [NOTHING, *ALTERATIONS], [wanted])
        assert np.array_equal(found[0], load_pixels(tmp_path / name, wanted))
        assert len(found) == 1 + len(ALTERATIONS)


def test_a_run_that_was_killed_goes_on_and_comes_to_the_same(before, demo, config, monkeypatch):
    split = scan_split(demo, "test")
    whole = predict_altered([before], split, TWO, config)
    shutil.rmtree(config.cache_dir)
    monkeypatch.setattr(altered, "_MOST_IMAGES", 7)  # three parts
    predict_part, parts = altered._predict_part, []

    def killed_in_the_second(models, images, *rest):
        parts.append(len(images))
        if len(parts) == 2:
            raise KeyboardInterrupt
        return predict_part(models, images, *rest)

    monkeypatch.setattr(altered, "_predict_part", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        predict_altered([before], split, TWO, config)
    again = predict_altered([before], split, TWO, config)
    assert parts == [7, 7, 7, 6]  # the first part is not predicted again
    for name, (found,) in again.items():
        expected = whole[name][0].pair_probabilities
        assert np.allclose(found.pair_probabilities, expected, atol=1e-6)


def test_nothing_is_kept_in_the_pixel_cache_and_what_is_kept_is_used(
    before, demo, config, monkeypatch, capsys
):
    split = scan_split(demo, "test")
    first = predict_altered([before], split, TWO, config)
    assert "robustness: 2 alterations of 20 images, 1 model: about" in capsys.readouterr().out
    assert not list(config.cache_dir.rglob("*.u8"))
    monkeypatch.setattr(altered, "_alter_all", None)
    again = predict_altered([before], split, TWO, config)
    for name in first:
        kept = again[name][0].pair_probabilities
        assert np.array_equal(kept, first[name][0].pair_probabilities)
    others = replace(before.pairs, origin=replace(before.pairs.origin, checkpoints="other"))
    with pytest.raises(TypeError):  # other classifiers are asked anew
        predict_altered([replace(before, pairs=others)], split, TWO, config)


def test_what_is_damaged_is_predicted_again(before, demo, config, capsys):
    split = scan_split(demo, "test")
    first = predict_altered([before], split, TWO, config)
    for path in config.cache_dir.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    again = predict_altered([before], split, TWO, config)
    assert "predicted again" in capsys.readouterr().out
    assert np.array_equal(
        again["darker"][0].pair_probabilities, first["darker"][0].pair_probabilities
    )


def test_all_members_of_an_ensemble_see_the_same_alterations(
    before, trained_swin, demo, shared_cache, config
):
    split, usual = scan_split(demo, "test"), PredictionConfig(shared_cache, 2, CPU, "fp32")
    run = find_run(ResultDir(trained_swin))
    swin = Predicted(run, predict_run(run, split, usual))
    both = predict_altered([before, swin], split, TWO, config)["rotation"]
    alone = predict_altered([swin], split, TWO, replace(config, cache_dir=config.cache_dir / "b"))
    assert np.array_equal(both[1].pair_probabilities, alone["rotation"][0].pair_probabilities)
    assert [found.model for found in both] == [before.pairs.model, swin.pairs.model]


def test_a_photograph_that_has_gone_is_named(before, demo, config, tmp_path):
    root = shutil.copytree(demo / "test", tmp_path / "set" / "test").parent
    split = scan_split(root, "test")
    split.paths[4].unlink()
    with pytest.raises(InputError, match=f"--robustness: .*{split.paths[4].name}.*cannot be read"):
        predict_altered([before], split, TWO, config)
