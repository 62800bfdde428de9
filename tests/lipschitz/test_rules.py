"""Rules: every constant against an independent computation, and coverage."""

import inspect
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.keras_access import known_layers
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz import register_rule
from keras_sn.lipschitz.pieces.base import Identity
from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.rules import Call
from keras_sn.lipschitz.rules import pieces_of
from keras_sn.lipschitz.rules import rules
from keras_sn.lipschitz.rules.activations import activation_pieces
from keras_sn.lipschitz.rules.pooling import averaging
from keras_sn.lipschitz.rules.preprocessing import AUGMENTATIONS
from keras_sn.lipschitz.rules.resampling import interpolation


def numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def dense_matrix(layer, shape):
    """The Jacobian of an affine layer, one input entry after the other."""
    size = math.prod(shape)
    zero = numpy(layer(np.zeros((1, *shape), "float32"), training=False))
    basis = np.eye(size, dtype="float32").reshape(size, *shape)
    columns = numpy(layer(basis, training=False)) - zero
    return columns.reshape(size, -1).T


def constant(layer, shape=None):
    pieces = pieces_of(layer, Call(None if shape is None else [(None, *shape)]))
    return math.prod(piece.constant for piece in pieces)


LAYER_CLASSES = sorted(
    {
        value
        for name in dir(layers)
        if inspect.isclass(value := getattr(layers, name))
        and issubclass(value, layers.Layer)
    },
    key=lambda cls: cls.__name__,
)
ACTIVATIONS = [
    getattr(keras.activations, name)
    for name in dir(keras.activations)
    if not name.startswith("_")
    and name not in ("get", "serialize", "deserialize")
]


@pytest.mark.parametrize("cls", LAYER_CLASSES)
def test_every_layer_class_is_covered(cls):
    rule = rules()[cls]
    assert rule.formula
    assert rule.formula != "inf" or rule.note


@pytest.mark.parametrize("function", ACTIVATIONS)
def test_every_activation_is_covered(function):
    rule = rules()[function]
    assert rule.formula
    assert rule.formula != "inf" or rule.note


@pytest.mark.parametrize("name", [f.__name__ for f in ACTIVATIONS])
def test_slopes_of_activations_are_exact(name):
    function = getattr(keras.activations, name)
    call = Call([(None, 5)])
    pieces = activation_pieces(function, call) or [Identity()]
    (piece,) = pieces
    if not isinstance(piece, (Slope, Identity)):
        return
    x = np.linspace(-20, 20, 80001, dtype="float32")
    y = numpy(function(x))
    # Far enough apart that float32 does not show in the quotient.
    slopes = (y[8:] - y[:-8]) / (x[8:].astype("float64") - x[:-8])
    assert np.abs(slopes).max() == pytest.approx(piece.constant, rel=2e-3)
    if isinstance(piece, Slope):
        assert slopes.max() == pytest.approx(piece.high, abs=5e-3)
        assert slopes.min() == pytest.approx(piece.low, abs=5e-3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("gelu", -0.128904145185, 1.128904145185),
        ("silu", -0.099839320129, 1.099839320129),
        ("mish", -0.112526122389, 1.088498161252),
        ("selu", 0.0, 1.0507009873554805 * 1.6732632423543772),
    ],
)
def test_slopes_are_rounded_outwards(name, low, high):
    """Against extrema of the derivatives found in float64."""
    (piece,) = activation_pieces(getattr(keras.activations, name), Call())
    assert piece.low <= low + 1e-12
    assert piece.low == pytest.approx(low, abs=1e-9)
    assert piece.high >= high - 1e-12
    assert piece.high == pytest.approx(high, abs=1e-9)


