"""Who is on which image: usual names of files, what is none of them, what has precedence."""

import numpy as np
import pytest

from common.data.patients import recognise_patients
from common.metrics.intervals import BootstrapConfig
from common.system.errors import InputError

EYEPACS = r"(\d+)_(left|right)"  # the default before there were several schemes


def named(pattern, patients=45, **fields):
    """Fill a pattern such as "{n}_{eye}" for every patient and every value of its other field."""
    (field, values), *_ = [*fields.items(), ("", [""])]
    return [pattern.format(n=n, **{field: value}) for n in range(patients) for value in values]


SCHEMES = {
    "n_left/n_right": named("train/0/{n}_{eye}.jpeg", eye=("left", "right")),
    "left_n/right_n": named("photo_{eye}_{n:03}.jpg", eye=("left", "right")),
    "n_OD/n_OS": named("P{n:04}_{eye}_20190101.jpg", eye=("OD", "OS")),
    "OD_n/OS_n": named("{eye} {n}.png", eye=("OD", "OS")),
    "n_OD/n_OI": named("{n}{eye}.png", eye=("OD", "OI")),
    "n_OD/n_OG": named("Zoé {n} {eye}.png", eye=("OD", "OG")),
    "n_LE/n_RE": named("{n}-{eye}.png", eye=("LE", "RE")),
    "n_L/n_R": named("{n}_{eye}.jpg", eye=("l1", "l2", "r1", "r2")),
    "patient n": named("Patient{n:02} - {k}.jpg", k=(1, 2)),
    "patient.number": named("{n}.{k}.jpg", k=(1, 2, 3, 4)),
    "patient_number": named("{n:04}_{k}.jpg", k=(1, 2)),
    "patient/": named("valid/2/P{n}/IMG_7{k}.jpg", k=(11, 12)),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_usual_scheme_is_recognised_and_named(scheme):
    ids = SCHEMES[scheme]
    found = recognise_patients(ids)
    assert found.recognised and found.known.all()
    assert found.evidence == f"45 patients in {len(ids)} names by '{scheme}'"
    of_each = len(ids) // 45
    assert found.clusters is not None
    assert np.unique(found.groups.reshape(45, of_each), axis=1).shape == (45, 1), "none is torn"
    assert len(np.unique(found.groups)) == 45, "no two are one"


@pytest.mark.parametrize(
    "ids",
    [
        named("img_{n}.jpg", 900),
        named("IDRiD_{n:03}.jpg", 413),
        named("Mild ({n}).jpg", 90),
        named("{grade}_{n}.jpg", 30, grade=range(5)),  # the grade and a running number
        named("set{part}_{n:02}.jpg", 50, part=range(1, 10)),
        named("photo_left_{n:03}.jpg", 90),  # one eye only
        [f"photo_{'left' if n % 2 else 'right'}_{n:03}.jpg" for n in range(90)],
        [f"{n:04}_{n % 3}.jpg" for n in range(90)],
        named("201901{n:02}_{k}.jpg", 28, k=range(1, 5)),  # days
        [f"{n}.jpg" for n in range(50)] + named("{n}_{k}.jpg", 50, k=(1, 2)),  # copies
        [f"{7919 * n % 2**32:012x}.png" for n in range(500)],
        ["7_left.jpg", "7_right.jpg"],
        [],
    ],
)
def test_what_is_no_patient_s_name_is_not_taken_for_one(ids):
    found = recognise_patients(ids)
    assert not found.recognised and found.clusters is None
    assert found.evidence == f"no patient recognised in {len(ids)} names"
    assert len(np.unique(found.groups)) == len(ids)


def test_copies_visits_and_unusual_spellings_are_the_same_patient():
    names = [
        "7_left.jpg",
        "aug_7_RIGHT_flip2.PNG",
        "a/7_leftEye (2).jpg",
        "7_v2_right.jpg",
        "8.jpg",
    ]
    groups = recognise_patients(names).groups
    assert len(set(groups[:4])) == 1 and groups[4] != groups[0]
    ends_in_a_digit = ["9f31_left.jpg", "9f31_right.jpg", "1d31_left.jpg", "1d31_right.jpg"]
    assert len(set(recognise_patients(ends_in_a_digit).groups)) == 2


def test_a_patient_s_folder_is_part_of_the_name():
    ids = named("train/2/P{n}/{eye}.jpg", eye=("left", "right", "left 2"))
    assert recognise_patients(ids).evidence == "45 patients in 135 names by 'n_left/n_right'"
    sites = named("2/site{k}/IMG_{n}.jpg", k=range(9))
    assert not recognise_patients(sites).recognised, "45 images each"


def test_a_dataset_of_several_sources_may_have_several_schemes():
    ids = [*SCHEMES["n_left/n_right"], *SCHEMES["patient.number"], "IDRiD_001.jpg"]
    found = recognise_patients(ids)
    assert found.evidence == (
        "45 patients in 90 of 271 names by 'n_left/n_right'; "
        "45 patients in 180 of 271 names by 'patient.number'"
    )
    assert len(np.unique(found.groups)) == 91, "7_left and 7.1 need not be one person"


def test_eyepacs_names_are_numbered_as_ever():
    ids = [*SCHEMES["n_left/n_right"], "x.jpg"]
    assert (recognise_patients(ids).groups == recognise_patients(ids, EYEPACS).groups).all()


def test_a_pattern_of_one_s_own_is_followed_to_the_letter():
    ids = ["test/0/10_left.jpeg", "test/1/10_right.jpeg", "test/0/11_left.jpeg", "test/0/x.jpg"]
    found = recognise_patients(ids, EYEPACS)
    assert found.groups[0] == found.groups[1] and len(set(found.groups)) == 3
    assert found.evidence == r"2 patients in 3 of 4 names by '(\d+)_(left|right)'"
    assert recognise_patients(ids[1:], EYEPACS).clusters is None
    numbers = recognise_patients(["a/10.jpg", "b/1.jpg", "c/2.jpg"], r"(1)").groups
    assert numbers.tolist() == [1, 1, 0]
    nobody = recognise_patients(ids, "(x)?left")
    assert not nobody.recognised, "an empty group names nobody"
    assert nobody.evidence == "no patient recognised in 4 names by --patient_regex '(x)?left'"
    for pattern in ("(", "left", "(j)"):
        with pytest.raises(InputError, match="--patient_regex"):
            recognise_patients(ids, pattern)


class Table:
    """A table that knows some patients."""

    def __init__(self, **patients):
        self.patients = patients

    def column(self, name, ids):
        assert name == "patient"
        return [self.patients.get(id_, "") for id_ in ids]


def test_images_of_unknown_patient_count_by_themselves_and_are_no_patients():
    found = recognise_patients(["1_left", "1_right", "2_left", "2_right", "x", "y"])
    assert len(np.unique(found.clusters)) == 4 and (found.clusters < 0).sum() == 2
    said = BootstrapConfig(groups=found.clusters).units(6)
    assert said == "2 patients and 2 images of unknown patient"
    assert BootstrapConfig(groups=found.clusters[:4]).units(4) == "2 patients"


def test_a_table_has_precedence_over_names():
    ids = ["1_left", "1_right", "2_left", "2_right", "x", "y"]
    found = recognise_patients(ids, metadata=Table(**{"1_left": "A", "x": "A", "1_right": " "}))
    assert found.groups[0] == found.groups[4] != found.groups[1]
    assert found.groups[2] == found.groups[3] and not found.known[5]
    assert found.evidence.startswith("1 patient in 2 of 6 names by metadata.csv; ")


def test_patients_of_whom_few_have_a_second_image_are_recognised():
    names = [f"{n:04}_1.jpg" for n in range(1, 51)] + [f"{n:04}_2.jpg" for n in range(1, 13)]
    found = recognise_patients(names)
    assert found.evidence == "50 patients in 62 names by 'patient_number'"
