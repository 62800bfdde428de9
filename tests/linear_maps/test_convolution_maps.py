"""Operator maps of convolutions against the dense matrices of real layers."""

import math

import numpy as np
import pytest
from keras import ops

from keras_sn.linear_maps import linear_maps
from keras_sn.norms import spectral_norm
from tests import truth
from tests.linear_maps.convolutions import RandomConvolution
from tests.thoroughness import draws

BATCHES = 10
CASES_PER_BATCH = draws(30, sample=5)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_convolutions(batch):
    first = batch * CASES_PER_BATCH
    print(f"seeds {first} to {first + CASES_PER_BATCH - 1}")
    for seed in range(first, first + CASES_PER_BATCH):
        check(RandomConvolution(seed))


def check(case):
    (linear_map,) = linear_maps(case.layer, norm="operator").values()
    rng = np.random.default_rng(case.seed)
    bounds = spectral_norm(linear_map, rtol=1e-2)
    assert bounds.lower <= bounds.upper, case
    assert bounds.gap <= 1e-2, case
    symbols = linear_map.blocks(grid=24)
    sampled = np.linalg.svd(symbols, compute_uv=False).max()
    assert bounds.lower <= sampled * linear_map.excess(24) * (1 + 1e-9), case
    assert sampled <= bounds.upper, case
    norms = []
    for size in sorted(case.sizes, key=math.prod, reverse=True):
        dense = case.dense_matrix(size)
        norms.append(truth.spectral_norm(dense))
        # Unit vectors went through float32.
        assert norms[-1] <= bounds.upper * (1 + 1e-5), case
    if max(case.layer.strides) == 1 and norms[0] < 0.97 * bounds.lower:
        # Only larger inputs come that close: the symbol attains it somewhere.
        assert sampled >= 0.97 * bounds.lower, case
    # The smaller size is left.
    check_matvec(linear_map.at_size(size), dense, rng, case)


def check_matvec(linear_map, dense, rng, case):
    inputs = rng.standard_normal((2, *linear_map.domain_shape))
    outputs = rng.standard_normal((2, *linear_map.codomain_shape))
    inputs, outputs = inputs.astype("float32"), outputs.astype("float32")
    images = one_by_one(linear_map.matvec, inputs)
    backs = one_by_one(linear_map.rmatvec, outputs)
    assert images.shape == outputs.shape, case
    assert backs.shape == inputs.shape, case
    flat = inputs.reshape(2, -1), outputs.reshape(2, -1)
    scale = 1e-6 * np.linalg.norm(dense)
    expected = flat[0] @ dense
    error = np.abs(images.reshape(2, -1) - expected).max()
    assert error <= scale * np.linalg.norm(flat[0]), case
    expected = flat[1] @ dense.T
    error = np.abs(backs.reshape(2, -1) - expected).max()
    assert error <= scale * np.linalg.norm(flat[1]), case
    forward = np.sum(images * outputs)
    backward = np.sum(inputs * backs)
    size = np.linalg.norm(images) * np.linalg.norm(outputs)
    assert abs(forward - backward) <= 1e-6 * size, case


def one_by_one(method, batch):
    # JAX compiles the body of a map once, but an eager call op by op.
    tensor = ops.convert_to_tensor(batch)
    return truth.to_numpy(ops.map(lambda x: method(x[None])[0], tensor))


def test_probes_apply_the_blocks():
    for seed in range(draws(20, sample=6)):
        check_probes(seed)


def as_complex(probes, parts):
    if parts == 1:
        return probes
    real, imaginary = np.split(probes, 2, axis=1)
    return real + 1j * imaginary


def check_probes(seed):
    case = RandomConvolution(seed)
    (linear_map,) = linear_maps(case.layer, norm="operator").values()
    blocks = linear_map.blocks()
    count, rows, columns = blocks.shape
    parts = 1 + np.iscomplexobj(blocks)
    assert linear_map.probe_shape == (count, parts * columns), case
    rng = np.random.default_rng(seed)
    right = rng.standard_normal((count, parts * rows)).astype("float32")
    left = rng.standard_normal((count, parts * columns)).astype("float32")
    image = truth.to_numpy(
        linear_map.block_matvec(ops.convert_to_tensor(right))
    )
    back = truth.to_numpy(linear_map.block_rmatvec(ops.convert_to_tensor(left)))
    x, u = as_complex(right, parts), as_complex(left, parts)
    expected = np.einsum("br,brc->bc", x, blocks)
    np.testing.assert_allclose(
        as_complex(image, parts), expected, atol=1e-4, err_msg=str(case)
    )
    adjoint = np.einsum("bc,brc->br", u, blocks.conj())
    np.testing.assert_allclose(
        as_complex(back, parts), adjoint, atol=1e-4, err_msg=str(case)
    )


def test_real_blocks_have_the_singular_values_of_the_blocks():
    for seed in range(8):
        check_real_blocks(seed)


def check_real_blocks(seed):
    case = RandomConvolution(seed)
    (linear_map,) = linear_maps(case.layer, norm="operator").values()
    real = truth.to_numpy(ops.stop_gradient(linear_map.symbol().real_blocks(6)))
    repeated = linear_map.symbol().multiplicity(6)
    found = np.linalg.svd(real, compute_uv=False)[:, ::repeated]
    expected = np.linalg.svd(linear_map.blocks(grid=6), compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(case))


def test_the_size_must_fit():
    case = RandomConvolution(0)
    (linear_map,) = linear_maps(case.layer, norm="operator").values()
    with pytest.raises(ValueError, match="spatial_size"):
        linear_map.at_size((3, 3, 3, 3))
