"""One truth per layer: dense matrix, spectral_norm and lipschitz_bound agree.

The dense matrix of the layer that runs is the truth. Both certificates lie
above it and close to each other, whatever the configuration; of a layer that
computes something else than its base class neither certifies anything.
"""

import math

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn import SpectralNormalization
from keras_sn.linear_maps import AppliedWeight
from keras_sn.linear_maps import MatrixMap
from keras_sn.linear_maps import register_linear_map
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.norms import spectral_norm
from tests import truth
from tests.linear_maps.convolutions import RandomConvolution
from tests.thoroughness import draws

# Unit vectors went through float32.
ROUNDING = 1e-5
BATCHES = 6
CASES_PER_BATCH = draws(40, sample=6)


def certificates(layer):
    """The two upper bounds of a built layer."""
    bounds = spectral_norm(layer, rtol=1e-3)
    return bounds.upper, lipschitz_bound(layer, lower=False).upper


def check(layer, true_norm, case):
    """Both certificates hold, and they agree."""
    norm, bound = certificates(layer)
    report = f"{case}: dense {true_norm}, spectral_norm {norm}, bound {bound}"
    assert true_norm <= norm * (1 + ROUNDING), report
    assert true_norm <= bound * (1 + ROUNDING), report
    assert norm == pytest.approx(bound, rel=1e-2), report


def random_weights(layer, rng):
    layer.set_weights(
        [rng.standard_normal(w.shape).astype("float32") for w in layer.weights]
    )


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_convolutions(batch):
    first = 10_000 + batch * CASES_PER_BATCH
    print(f"seeds {first} to {first + CASES_PER_BATCH - 1}")
    for seed in range(first, first + CASES_PER_BATCH):
        case = RandomConvolution(seed)
        norms = [
            truth.spectral_norm(case.dense_matrix(size)) for size in case.sizes
        ]
        check(case.layer, max(norms), case)


# Both at once, which only these classes take: the lattice of the taps and
# that of the stride meet in fewer points than either alone suggests.
@pytest.mark.parametrize(("strides", "dilation"), [(2, 2), (3, 3), (2, 3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: layers.DepthwiseConv1D(3, **kw),
        lambda **kw: layers.DepthwiseConv2D(3, **kw),
        lambda **kw: layers.SeparableConv1D(4, 3, **kw),
        lambda **kw: layers.SeparableConv2D(4, 3, **kw),
    ],
    ids=["depthwise1d", "depthwise2d", "separable1d", "separable2d"],
)
def test_strided_and_dilated(make, strides, dilation):
    layer = make(
        strides=strides,
        dilation_rate=dilation,
        padding="same",
        depthwise_initializer="ones",
        use_bias=False,
    )
    rank = len(layer.kernel_size)
    shape = (*((31,) if rank == 1 else (13, 13)), 2)
    layer.build((None, *shape))
    if hasattr(layer, "pointwise_kernel"):
        layer.pointwise_kernel.assign(np.ones(layer.pointwise_kernel.shape))
    dense = truth.spectral_norm(truth.dense_matrix(layer, shape))
    check(layer, dense, f"{type(layer).__name__} {strides} {dilation}")


def test_a_fold_keeps_the_bound_of_a_strided_and_dilated_layer():
    inner = layers.DepthwiseConv1D(
        3, strides=2, dilation_rate=2, depthwise_initializer="ones"
    )
    model = keras.Sequential(
        [keras.Input((31, 2)), SpectralNormalization(inner, norm="operator")]
    )
    (folded,) = fold_model(model, certified=True).layers
    dense = truth.dense_matrix(folded, (31, 2))
    assert truth.spectral_norm(dense) <= 1 + ROUNDING


EQUATIONS = [
    "ab,bc->ac",
    "abc,cd->abd",
    "abc,cb->ab",
    "ab,b->ab",
    "abc,cde->abde",
    "abc,bcd->abd",
    "abcd,dcef->abfe",
    "abcd,cdbe->aeb",
    "...x,xy->...y",
    "ax...,xy->ay...",
]


@pytest.mark.parametrize("seed", range(draws(40, sample=10)))
def test_random_einsum(seed):
    rng = np.random.default_rng(seed)
    equation = EQUATIONS[seed % len(EQUATIONS)]
    operands, output = equation.split("->")
    extents = {label: int(rng.integers(2, 6)) for label in equation}

    def shape(labels):
        # Without the batch axis, which an ellipsis in front includes.
        named = labels[3:] if labels.startswith("...") else labels[1:]
        return tuple(extents[label] for label in named.removesuffix("..."))

    named = shape(operands.split(",")[0])
    # Two more axes; Keras adds them to the shape of the output itself.
    more = (2, 3) if "..." in equation else ()
    before = equation.startswith("...")
    input_shape = more + named if before else named + more
    layer = layers.EinsumDense(equation, shape(output))
    layer.build((None, *input_shape))
    random_weights(layer, rng)
    dense = truth.spectral_norm(truth.dense_matrix(layer, input_shape))
    check(layer, dense, f"seed {seed}: {equation} on {input_shape}")


@pytest.mark.parametrize("seed", range(draws(20, sample=6)))
def test_random_dense(seed):
    rng = np.random.default_rng(seed)
    size, units = rng.integers(1, 30, 2)
    layer = layers.Dense(int(units), use_bias=bool(rng.integers(2)))
    shape = (*(int(n) for n in rng.integers(1, 4, rng.integers(3))), int(size))
    layer.build((None, *shape))
    random_weights(layer, rng)
    dense = truth.spectral_norm(truth.dense_matrix(layer, shape))
    check(layer, dense, f"seed {seed}: {shape} to {units}")


@pytest.mark.parametrize("seed", range(draws(20, sample=6)))
def test_random_batch_normalization(seed):
    rng = np.random.default_rng(seed)
    axis = int(rng.choice([1, -1]))
    layer = layers.BatchNormalization(
        axis=axis,
        center=bool(rng.integers(2)),
        epsilon=float(rng.choice([1e-5, 1e-3, 0.1])),
    )
    shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(1, 4)))
    layer.build((None, *shape))
    random_weights(layer, rng)
    size = layer.moving_variance.shape
    layer.moving_variance.assign(rng.uniform(0.0, 2.0, size))
    matrix = truth.dense_matrix(layer, shape, training=False)
    case = f"seed {seed}: {shape}, axis {axis}, epsilon {layer.epsilon}"
    check(layer, truth.spectral_norm(matrix), case)