def test_softmax_family():
    """Jacobians at their worst points."""
    p = np.array([0.5, 0.5, 0.0])
    jacobian = np.diag(p) - np.outer(p, p)
    assert np.linalg.norm(jacobian, 2) == pytest.approx(
        constant(layers.Softmax(), (3,))
    )
    corner = np.eye(3) - np.outer(np.ones(3), [1.0, 0.0, 0.0])
    (piece,) = activation_pieces(
        keras.activations.log_softmax, Call([(None, 3)])
    )
    assert np.linalg.norm(corner, 2) == pytest.approx(piece.constant)
    assert math.isinf(
        activation_pieces(keras.activations.log_softmax, Call())[0].constant
    )


def test_sparsemax_is_only_trusted_if_it_projects():
    (piece,) = activation_pieces(keras.activations.sparsemax, Call())
    probe = np.array([[0.5, 0.0]], "float32")
    projects = np.allclose(
        numpy(keras.activations.sparsemax(probe)), [[0.75, 0.25]]
    )
    assert math.isfinite(piece.constant) == projects


def test_activation_layers():
    assert constant(layers.ReLU(negative_slope=3.0)) == 3
    assert constant(layers.ReLU(threshold=0.5)) == math.inf
    assert constant(layers.LeakyReLU(negative_slope=1.5)) == 1.5
    assert constant(layers.ELU(alpha=2.0)) == 2
    prelu = layers.PReLU()
    prelu.build((None, 3))
    prelu.alpha.assign([-2.0, 0.5, 1.0])
    assert constant(prelu) == 2
    assert constant(layers.Activation(lambda x: x)) == math.inf
    inner = layers.Dense(2, activation=layers.LeakyReLU(negative_slope=4.0))
    inner.build((None, 2))
    kernel = np.linalg.norm(numpy(inner.kernel), 2)
    assert constant(inner) == pytest.approx(4 * kernel, rel=1e-6)


