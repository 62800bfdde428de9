"""Which linear maps a layer has: by identity, and only where it is known."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_sn.keras_access import known_layers
from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import AppliedWeight
from keras_sn.linear_maps import linear_maps
from keras_sn.linear_maps.arrays import float64
from keras_sn.linear_maps.subclasses import overridden_names
from keras_sn.linear_maps.symbol import Symbol
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.norms import spectral_norm
from tests import truth


def tower():
    """A model that gives its kernel the same path each time."""
    inputs = keras.Input((4,))
    start = keras.initializers.Orthogonal(3.0, seed=0)
    outputs = layers.Dense(4, name="fc", kernel_initializer=start)(inputs)
    return keras.Model(inputs, outputs)


def siamese():
    inputs = keras.Input((4,))
    return keras.Model(inputs, tower()(inputs) + tower()(inputs))


def test_weights_of_one_path_have_keys_of_their_own():
    model = siamese()
    maps = linear_maps(model)
    assert list(maps) == ["fc/kernel", "fc/kernel#2"]
    variables = {id(m.weights[0].variable) for m in maps.values()}
    assert variables == {id(v) for v in model.weights if v.name == "kernel"}


def test_weights_of_one_path_are_all_normalized():
    wrapper = SpectralNormalization(siamese())
    model = keras.Sequential([keras.Input((4,)), wrapper])
    assert list(wrapper.vectors_u) == ["fc/kernel", "fc/kernel#2"]
    weights = wrapper.normalized_weights()
    assert list(weights) == ["fc/kernel", "fc/kernel#2"]
    for value in weights.values():
        assert truth.spectral_norm(truth.to_numpy(value)) == pytest.approx(1)
    matrix = truth.dense_matrix(model, (4,))
    assert truth.spectral_norm(matrix) == pytest.approx(2.0, rel=1e-5)
    bound = lipschitz_bound(model, lower=False).upper
    assert bound == pytest.approx(2.0, rel=1e-5)
    for certified in (False, True):
        folded = fold_model(model, certified=certified)
        np.testing.assert_allclose(
            truth.dense_matrix(folded, (4,)), matrix, atol=1e-5
        )


def test_a_layer_shared_by_two_models_has_one_map():
    shared = layers.Dense(4)
    model = keras.Sequential(
        [keras.Input((4,)), keras.Sequential([shared]), shared]
    )
    assert len(linear_maps(model)) == 1


class Scaled(layers.Conv2D):
    """The hook that Keras offers, used to scale."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, 10 * kernel)


