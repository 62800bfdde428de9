"""Fuzzer: random dtype policies, for wrappers and for bounds."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.norms import spectral_norm
from tests import truth
from tests.thoroughness import draws
from tests.thoroughness import fuzzing

# Where weights are rounded before they are applied there is most to go wrong.
POLICIES = (
    "float32",
    "mixed_bfloat16",
    "mixed_bfloat16",
    "mixed_float16",
    "mixed_float16",
    "bfloat16",
    "float16",
    "float64",
)
# Distance from 1 to the next number.
EPSILON = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}
BATCHES = 4
DRAWS = draws(fuzzing(sample=32), sample=8)


class RandomLayer:
    """A layer with one kernel under a random policy.

    Args:
        seed: What it is drawn from, printed by a failing test.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.policy = str(self.rng.choice(POLICIES))
        kind = str(self.rng.choice(list(KINDS)))
        make, self.shape = KINDS[kind]
        self.layer = make(self.rng, self.policy)
        self.norm_bound = float(self.rng.choice([0.5, 1.0, 3.0]))
        self.spread = float(10 ** self.rng.uniform(-2, 2))
        self.name = f"seed {seed}: {kind}, {self.policy}, {self.spread:.3g}"

    def randomize(self):
        shape = self.layer.kernel.shape
        kernel = self.spread * self.rng.standard_normal(shape)
        self.layer.kernel.assign(kernel)

    def applied_norm(self):
        """The norm of the kernel in the dtype it is multiplied in."""
        dtype = self.layer.compute_dtype
        kernel = keras.ops.cast(self.layer.kernel, dtype)
        kernel = truth.to_numpy(keras.ops.cast(kernel, "float64"))
        return truth.kernel_norm(self.layer, "kernel", kernel)


KINDS = {
    "dense": (
        lambda rng, policy: layers.Dense(int(rng.integers(1, 9)), dtype=policy),
        (5,),
    ),
    "einsum": (
        lambda rng, policy: layers.EinsumDense(
            "abc,cd->abd", (3, int(rng.integers(1, 6))), dtype=policy
        ),
        (3, 4),
    ),
    # Of one tap, so that kernel and operator are the same matrix.
    "conv": (
        lambda rng, policy: layers.Conv2D(
            int(rng.integers(1, 6)), 1, dtype=policy
        ),
        (4, 4, 3),
    ),
}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_what_is_applied_is_bounded(batch):
    """The layer multiplies with rounded weights, and they are certified."""
    seeds = range(batch, DRAWS, BATCHES)
    print(f"seeds {list(seeds)}")
    for seed in seeds:
        case = RandomLayer(seed)
        case.layer.build((None, *case.shape))
        case.randomize()
        applied = case.applied_norm()
        norm = spectral_norm(case.layer).upper
        bound = lipschitz_bound(case.layer, lower=False).upper
        report = f"{case.name}: {applied=}, {norm=}, {bound=}"
        assert applied <= norm * (1 + 1e-12), report
        assert applied <= bound * (1 + 1e-12), report
        # Rounding changes each weight by half of an epsilon.
        slack = 1 + 3 * EPSILON[case.layer.compute_dtype]
        size = np.sqrt(min(case.layer.kernel.shape[-2:]))
        assert bound <= applied * (1 + size * (slack - 1)) * 1.001, report


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_wrapper_keeps_dtype_and_bound(batch):
    seeds = range(batch, DRAWS, BATCHES)
    print(f"seeds {list(seeds)}")
    for seed in seeds:
        case = RandomLayer(seed)
        inner = case.layer
        wrapper = SpectralNormalization(inner, norm_bound=case.norm_bound)
        wrapper.build((None, *case.shape))
        case.randomize()
        wrapper.refresh()
        inputs = case.rng.standard_normal((8, *case.shape))
        before = truth.to_numpy(keras.ops.cast(inner.kernel, "float64"))
        for training in (True, False):
            outputs = wrapper(inputs, training=training)
            # Not the policy's: JAX has no float64 unless it is told to.
            plain = inner(inputs)
            assert outputs.dtype == plain.dtype, case.name
            check_gain(case, inputs, outputs)
        after = truth.to_numpy(keras.ops.cast(inner.kernel, "float64"))
        np.testing.assert_array_equal(before, after, err_msg=case.name)


def check_gain(case, inputs, outputs):
    """Row by row the output is at most `norm_bound` times the input."""
    epsilon = EPSILON[keras.backend.standardize_dtype(outputs.dtype)]
    outputs = truth.to_numpy(keras.ops.cast(outputs, "float64"))
    assert np.isfinite(outputs).all(), case.name
    lengths = np.linalg.norm(inputs, axis=-1)
    gains = np.linalg.norm(outputs, axis=-1) / lengths
    # Of input, factor, weights and each sum.
    rounding = 4 * np.sqrt(inputs.shape[-1]) * epsilon
    allowed = case.norm_bound * (1 + max(rounding, 1e-5))
    assert gains.max() <= allowed, f"{case.name}: {gains.max()}"