LINEAR = [
    (layers.Dense(4), (3,)),
    (layers.Dense(4), (5, 3)),
    (layers.EinsumDense("abc,cd->abd", (None, 4)), (5, 3)),
    (layers.EinsumDense("abc,bcd->abd", (5, 4)), (5, 3)),
    (layers.EinsumDense("abc,bcd->ad", (4,)), (5, 3)),
    (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 3)),
    (layers.EinsumDense("...c,cd->...d", (4,)), (5, 3)),
    (layers.Conv1D(4, 3), (20, 3)),
    (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (20, 3)),
    (layers.Conv2D(4, 3, padding="same"), (12, 12, 3)),
    (layers.Conv2D(4, 3, strides=2), (13, 13, 3)),
    (layers.Conv2D(6, 3, groups=3, padding="same"), (12, 12, 3)),
    (layers.Conv2D(4, 2, strides=2), (8, 8, 3)),
    (layers.Conv2D(4, 1), (5, 5, 3)),
    (layers.Conv3D(2, 2), (5, 5, 5, 2)),
    (layers.DepthwiseConv1D(3, depth_multiplier=2), (20, 3)),
    (layers.DepthwiseConv2D(3, padding="same"), (12, 12, 3)),
    (layers.SeparableConv1D(4, 3), (20, 3)),
    (layers.SeparableConv2D(4, 3, depth_multiplier=2), (12, 12, 3)),
    (layers.Conv1DTranspose(4, 3, strides=2), (15, 3)),
    (layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (8, 8, 3)),
    (layers.Conv3DTranspose(2, 2), (4, 4, 4, 2)),
    (layers.BatchNormalization(), (3,)),
    (layers.BatchNormalization(scale=False), (4, 4, 3)),
    (layers.BatchNormalization(axis=1), (3, 4)),
    (layers.Rescaling(-2.5, offset=1.0), (3,)),
    (layers.Rescaling([0.5, 2.0, 1.0]), (4, 4, 3)),
    (layers.AveragePooling1D(3, 1, padding="same"), (7, 2)),
    (layers.AveragePooling1D(3, 2), (7, 2)),
    (layers.AveragePooling2D(2), (6, 6, 2)),
    (layers.AveragePooling2D((3, 2), 2, padding="same"), (5, 6, 2)),
    (layers.AveragePooling2D((3, 3), 2, padding="same"), (5, 6, 2)),
    (layers.AveragePooling3D(2, 1), (3, 3, 3, 1)),
    (layers.GlobalAveragePooling1D(), (7, 2)),
    (layers.GlobalAveragePooling2D(keepdims=True), (3, 4, 2)),
    (layers.GlobalAveragePooling3D(), (2, 3, 2, 2)),
    (layers.UpSampling1D(3), (4, 2)),
    (layers.UpSampling2D((2, 3)), (3, 3, 2)),
    (layers.UpSampling2D(2, interpolation="bilinear"), (4, 5, 1)),
    (layers.UpSampling3D(2), (2, 2, 2, 1)),
    (layers.Resizing(3, 8, interpolation="bilinear"), (6, 5, 1)),
    (layers.ZeroPadding2D(2), (3, 3, 2)),
    (layers.Cropping2D(1), (4, 4, 2)),
    (layers.Flatten(), (3, 3, 2)),
    (layers.Reshape((6,)), (3, 2)),
    (layers.Permute((2, 1)), (3, 2)),
    (layers.RepeatVector(5), (3,)),
    (layers.Dropout(0.5), (3,)),
    (layers.GaussianNoise(0.5), (3,)),
]
MAX_POOLING = [
    (layers.MaxPooling1D(3, 1), (9, 1)),
    (layers.MaxPooling1D(2), (8, 1)),
    (layers.MaxPooling1D(3, 2, padding="same"), (9, 1)),
    (layers.MaxPooling2D(3, 2), (9, 9, 1)),
    (layers.MaxPooling2D((2, 3), (1, 2)), (7, 9, 1)),
    (layers.MaxPooling3D(2, 1), (4, 4, 4, 1)),
    (layers.GlobalMaxPooling1D(), (5, 2)),
    (layers.GlobalMaxPooling2D(), (4, 4, 2)),
    (layers.GlobalMaxPooling3D(), (3, 3, 3, 1)),
]
# Keras 3.12 has no adaptive pooling.
if known_layers("AdaptiveAveragePooling1D"):
    LINEAR += [
        (layers.AdaptiveAveragePooling1D(3), (8, 2)),
        (layers.AdaptiveAveragePooling2D((2, 3)), (5, 7, 2)),
    ]
    MAX_POOLING += [
        (layers.AdaptiveMaxPooling1D(4), (7, 1)),
        (layers.AdaptiveMaxPooling2D((2, 3)), (5, 7, 1)),
    ]


@pytest.mark.parametrize(
    ("layer", "shape"),
    LINEAR,
    ids=[f"{i}-{type(case[0]).__name__}" for i, case in enumerate(LINEAR)],
)
def test_linear_layers_against_their_matrix(layer, shape):
    rng = np.random.default_rng(0)
    config = layer.get_config()
    layer = type(layer).from_config(config)
    layer.build((None, *shape))
    for variable in layer.variables:
        if "seed" not in variable.path:
            values = rng.uniform(0.2, 1.5, tuple(variable.shape))
            if "kernel" in variable.path or "gamma" in variable.path:
                values = rng.normal(size=tuple(variable.shape))
            variable.assign(values.astype("float32"))
    exact = np.linalg.norm(dense_matrix(layer, shape), 2)
    bound = constant(layer, shape)
    assert exact <= bound * (1 + 1e-6)
    # A symbol holds for every size; at these sizes it is this close.
    convolution = "Conv" in type(layer).__name__
    assert bound == pytest.approx(exact, rel=0.12 if convolution else 1e-5)
    # Without the shape it is a bound still, or says that it needs it.
    assert exact <= constant(layer) * (1 + 1e-6)


