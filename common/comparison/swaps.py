"""Whether two models differ: their predictions change places, image by image or patient by patient.

U units (patients, or images), C sums, T tests, R draws.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from common.comparison.sums import Paired, Units
from common.metrics.intervals import sums_by_patient
from common.system.random_streams import random_generator

_VALUES = 4_000_000  # of a block of draws, to bound the memory
_CLEAR = 200  # draws with a difference as large, after which p is known well enough
_FIRST = 400  # draws of the first block; each next one doubles them
_TOLERANCE = 1e-9  # sums in another order differ by less


def sign_flip_p(differences: np.ndarray) -> float:
    """Return the exact two-sided p of whole numbers (U,) that are as likely of either sign.

    How many more of a patient's images one model gets right than another. With one image each this
    is McNemar's exact test (1947). The sum's distribution is the convolution of binomial ones, one
    for each size of a difference.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    chances = np.ones(1)  # of 0, 1, 2, ... images that the first model alone gets right
    for size, count in zip(sizes.astype(int), counts):
        spread = np.zeros(size * count + 1)
        spread[::size] = _of_a_coin(int(count))
        chances = spread if len(chances) == 1 else _convolve(chances, spread)
    right_alone = np.arange(len(chances))
    total = len(chances) - 1
    extreme = np.abs(2 * right_alone - total) >= abs(int(differences.sum()))
    return float(np.clip(chances[extreme].sum(), 0, 1))


def _of_a_coin(throws: int) -> np.ndarray:
    """Return the chances (throws + 1,) of so many heads of a fair coin, from whole numbers."""
    chances, ways, all_ways = [], 1, 2**throws
    for heads in range(throws + 1):
        chances.append(ways / all_ways)
        ways = ways * (throws - heads) // (heads + 1)
    return np.array(chances)


def _convolve(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Convolve distributions through their Fourier transforms."""
    from scipy.signal import fftconvolve

    return fftconvolve(one, other)


def swap_p_values(paired: Sequence[Paired], units: Units, draws: int, seed: int) -> np.ndarray:
    """Return the two-sided p (T,) of each difference under exchanged predictions.

    Each draw exchanges both models' predictions of half of the units, the same for all tests; p =
    (1 + draws with a difference as large) / (1 + draws), which holds for any number of draws
    (Phipson & Smyth 2010). A test with many such draws is clear before the others and ends (Besag
    & Clifford 1991). With so few units that there are no more exchanges than draws, each is made
    once and p is exact. NaN where there is no difference to test.
    """
    observed = np.array([abs(one.difference) for one in paired])
    half = [np.nan_to_num(sums_by_patient(one.first - one.other, units)) / 2 for one in paired]
    moving = [np.flatnonzero(own.any(0)) for own in half]  # the other sums are both models' own
    centres = [(one.first + one.other).sum(0) / 2 for one in paired]
    reached, made = np.zeros(len(paired)), np.zeros(len(paired))
    open_tests = [test for test in range(len(paired)) if not np.isnan(observed[test])]
    count = int(units.max(initial=0)) + 1
    exact = count - 1 <= math.log2(max(draws, 1))
    for signs in _every_sign(count) if exact else _drawn_signs(count, draws, seed):
        if not open_tests:
            break
        ends = np.cumsum([len(moving[test]) for test in open_tests])
        moved = signs @ np.concatenate([half[test][:, moving[test]] for test in open_tests], axis=1)
        for test, sums in zip(open_tests, np.split(moved, ends[:-1], axis=1)):
            one, centre = paired[test], centres[test]
            part = np.zeros((len(signs), len(centre)))
            part[:, moving[test]] = sums
            found = np.abs(one.metric(centre + part) - one.metric(centre - part))
            reached[test] += (~(found < observed[test] - _TOLERANCE)).sum()
            made[test] += len(signs)
        open_tests = [test for test in open_tests if exact or reached[test] < _CLEAR]
    more = 0 if exact else 1
    return np.where(np.isnan(observed), np.nan, (reached + more) / np.maximum(made + more, 1))


def _every_sign(units: int) -> Iterator[np.ndarray]:
    """Yield, in one block, all +1 and -1 of units (2^(units - 1), units) that begin with +1.

    The others are their negatives, of the same size.
    """
    numbers = np.arange(2 ** (units - 1))[:, None] >> np.arange(units - 1)
    yield np.hstack([np.ones((len(numbers), 1)), 1.0 - 2.0 * (numbers & 1)])


def _drawn_signs(units: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield +1 and -1 at random, (block, units), each block as large as all before it."""
    generator = random_generator("exchanged models", seed)
    made, most = 0, max(1, _VALUES // units)
    while made < draws:
        block = min(most, draws - made, max(_FIRST, made))
        bits = np.frombuffer(generator.bytes(block * -(-units // 8)), dtype=np.uint8)
        yield 2.0 * np.unpackbits(bits.reshape(block, -1), axis=1, count=units) - 1.0
        made += block