class Shifting:
    """A mixin in front of what it changes."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs)


class Mixed(Shifting, layers.Dense):
    """A Dense layer behind a mixin."""


class Configured(layers.Dense):
    """Another configuration, the same computation."""

    def __init__(self, units, note="", **kwargs):
        super().__init__(units, **kwargs)
        self.note = note

    def get_config(self):
        return {**super().get_config(), "note": self.note}

    def noted(self):
        return self.note


class TripledDepthwise(layers.SeparableConv1D):
    """A property where Keras has a plain attribute."""

    @property
    def depthwise_kernel(self):
        return 3 * self.held

    @depthwise_kernel.setter
    def depthwise_kernel(self, variable):
        self.held = variable


def test_what_makes_another_layer():
    assert overridden_names(Scaled(1, 2), layers.Conv2D) == ["convolution_op"]
    assert overridden_names(Mixed(1), layers.Dense) == ["call"]
    assert overridden_names(Configured(1), layers.Dense) == []
    layer = layers.Dense(1)
    layer.call = lambda inputs: inputs
    assert overridden_names(layer, layers.Dense) == ["call"]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(3), (4,)),
        (lambda: layers.Dense(3, lora_rank=1), (4,)),
        (lambda: layers.Conv2D(3, 2), (5, 5, 2)),
        (lambda: layers.BatchNormalization(), (4,)),
        (lambda: layers.SimpleRNNCell(3), None),
    ],
)
def test_layers_of_keras_are_what_they_are(make, shape):
    for scope in (None, "full"):
        with keras.RematScope(scope):
            layer = make()
        if shape is not None:
            layer(np.ones((2, *shape), "float32"))
        assert overridden_names(layer, type(layer)) == []


def test_the_operator_of_another_layer_is_not_claimed():
    layer = Scaled(3, 2)
    layer.build((None, 5, 5, 2))
    with pytest.raises(ValueError, match="Scaled replaces 'convolution_op'"):
        linear_maps(layer)
    with pytest.raises(ValueError, match="register_linear_map"):
        spectral_norm(layer)
    wrapper = SpectralNormalization(Scaled(3, 2), norm="operator")
    with pytest.raises(ValueError, match="register_linear_map"):
        wrapper.build((None, 5, 5, 2))
    # As a matrix the kernel has a norm, whatever the layer does with it.
    (linear_map,) = linear_maps(layer, norm="kernel").values()
    kernel = truth.to_numpy(layer.kernel).reshape(-1, 3)
    expected = truth.spectral_norm(kernel)
    assert spectral_norm(linear_map).upper == pytest.approx(expected)
    assert spectral_norm(layer, "kernel").upper == pytest.approx(expected)


class Louder(SpectralNormalization):
    """A wrapper that does more than its base."""

    def call(self, *args, **kwargs):
        return 10 * super().call(*args, **kwargs)


def test_a_wrapper_of_another_class_stays_closed():
    layer = Louder(layers.Dense(3))
    layer.build((None, 4))
    with pytest.raises(ValueError, match=layer.name):
        spectral_norm(layer)
    assert np.isinf(lipschitz_bound(layer, lower=False).upper)


def test_a_container_is_not_certified_by_what_it_holds():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2), layers.Rescaling(10.0)]
    )
    with pytest.raises(ValueError, match="inside of it"):
        spectral_norm(model)


def test_a_weight_is_what_the_layer_reads():
    layer = TripledDepthwise(2, 3, use_bias=False, padding="same")
    layer.build((None, None, 2))
    weight = AppliedWeight(layer, "depthwise_kernel")
    np.testing.assert_allclose(
        float64(weight.value()), 3 * float64(layer.held), rtol=1e-6
    )
    dense = truth.spectral_norm(truth.dense_matrix(layer, (20, 2)))
    assert dense <= lipschitz_bound(layer, lower=False).upper * (1 + 1e-5)


@pytest.mark.parametrize(
    ("equation", "fault"),
    [
        ("abc,cd->ad", "sums the input"),
        ("abc,ce->abd", "sums the kernel"),
        ("abb,bd->ad", "repeats"),
        ("a...c,cd->ad", "ellipsis"),
    ],
)
def test_einsum_equations_that_are_no_blocks(equation, fault):
    layer = layers.EinsumDense("abc,cd->abd", (8, 4))
    layer.build((None, 8, 3))
    # Some of them Keras itself would not build.
    layer.equation = equation
    with pytest.raises(ValueError, match=fault):
        spectral_norm(layer)
    with pytest.raises(ValueError, match=fault):
        linear_maps(layer)
    report = lipschitz_bound(layer, lower=False)
    assert np.isinf(report.upper)
    assert fault in report.layers[0].reason
    # As a matrix the kernel has a norm.
    assert len(linear_maps(layer, norm="kernel")) == 1


@pytest.mark.skipif(
    not known_layers("ReversibleEmbedding"), reason="newer than this Keras"
)
def test_both_tables_of_an_untied_embedding():
    layer = layers.ReversibleEmbedding(5, 3, tie_weights=False)
    layer.build((None, 2))
    names = [path.split("/")[-1] for path in linear_maps(layer)]
    assert names == ["embeddings", "reverse_embeddings"]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("kernel_size", [(), (3,), (2, 3)])
def test_one_symbol_of_arrays_and_tensors(kernel_size, sign):
    taps = np.random.default_rng(0).standard_normal((2, *kernel_size, 3, 4))
    symbol = Symbol(taps, sign=sign)
    tensors = Symbol(ops.convert_to_tensor(taps, "float32"), sign=sign)
    real = truth.to_numpy(tensors.real_blocks(5))
    np.testing.assert_allclose(real, symbol.real_blocks(5), atol=1e-5)
    if kernel_size:
        blocks = symbol.sample(5)
        np.testing.assert_allclose(real[:, :3, :4], blocks.real, atol=1e-5)
        np.testing.assert_allclose(real[:, 3:, :4], blocks.imag, atol=1e-5)
        adjoint = symbol.adjoint().sample(5)
        np.testing.assert_allclose(adjoint, blocks.conj().swapaxes(1, 2))


def test_complex_weights_are_refused():
    with pytest.raises(ValueError, match="complex"):
        spectral_norm(np.ones((2, 2)) * 1j)