def test_a_batch_normalization_without_scale_is_bounded():
    layer = layers.BatchNormalization(scale=False)
    layer.build((None, 3))
    layer.moving_variance.assign([0.25, 4.0, 1.0])
    matrix = truth.dense_matrix(layer, (3,), training=False)
    bound = lipschitz_bound(layer, lower=False).upper
    assert bound == pytest.approx(truth.spectral_norm(matrix), rel=1e-5)


class Mixing(layers.Layer):
    """A user's linear layer, unlike any of Keras: one matrix per head."""

    def __init__(self, heads, units, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.units = units

    def build(self, input_shape):
        size = input_shape[-1] // self.heads
        self.mixer = self.add_weight(
            shape=(self.heads, size, self.units), name="mixer"
        )

    def call(self, inputs):
        heads = ops.reshape(inputs, (-1, self.heads, 1, self.mixer.shape[1]))
        return ops.reshape(
            ops.matmul(heads, self.mixer), (-1, self.heads * self.units)
        )


@register_linear_map(Mixing)
def _mixing(layer, norm):
    del norm
    weight = AppliedWeight(layer, "mixer")
    return [MatrixMap(weight, blocks=layer.heads, columns=layer.units)]


class Renamed(Mixing):
    """A subclass that applies what its base applies."""

    def __init__(self, **kwargs):
        super().__init__(heads=2, units=3, **kwargs)


@pytest.mark.parametrize("seed", range(draws(10, sample=3)))
def test_registered_layers(seed):
    rng = np.random.default_rng(seed)
    heads, units, size = (int(n) for n in rng.integers(1, 6, 3))
    layer = Mixing(heads, units)
    layer.build((None, heads * size))
    random_weights(layer, rng)
    matrix = truth.dense_matrix(layer, (heads * size,))
    check(layer, truth.spectral_norm(matrix), f"seed {seed}")


def test_a_registered_layer_in_a_network():
    mixing = Mixing(2, 4)
    model = keras.Sequential(
        [keras.Input((6,)), mixing, layers.ReLU(), layers.Dense(3)]
    )
    alone = [spectral_norm(mixing).upper, spectral_norm(model.layers[-1]).upper]
    bound = lipschitz_bound(model, method="product", lower=False).upper
    assert bound == pytest.approx(math.prod(alone), rel=1e-4)


def test_a_subclass_of_a_registered_layer_that_keeps_its_call():
    layer = Renamed()
    layer.build((None, 8))
    matrix = truth.dense_matrix(layer, (8,))
    check(layer, truth.spectral_norm(matrix), "inherits all it computes")


class Replaced(layers.Dense):
    """A subclass of Dense with another kernel, registered as what it is."""

    def build(self, input_shape):
        super().build(input_shape)
        self.other = self.add_weight(
            shape=(input_shape[-1], self.units), name="other"
        )

    def call(self, inputs, training=None):
        return ops.matmul(inputs, self.other)


@register_linear_map(Replaced)
def _replaced(layer, norm):
    del norm
    return [MatrixMap(AppliedWeight(layer, "other"))]


def test_a_registered_subclass_is_certified_by_what_was_registered():
    layer = Replaced(3)
    layer.build((None, 4))
    matrix = truth.dense_matrix(layer, (4,))
    check(layer, truth.spectral_norm(matrix), "registered itself")
