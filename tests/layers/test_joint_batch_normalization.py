"""BatchNormalization, bounded by itself and together with what is before it."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

from keras_sn.layers import JointBatchNormalization
from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import linear_maps
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.models import normalize_model
from keras_sn.norms import spectral_norm
from tests import truth
from tests.layers.harness import Harness
from tests.models.networks import randomized
from tests.thoroughness import EVERYTHING
from tests.thoroughness import left_out

LINEAR = {
    "dense": (lambda: layers.Dense(5), (6,)),
    "dense_no_bias": (lambda: layers.Dense(5, use_bias=False), (2, 6)),
    "conv1d": (lambda: layers.Conv1D(5, 3, padding="causal"), (7, 3)),
    "conv2d": (lambda: layers.Conv2D(5, 3, padding="same"), (5, 5, 3)),
    "conv2d_grouped": (lambda: layers.Conv2D(4, 3, groups=2), (5, 5, 4)),
    "conv2d_strided": (lambda: layers.Conv2D(4, 3, strides=2), (7, 7, 2)),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (5, 5, 2),
    ),
    "separable": (lambda: layers.SeparableConv2D(4, 3), (5, 5, 2)),
    "transposed": (lambda: layers.Conv2DTranspose(4, 3, strides=2), (3, 3, 2)),
}
each = pytest.mark.parametrize("name", LINEAR)


def built(name, **options):
    make, shape = LINEAR[name]
    layer = JointBatchNormalization(make(), **options)
    layer.build((None, *shape))
    randomized(layer.layer, seed=1)
    layer.refresh()
    return layer, shape


@each
def test_the_map_is_that_of_both(name):
    layer, shape = built(name)
    (linear_map,) = [
        m for m in linear_maps(layer.layer).values() if m.path.endswith("gamma")
    ]
    if hasattr(linear_map.base, "at_size"):
        linear_map.base = linear_map.base.at_size(shape[:-1])
    inputs = np.random.default_rng(0).standard_normal((3, *shape))
    inputs = inputs.astype("float32")

    def both(x):
        return truth.to_numpy(layer.layer(x, training=False))

    expected = both(inputs) - both(0 * inputs)
    if not hasattr(linear_map.base, "at_size"):
        inputs = inputs.reshape(-1, shape[-1])
    tensor = keras.ops.convert_to_tensor(inputs)
    outputs = truth.to_numpy(linear_map.matvec(tensor))
    np.testing.assert_allclose(
        outputs.ravel(), expected.ravel(), rtol=1e-4, atol=1e-4
    )
    other = np.random.default_rng(1).standard_normal(outputs.shape)
    tensor = keras.ops.convert_to_tensor(other.astype("float32"))
    pulled = truth.to_numpy(linear_map.rmatvec(tensor))
    assert np.sum(outputs * other) == pytest.approx(
        np.sum(inputs * pulled), rel=1e-4, abs=1e-3
    )


@each
@pytest.mark.parametrize("mode", ["clip", "normalize"])
def test_norm_of_the_dense_matrix(name, mode):
    layer, shape = built(name, norm_bound=0.5, mode=mode)
    matrix = truth.dense_matrix(layer, shape, training=False)
    norm = truth.spectral_norm(matrix)
    bound = lipschitz_bound(layer, lower=False).upper
    assert norm <= bound * (1 + 1e-5)
    assert norm <= 0.5 * 1.04
    for certified in (False, True):
        folded = fold_model(layer, certified=certified)
        assert type(folded) is type(LINEAR[name][0]())
        inputs = np.random.default_rng(0).standard_normal((2, *shape))
        np.testing.assert_allclose(
            truth.to_numpy(folded(inputs)),
            truth.to_numpy(layer(inputs)),
            atol=0.05 if certified else 2e-3,
        )
    assert spectral_norm(folded).upper <= 0.5


def test_below_the_bound_nothing_changes():
    layer, shape = built("conv2d", norm_bound=1e6, mode="clip")
    inputs = np.random.default_rng(0).standard_normal((4, *shape))
    np.testing.assert_allclose(
        truth.to_numpy(layer(inputs)),
        truth.to_numpy(layer.layer(inputs, training=False)),
        rtol=1e-6,
    )
    copy = keras.models.clone_model(
        keras.Sequential([keras.Input(shape), layer])
    ).layers[0]
    copy.set_weights(layer.get_weights())
    trained = truth.to_numpy(copy.layer(inputs, training=True))
    np.testing.assert_allclose(
        truth.to_numpy(layer(inputs, training=True)), trained, atol=1e-4
    )
    for mine, plain in zip(layer.weights, copy.weights, strict=True):
        if mine.name.startswith("moving"):
            np.testing.assert_allclose(
                truth.to_numpy(mine), truth.to_numpy(plain), rtol=1e-5
            )


def test_in_training_the_statistics_of_the_batch_count():
    """A moving variance that is far off changes nothing in training."""
    layer, shape = built("dense", norm_bound=0.5, mode="normalize")
    layer.normalization.moving_variance.assign(np.full(5, 1e4, "float32"))
    inputs = np.random.default_rng(0).standard_normal((64, *shape))
    inputs = inputs.astype("float32")
    outputs = truth.to_numpy(layer(inputs, training=True))
    kernel = truth.to_numpy(layer.linear.kernel)
    gamma = truth.to_numpy(layer.normalization.gamma)
    beta = truth.to_numpy(layer.normalization.beta)
    products = inputs @ kernel
    products = products - products.mean(axis=0)
    scale = gamma / np.sqrt(products.var(axis=0) + 1e-3)
    norm = truth.spectral_norm(kernel * scale)
    expected = products * scale * (0.5 / norm) + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-2, atol=1e-2)


def test_config_and_weights_survive(tmp_path):
    layer, shape = built("conv2d", norm_bound=0.7, mode="normalize")
    model = keras.Sequential([keras.Input(shape), layer])
    inputs = np.random.default_rng(0).standard_normal((4, *shape))
    expected = truth.to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        truth.to_numpy(again(inputs)), expected, atol=1e-6
    )
    assert again.layers[0].norm_bound == 0.7
    assert again.layers[0].mode == "normalize"


def test_keras_layer_harness():
    Harness("run_layer_test").run_layer_test(
        JointBatchNormalization,
        init_kwargs={"layer": layers.Dense(3)},
        input_data=np.random.default_rng(0).standard_normal((8, 4)),
    )


def test_normalizing_leaves_it_alone():
    layer, shape = built("dense")
    model = keras.Sequential([keras.Input(shape), layer, layers.Dense(2)])
    first, _ = normalize_model(model).layers
    assert type(first) is JointBatchNormalization


@pytest.mark.parametrize(
    ("make", "normalization", "message"),
    [
        (lambda: layers.Dense(3, "relu"), None, "has the activation"),
        (
            lambda: layers.Dense(3),
            lambda: layers.BatchNormalization(scale=False),
            "must have a scale",
        ),
        (
            lambda: layers.Conv2D(3, 3),
            lambda: layers.BatchNormalization(axis=1),
            "normalize axis -1",
        ),
        (
            lambda: layers.Dense(3),
            lambda: layers.LayerNormalization(),
            "must be a keras.layers.BatchNormalization",
        ),
    ],
)
def test_bad_arguments(make, normalization, message):
    with pytest.raises(ValueError, match=message):
        JointBatchNormalization(make(), normalization and normalization())


@pytest.mark.parametrize(
    "arguments", [{"mode": "cut"}, {"norm": "l1"}, {"norm_bound": 0}]
)
def test_bad_arguments_name_the_layer(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be .*'logits'"):
        JointBatchNormalization(layers.Dense(3, name="logits"), **arguments)


def test_a_layer_whose_outputs_are_not_known():
    layer = JointBatchNormalization(layers.EinsumDense("ab,bc->ac", 3))
    with pytest.raises(ValueError, match="It is not known which outputs"):
        layer.build((None, 4))


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_normalization_by_itself(axis):
    """Wrapped alone, its largest `gamma / sqrt(variance)` is bounded."""
    layer = SpectralNormalization(
        layers.BatchNormalization(axis=axis),
        norm="operator",
        mode="clip",
        norm_bound=1.5,
    )
    model = keras.Sequential([keras.Input((3, 4)), layer])
    model.compile("adam", "mse")
    x = 0.1 * np.random.default_rng(0).standard_normal((64, 3, 4))
    model.fit(x, 100 * x, epochs=30, verbose=0, batch_size=16)
    matrix = truth.dense_matrix(model, (3, 4), training=False)
    assert truth.spectral_norm(matrix) == pytest.approx(1.5, rel=1e-4)
    assert lipschitz_bound(model, lower=False).upper <= 1.5 * (1 + 1e-5)


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype("float32"), y[order]


EPOCHS, TRAINED = 20, 1400


def accuracy(pair, convolutional, seed=0):
    """Trains a network of two pairs on digits; the model and its accuracy."""
    keras.utils.set_random_seed(seed)
    parts = [keras.Input((64,))]
    if convolutional:
        parts += [layers.Reshape((8, 8, 1))]
        parts += pair(layers.Conv2D(16, 3, padding="same", use_bias=False))
        parts += [layers.ReLU()]
        parts += pair(layers.Conv2D(32, 3, strides=2, padding="same"))
        parts += [layers.ReLU(), layers.Flatten()]
    else:
        parts += [*pair(layers.Dense(64)), layers.ReLU()]
        parts += [*pair(layers.Dense(64)), layers.ReLU()]
    model = keras.Sequential([*parts, layers.Dense(10)])
    x, y = digits()
    steps = EPOCHS * -(-TRAINED // 64)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x[:TRAINED], y[:TRAINED], epochs=EPOCHS, batch_size=64, verbose=0)
    return model, model.evaluate(x[TRAINED:], y[TRAINED:], verbose=0)[1]


@pytest.mark.parametrize(
    "convolutional",
    [
        False,
        pytest.param(
            True,
            marks=left_out("jax", "tensorflow", reason="two long trainings"),
        ),
    ],
    ids=["dense", "conv"],
)
def test_on_digits(convolutional):
    """Certified at the bound, and nearly as accurate as without one.

    The plain pairs have norms of 3 to 18.
    """
    _, plain = accuracy(
        lambda layer: [layer, layers.BatchNormalization()], convolutional
    )
    model, bounded = accuracy(
        lambda layer: [JointBatchNormalization(layer, norm_bound=2.0)],
        convolutional,
    )
    print("accuracy", plain, bounded)
    pairs = [p for p in model.layers if isinstance(p, JointBatchNormalization)]
    bounds = [spectral_norm(pair, rtol=1e-3).upper for pair in pairs]
    print("bounds", bounds)
    assert max(bounds) <= 2.0 * 1.01
    folded = fold_model(model, certified=True)
    for pair in pairs:
        assert spectral_norm(folded.get_layer(pair.name)).upper <= 2.0
    assert bounded >= plain - 0.02


@pytest.mark.skipif(
    not EVERYTHING, reason="ten trainings, minutes: make test-thorough"
)
@pytest.mark.parametrize("convolutional", [False, True], ids=["dense", "conv"])
def test_on_digits_with_a_bound_of_1(convolutional):
    """Of one seed an image more or less is a quarter of a point."""
    lost = []
    for seed in range(5):
        _, plain = accuracy(
            lambda layer: [layer, layers.BatchNormalization()],
            convolutional,
            seed,
        )
        model, bounded = accuracy(
            lambda layer: [JointBatchNormalization(layer)], convolutional, seed
        )
        for pair in model.layers:
            if isinstance(pair, JointBatchNormalization):
                assert spectral_norm(pair, rtol=1e-3).upper <= 1.01
        lost.append(plain - bounded)
    print("accuracy lost", lost)
    assert np.mean(lost) <= 0.02
