"""What is kept of a picture to recognise it elsewhere."""

import numpy as np
import pytest

from common.data.synthetic import draw_fundus
from common.duplicates.agreement import agree
from common.duplicates.local_features import local_features, structure_of
from common.duplicates.signatures import NOTHING, signature_of
from common.inspection.image_statistics import cut_out_retina
from common.system.random_streams import random_generator


def retina(seed=0, size=256):
    return cut_out_retina(draw_fundus(2, random_generator("signatures", seed), size)).crop


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (7, 5, 3), (300, 2, 3), (64, 64, 3)])
@pytest.mark.parametrize("level", [0, 255, 128])
def test_a_picture_without_structure_has_empty_arrays(shape, level):
    signature = signature_of(np.full(shape, level, dtype=np.uint8))
    assert not signature.has_structure
    assert all(array.size == 0 for array in vars(signature).values())
    assert not agree(signature, signature).same_eye


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 90, 3), (33, 21, 3), (200, 300, 3)])
def test_noise_of_any_shape_is_no_eye(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert not agree(signature_of(noise), signature_of(retina())).same_eye


def test_a_signature_has_the_types_it_states():
    signature = signature_of(retina())
    count = len(signature.points)
    assert 50 < count <= 400
    assert {name: (array.dtype.name, array.shape) for name, array in vars(signature).items()} == {
        "sketch": ("int8", (64, 64)),
        "hashes": ("uint8", (8, 32)),
        "view": ("int8", (96, 96)),
        "points": ("float32", (count, 2)),
        "descriptors": ("uint8", (count, 128)),
    }
    assert sum(array.nbytes for array in vars(signature).values()) < 70_000
    assert signature.view[0, 0] == NOTHING and signature.view[48, 48] != NOTHING


def test_equal_pictures_have_equal_signatures():
    first, second = signature_of(retina()), signature_of(retina())
    for name, array in vars(first).items():
        np.testing.assert_array_equal(array, getattr(second, name))


def test_mirrored_features_are_those_of_the_mirrored_picture():
    picture = retina(1)
    expected = local_features(structure_of(np.ascontiguousarray(picture[:, ::-1])))
    features = local_features(structure_of(picture))
    found = features.mirrored()
    apart = np.linalg.norm(found.points[:, None] - expected.points[None], axis=2)

    def alike(descriptors):  # at the same place; a point may have several directions
        unlike = np.linalg.norm(descriptors[:, None].astype(float) - expected.descriptors, axis=2)
        return ((apart < 1) & (unlike < 100)).any(axis=1).mean()

    assert alike(found.descriptors) > 0.65 > 0.1 > alike(features.descriptors)


def test_points_keep_away_from_the_edge_of_the_disc():
    for seed in range(3):
        features = local_features(structure_of(retina(seed)))
        assert np.hypot(*features.points.T).max() < 0.94 * 384 / 2
