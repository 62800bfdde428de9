"""The subspace that follows a small matrix, against numpy's decomposition."""

import numpy as np
import pytest
from keras import ops

from keras_sn.fast_ops import orthonormal
from keras_sn.linear_maps import ArrayWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.norms.subspace_tracking import SubspaceTracker
from keras_sn.norms.tracking import FRESH
from tests.truth import spectral_norm
from tests.truth import to_numpy


def with_singular_values(norms, shape, seed=0):
    matrix = np.random.default_rng(seed).standard_normal(shape)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return ((left * norms) @ right).astype("float32")


def off_from_orthonormal(rows):
    rows = to_numpy(rows).astype("float64")
    return np.abs(rows @ rows.T - np.eye(len(rows))).max()


@pytest.mark.parametrize("columns", [16, 100])
@pytest.mark.parametrize("condition", [1, 1e2, 1e4, 1e6])
def test_nearly_dependent_rows_become_orthonormal(columns, condition):
    """Rounds of Gram-Schmidt for all rows at once left 1.0 here."""
    rows = with_singular_values(
        np.geomspace(1, 1 / condition, 16), (16, columns)
    )
    basis = orthonormal(ops.convert_to_tensor(rows))
    # Row by row they span the same, so each is orthogonal to those after it.
    coordinates = rows.astype("float64") @ to_numpy(basis).T
    assert np.abs(np.triu(coordinates, 1)).max() <= 1e-4
    assert (np.diagonal(coordinates) > 0).all()
    # What is not orthonormal yet is too short: it makes no norm larger.
    assert spectral_norm(to_numpy(basis)) <= 1 + 1e-5
    if condition <= 1e2:
        assert off_from_orthonormal(basis) <= 1e-4
    for _ in range(2):
        basis = orthonormal(basis)
    assert off_from_orthonormal(basis) <= 1e-5


@pytest.mark.parametrize(
    ("shape", "smallest"),
    [((32, 16), 0.9), ((32, 16), 1e-3), ((64, 100), 1e-5), ((16, 16), 1e-3)],
)
def test_the_state_stays_a_subspace_and_its_largest_norm(shape, smallest):
    """Wrong bases made the norm of Dense(16) up to 19 percent too small."""
    count = min(shape)
    matrix = with_singular_values(np.geomspace(1, smallest, count), shape)
    other = with_singular_values(np.geomspace(1, smallest, count), shape, 1)
    tracker = SubspaceTracker(MatrixMap(ArrayWeight(matrix)))
    state = [
        ops.convert_to_tensor(s.astype("float32")) for s in tracker.start()
    ]
    for step in range(40):
        moved = matrix + 0.01 * step * other
        values = (ops.convert_to_tensor(moved.astype("float32")),)
        sigma, state = tracker.follow(state, values)
        u, v, basis, _ = [to_numpy(part) for part in state]
        assert off_from_orthonormal(basis) <= 1e-4
        assert off_from_orthonormal(v) <= 1e-5
        assert off_from_orthonormal(u) <= 1e-5
        exact = np.linalg.norm(moved, 2)
        assert float(sigma) == pytest.approx(exact, rel=2e-3), step
    values = (ops.convert_to_tensor(moved.astype("float32")),)
    for _ in range(5):
        sigma, state = tracker.follow(state, values)
    assert float(sigma) == pytest.approx(exact, rel=2e-4)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_a_weight_without_a_direction_keeps_its_state(fill):
    array = np.full((40, 20), fill, "float32")
    tracker = SubspaceTracker(MatrixMap(ArrayWeight(array)))
    start = [
        ops.convert_to_tensor(s.astype("float32")) for s in tracker.start()
    ]
    assert all(np.isfinite(to_numpy(part)).all() for part in start)
    sigma, state = tracker.follow(start, (ops.convert_to_tensor(array),))
    np.testing.assert_equal(float(sigma), fill)
    for part, before in zip(state, start, strict=True):
        np.testing.assert_array_equal(to_numpy(part), to_numpy(before))


def test_it_finds_its_way_from_a_state_of_nothing():
    start = SubspaceTracker(MatrixMap(ArrayWeight(np.zeros((40, 20))))).start()
    matrix = with_singular_values(np.linspace(1, 0.1, 20), (40, 20))
    tracker = SubspaceTracker(MatrixMap(ArrayWeight(matrix)))
    state = [ops.convert_to_tensor(s.astype("float32")) for s in start]
    for _ in range(10):
        sigma, state = tracker.follow(state, (ops.convert_to_tensor(matrix),))
    assert float(sigma) == pytest.approx(1, rel=1e-3)


def test_rows_that_are_too_short_make_no_norm_smaller():
    matrix = with_singular_values(np.geomspace(1, 1e-2, 16), (32, 16))
    tracker = SubspaceTracker(MatrixMap(ArrayWeight(matrix)))
    state = [s.astype("float32") for s in tracker.start()]
    state[2] = 0.5 * state[2]
    state = [ops.convert_to_tensor(part) for part in state]
    values = (ops.convert_to_tensor(matrix),)
    age = ops.convert_to_tensor(np.float32(FRESH))
    sigma, stale = tracker._look(state, values, age)
    assert not bool(to_numpy(stale))
    assert float(sigma) == pytest.approx(1, rel=1e-3)