@pytest.mark.parametrize(("layer", "shape"), MAX_POOLING)
def test_max_pooling_against_its_worst_input(layer, shape):
    """A single spike that is the maximum of every window it is in."""
    size = math.prod(shape)
    spikes = np.eye(size, dtype="float32").reshape(size, *shape)
    worst = np.linalg.norm(numpy(layer(spikes)).reshape(size, -1), axis=1)
    assert worst.max() == pytest.approx(constant(layer, shape), rel=1e-6)


def test_one_dimensional_matrices():
    pooled = layers.AveragePooling1D(3, 2, padding="same")
    # Keras on PyTorch repeats the edge where the padding is uneven.
    repeats = keras.backend.backend() == "torch"
    np.testing.assert_allclose(
        dense_matrix(pooled, (8, 1)),
        averaging(8, 3, 2, "same", repeats),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        dense_matrix(pooled, (9, 1)), averaging(9, 3, 2, "same"), atol=1e-6
    )
    up = layers.UpSampling2D((2, 1), interpolation="bilinear")
    np.testing.assert_allclose(
        dense_matrix(up, (5, 1, 1)), interpolation(5, 10), atol=1e-6
    )


def steepest(layer, point, steps=1e-3):
    """Norm of a Jacobian by central differences, all columns at once."""
    size = point.size
    basis = steps * np.eye(size).reshape(size, *point.shape)
    ends = [
        numpy(layer((point + sign * basis).astype("float32")))
        for sign in (1, -1)
    ]
    jacobian = (ends[0] - ends[1]).reshape(size, -1) / (2 * steps)
    return np.linalg.norm(jacobian, 2)


@pytest.mark.parametrize("scale", [True, False])
def test_layer_normalization_at_a_constant_input(scale):
    layer = layers.LayerNormalization(epsilon=0.01, scale=scale)
    layer.build((None, 6))
    if scale:
        layer.gamma.assign([0.5, -2.0, 1.0, 0.1, 1.5, -0.3])
    exact = steepest(layer, np.full(6, 0.7))
    assert constant(layer, (6,)) == pytest.approx(exact, rel=1e-3)


def test_rms_normalization_at_zero():
    layer = layers.RMSNormalization(epsilon=0.01)
    layer.build((None, 6))
    layer.scale.assign([0.5, -2.0, 1.0, 0.1, 1.5, -0.3])
    exact = steepest(layer, np.zeros(6))
    assert constant(layer, (6,)) == pytest.approx(exact, rel=1e-3)


def test_group_normalization_is_bounded():
    layer = layers.GroupNormalization(2, epsilon=0.01)
    layer.build((None, 3, 4))
    layer.gamma.assign([0.5, -2.0, 1.0, 0.1])
    exact = steepest(layer, np.full((3, 4), 0.7))
    assert exact <= constant(layer, (3, 4)) <= 1.3 * exact


