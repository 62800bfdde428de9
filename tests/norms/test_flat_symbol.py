"""flat_bounds: of symbols that vary little, and of any other."""

import numpy as np
import pytest

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import refined_bounds
from keras_sn.norms.flat_symbol import flat_bounds
from keras_sn.norms.gram_symbol import GramSymbol


def sampled_norm(taps, points=24):
    """The largest norm on a fine grid, by numpy's FFT and SVD."""
    axes = tuple(range(1, taps.ndim - 2))
    symbol = np.fft.fftn(taps, s=(points,) * len(axes), axes=axes)
    return np.linalg.norm(symbol, 2, axis=(-2, -1)).max()


def paraunitary(rng, channels, taps):
    """A filter of one axis that is unitary at every frequency."""
    kernel = np.linalg.qr(rng.standard_normal((channels, channels)))[0][None]
    for _ in range(taps - 1):
        shape = (channels, channels // 2)
        basis = np.linalg.qr(rng.standard_normal(shape))[0]
        projection = basis @ basis.T
        wait = np.pad(kernel, ((0, 1), (0, 0), (0, 0)))
        move = np.pad(kernel, ((1, 0), (0, 0), (0, 0)))
        kernel = wait @ projection + move @ (np.eye(channels) - projection)
    return kernel


@pytest.mark.parametrize("seed", range(8))
def test_brackets_any_symbol(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 4, rng.integers(1, 3)))
    groups, rows, columns = (int(n) for n in rng.integers(1, 5, 3))
    taps = rng.standard_normal((groups, *size, rows, columns))
    bounds = flat_bounds(GramSymbol(Symbol(taps)))
    norm = sampled_norm(taps)
    assert bounds.lower <= norm * (1 + 1e-12)
    assert norm <= bounds.upper * (1 + 1e-12)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
@pytest.mark.parametrize("columns", [3, 6])
def test_flat_symbols_are_bounded_as_far_as_they_are_flat(noise, columns):
    rng = np.random.default_rng(0)
    taps = paraunitary(rng, 6, 4)[..., :columns]
    taps = taps + noise * rng.standard_normal(taps.shape)
    bounds = refined_bounds(Symbol(taps[None]), rtol=1e-2)
    norm = sampled_norm(taps[None], points=512)
    assert bounds.lower <= norm * (1 + 1e-12)
    assert norm <= bounds.upper * (1 + 1e-12)
    assert bounds.gap <= 1e-10 + 100 * noise


def test_others_are_refined_as_before():
    """A symbol far from flat, whose mean says little of its norm."""
    taps = np.ones((1, 3, 1, 1))
    assert flat_bounds(GramSymbol(Symbol(taps))).gap > 0.3
    assert refined_bounds(Symbol(taps), rtol=1e-3).gap <= 1e-3