def test_normalization_and_its_inverse():
    for invert in (False, True):
        layer = layers.Normalization(
            mean=[1.0, 2.0], variance=[4.0, 0.25], invert=invert
        )
        layer.build((None, 2))
        exact = np.linalg.norm(dense_matrix(layer, (2,)), 2)
        assert constant(layer, (2,)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_simple_rnn(sequences, activation):
    layer = layers.SimpleRNN(
        3, activation=activation, return_sequences=sequences
    )
    layer.build((None, 6, 2))
    layer.cell.kernel.assign(0.4 * numpy(layer.cell.kernel))
    bound = constant(layer, (6, 2))
    assert steepest(layer, np.zeros((6, 2))) <= bound * (1 + 1e-3)
    assert bound < math.inf
    # As the initializer is orthogonal, rounding decides on the side of 1.
    layer.cell.recurrent_kernel.assign(1.01 * np.eye(3))
    assert constant(layer) == math.inf
    layer.cell.recurrent_kernel.assign(0.5 * np.eye(3))
    assert bound > constant(layer, (6, 2))
    assert constant(layer, (None, 2)) < math.inf


def test_simple_rnn_is_exact_for_scalars():
    layer = layers.SimpleRNN(1, activation="linear", return_sequences=True)
    layer.build((None, 5, 1))
    weights = [[[2.0]], [[0.7]], [0.3]]
    layer.set_weights([np.array(w, "float32") for w in weights])
    exact = np.linalg.norm(dense_matrix(layer, (5, 1)), 2)
    assert constant(layer, (5, 1)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("mode", ["concat", "sum", "ave", "mul", None])
def test_bidirectional(mode):
    inputs = keras.Input((4, 2))
    layer = layers.Bidirectional(layers.SimpleRNN(3), merge_mode=mode)
    model = keras.Model(inputs, layer(inputs))
    upper = lipschitz_bound(model, lower=False).upper
    assert math.isinf(upper) == (mode == "mul")
    if mode in ("concat", "sum", "ave"):
        assert steepest(layer, np.zeros((4, 2))) <= upper * (1 + 1e-3)


def test_time_distributed_takes_the_layer_inside():
    inputs = keras.Input((4, 3))
    layer = layers.TimeDistributed(layers.Dense(2))
    model = keras.Model(inputs, layer(inputs))
    exact = np.linalg.norm(numpy(layer.layer.kernel), 2)
    upper = lipschitz_bound(model, lower=False).upper
    assert upper == pytest.approx(exact, rel=1e-5)
    broken = layers.TimeDistributed(layers.Dense(2, activation="exponential"))
    model = keras.Model(inputs, broken(inputs))
    report = lipschitz_bound(model, lower=False)
    assert report.upper == math.inf
    assert "exponential" in report.unbounded[0].reason


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_do_nothing_at_inference(name):
    arguments = {
        "RandomPosterization": (4,),
        "RandomTranslation": (0.2, 0.2),
    }
    needs_factor = [
        "Brightness",
        "Contrast",
        "Rotation",
        "Zoom",
        "Hue",
        "Saturation",
        "Sharpness",
        "ColorDegeneration",
    ]
    default = (0.2,) if name[6:] in needs_factor else ()
    layer = getattr(layers, name)(*arguments.get(name, default))
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    outputs = layer(images, training=False)
    if isinstance(outputs, dict):
        outputs = outputs["images"]
    np.testing.assert_allclose(numpy(outputs), images, atol=1e-6)


def test_a_subclass_with_its_own_call_needs_its_own_rule():
    class Squared(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    class Named(layers.Dense):
        pass

    for cls, bounded in ((Squared, False), (Named, True)):
        layer = cls(2)
        layer.build((None, 2))
        assert math.isfinite(constant(layer)) == bounded


def test_a_registered_rule_is_used_and_checked():
    class Tripled(layers.Layer):
        def call(self, inputs):
            return 3 * inputs

    @register_rule(Tripled, "3", "by construction")
    def tripled(layer, call):
        return 3

    assert constant(Tripled()) == 3

    @register_rule(Tripled)
    def negative(layer, call):
        return -3

    with pytest.raises(ValueError, match="non-negative"):
        constant(Tripled())

    def odd(x):
        return x

    register_rule(odd, "1")(lambda function, call: 1.0)
    assert constant(layers.Activation(odd)) == 1
    with pytest.raises(TypeError, match="subclass"):
        register_rule(int)
    with pytest.raises(TypeError, match="subclass"):
        register_rule("Dense")


def test_quantized_and_training_layers_have_no_bound():
    inputs = keras.Input((3,))
    x = layers.Dropout(0.5)(inputs, training=True)
    report = lipschitz_bound(keras.Model(inputs, x), lower=False)
    assert report.upper == math.inf
    assert "training=True" in report.unbounded[0].reason
    layer = layers.Dense(4)
    layer.build((None, 8))
    layer.quantize("int8")
    assert constant(layer) == math.inf
