"""Variants of the wrapper: gain, bounds that vary, updates now and then."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import JointBatchNormalization
from keras_sn.layers import SpectralNormalization
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model
from keras_sn.norms import spectral_norm
from tests import truth
from tests.gradients import gradients
from tests.gradients import inner

SHAPES = {"dense": (6,), "wide": (3, 6), "conv": (5, 5, 2), "lstm": (4, 3)}
LAYERS = {
    "dense": lambda: layers.Dense(5),
    "wide": lambda: layers.EinsumDense("abc,cd->abd", (None, 4)),
    "conv": lambda: layers.Conv2D(4, 3, strides=2),
    "lstm": lambda: layers.LSTM(3),
}
VARIANTS = {
    "gain": {"gain": True, "norm_bound": 0.7},
    "clipped": {"gain": True, "norm_bound": 0.7, "mode": "clip"},
    "rms": {"norm_bound": "rms"},
    "schedule": {
        "norm_bound": keras.optimizers.schedules.PiecewiseConstantDecay(
            [2, 4], [2.0, 1.0, 0.5]
        )
    },
    "bidirectional": {"norm": "bidirectional"},
    "now and then": {"update_every": 2},
    "all": {
        "gain": True,
        "norm_bound": keras.optimizers.schedules.ExponentialDecay(2.0, 3, 0.5),
        "update_every": 3,
        "power_iterations": 2,
    },
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def built(layer="dense", seed=0, **options):
    """A wrapper, with weights that are the same on every backend."""
    wrapper = SpectralNormalization(LAYERS[layer](), **options)
    wrapper.build((None, *SHAPES[layer]))
    rng = np.random.default_rng(seed)
    for variable in wrapper.layer.weights:
        variable.assign(rng.standard_normal(tuple(variable.shape)))
    wrapper.refresh()
    return wrapper


def inputs(layer="dense", batch=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, *SHAPES[layer])).astype("float32")


def applied(wrapper):
    """The one weight that the wrapper applies at inference."""
    (value,) = wrapper.normalized_weights().values()
    return truth.to_numpy(value)


def matrix(kernel):
    return kernel.reshape(-1, kernel.shape[-1])


@pytest.mark.parametrize("mode", ["normalize", "clip"])
@pytest.mark.parametrize("layer", ["dense", "conv"])
def test_the_gain_multiplies(layer, mode):
    wrapper = built(layer, gain=True, norm_bound=0.7, mode=mode)
    (gain,) = wrapper.gains.values()
    assert truth.to_numpy(gain) == 1.0
    assert gain.trainable
    gain.assign(-1.5)
    kernel = truth.to_numpy(wrapper.kernel)
    expected = -1.5 * 0.7 * kernel / truth.spectral_norm(matrix(kernel))
    np.testing.assert_allclose(applied(wrapper), expected, rtol=1e-4, atol=1e-6)
    plain = LAYERS[layer]()
    plain.build((None, *SHAPES[layer]))
    plain.set_weights([expected, truth.to_numpy(wrapper.layer.bias)])
    x = inputs(layer)
    for training in (True, False):
        np.testing.assert_allclose(
            truth.to_numpy(wrapper(x, training=training)),
            truth.to_numpy(plain(x)),
            rtol=1e-4,
            atol=1e-5,
        )
    upper = spectral_norm(wrapper, "kernel").upper
    assert upper == pytest.approx(1.05, rel=2e-2)
    folded = fold_model(wrapper, certified=True)
    np.testing.assert_allclose(
        truth.to_numpy(folded.kernel), expected, rtol=2e-2, atol=1e-6
    )
    assert spectral_norm(folded, "kernel").upper <= 1.5 * 0.7


@pytest.mark.parametrize("layer", ["dense", "conv", "lstm"])
@pytest.mark.parametrize("update_every", [1, 2])
def test_gradients_of_gain_and_kernel(layer, update_every):
    """By finite differences of the layer with its kernel as NumPy sees it."""
    wrapper = built(layer, gain=True, update_every=update_every)
    x = inputs(layer)
    if update_every == 2:
        # The second call differentiates along the vectors of the first.
        wrapper(x, training=True)
    variables = [*wrapper.gains.values(), *_kernels(wrapper)]
    outputs = wrapper(x, training=False)
    weights = np.random.default_rng(1).standard_normal(tuple(outputs.shape))
    weights = weights.astype("float32")
    found = gradients(
        lambda: inner(wrapper(x, training=True), weights), variables
    )
    start = [truth.to_numpy(variable) for variable in variables]
    count = len(start) // 2
    plain = LAYERS[layer]()
    plain.build((None, *SHAPES[layer]))
    plain.set_weights(wrapper.layer.get_weights())

    def value(numbers):
        for variable, gain, kernel in zip(
            _kernels(wrapper, plain),
            numbers[:count],
            numbers[count:],
            strict=True,
        ):
            norm = truth.spectral_norm(matrix(kernel))
            variable.assign((gain * kernel / norm).astype("float32"))
        return (truth.to_numpy(plain(x)) * weights).sum()

    rng = np.random.default_rng(2)
    for i, gradient in enumerate(found):
        direction = rng.standard_normal(start[i].shape)
        step = 1e-2
        ends = [
            value([*start[:i], start[i] + s * direction, *start[i + 1 :]])
            for s in (step, -step)
        ]
        expected = (ends[0] - ends[1]) / (2 * step)
        slope = (truth.to_numpy(gradient) * direction).sum()
        assert slope == pytest.approx(expected, rel=2e-2, abs=2e-2)


def _kernels(wrapper, layer=None):
    layer = layer or wrapper.layer
    names = ("kernel", "recurrent_kernel")
    return [v for v in layer.trainable_variables if v.name in names]


RESHAPED = {
    "conv": lambda: layers.Conv2D(4, 3, strides=2),
    "grouped": lambda: layers.Conv2D(6, 3, groups=2),
    "transposed": lambda: layers.Conv2DTranspose(3, 2),
}


def mean_of_reshapes(kernel, groups=1):
    """The mean of the norms of the two matrices of a kernel."""
    parts = np.split(kernel, groups, axis=-1)
    swapped = [part.swapaxes(-1, -2) for part in parts]
    norms = [
        max(truth.spectral_norm(matrix(part)) for part in either)
        for either in (parts, swapped)
    ]
    assert groups > 1 or norms[0] != pytest.approx(norms[1], rel=1e-3)
    return sum(norms) / 2


@pytest.mark.parametrize("update_every", [1, 2])
@pytest.mark.parametrize("kind", RESHAPED)
def test_both_reshapes(kind, update_every):
    wrapper = SpectralNormalization(
        RESHAPED[kind](),
        norm="bidirectional",
        norm_bound=0.5,
        update_every=update_every,
    )
    wrapper.build((None, 5, 5, 4))
    groups = getattr(wrapper.layer, "groups", 1)
    kernel = truth.to_numpy(wrapper.kernel)
    norm = mean_of_reshapes(kernel, groups)
    np.testing.assert_allclose(
        applied(wrapper), 0.5 * kernel / norm, rtol=1e-3, atol=1e-6
    )
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 4))
    x = x.astype("float32")
    weights = np.ones(tuple(wrapper(x).shape), "float32")
    (found,) = gradients(
        lambda: inner(wrapper(x, training=True), weights), [wrapper.kernel]
    )
    direction = np.random.default_rng(1).standard_normal(kernel.shape)
    plain = RESHAPED[kind]()
    plain.build((None, 5, 5, 4))
    ends = []
    for step in (1e-2, -1e-2):
        moved = kernel + step * direction
        scaled = 0.5 * moved / mean_of_reshapes(moved, groups)
        plain.kernel.assign(scaled.astype("float32"))
        ends.append((truth.to_numpy(plain(x)) * weights).sum())
    slope = (truth.to_numpy(found) * direction).sum()
    expected = (ends[0] - ends[1]) / 2e-2
    assert slope == pytest.approx(expected, rel=2e-2, abs=2e-2)
    # Other weights: found anew.
    wrapper.kernel.assign(2 * kernel[..., ::-1])
    assert mean_of_reshapes(applied(wrapper), groups) == pytest.approx(
        0.5, rel=2e-3
    )
    folded = fold_model(wrapper, certified=True)
    norm = mean_of_reshapes(truth.to_numpy(folded.kernel), groups)
    assert 0.49 < norm <= 0.5


def test_each_weight_has_a_gain_of_its_own():
    wrapper = built("lstm", gain=True)
    first, second = wrapper.gains.values()
    first.assign(2.0)
    second.assign(0.5)
    norms = [
        truth.spectral_norm(truth.to_numpy(value))
        for value in wrapper.normalized_weights().values()
    ]
    np.testing.assert_allclose(norms, [2.0, 0.5], rtol=2e-3)


@pytest.mark.parametrize(
    ("make", "shape", "norm", "expected"),
    [
        (lambda: layers.Dense(8), (2,), "kernel", 2.0),
        (lambda: layers.Conv2D(8, 3), (6, 6, 2), "kernel", (8 / 18) ** 0.5),
        (lambda: layers.Conv2D(8, 3), (6, 6, 2), "operator", 2.0),
        (
            lambda: layers.Conv2D(8, 3, strides=2),
            (6, 6, 2),
            "operator",
            1.0,
        ),
        (lambda: layers.Embedding(50, 9), (4,), "kernel", 3.0),
    ],
)
def test_rms(make, shape, norm, expected):
    wrapper = SpectralNormalization(make(), norm=norm, norm_bound="rms")
    wrapper.build((None, *shape))
    folded = fold_model(wrapper, certified=True)
    upper = spectral_norm(folded, norm, rtol=1e-3).upper
    assert 0.9 * expected < upper <= expected * (1 + 1e-12)


def test_rms_keeps_root_mean_squares():
    wrapper = built("dense", norm_bound="rms")
    kernel = applied(wrapper)
    vectors, _, _ = np.linalg.svd(kernel)
    largest = vectors[:, 0] @ kernel

    def rms(vector):
        return np.sqrt(np.mean(vector**2))

    assert rms(largest) == pytest.approx(rms(vectors[:, 0]), rel=1e-3)


@pytest.mark.parametrize("update_every", [1, 2])
def test_a_schedule_goes_by_training_calls(update_every):
    schedule = VARIANTS["schedule"]["norm_bound"]
    wrapper = built("conv", norm_bound=schedule, update_every=update_every)
    x, norms = inputs("conv"), []
    for _ in range(7):
        norms.append(truth.spectral_norm(matrix(applied(wrapper))))
        wrapper(x)
        wrapper(x, training=True)
    # PiecewiseConstantDecay changes behind its boundaries.
    expected = [2, 2, 2, 1, 1, 0.5, 0.5]
    if update_every == 2:
        expected = [2, 2, 2, 2, 1, 1, 0.5]
    np.testing.assert_allclose(norms, expected, rtol=2e-3)
    wrapper.trainable = False
    wrapper(x, training=True)
    assert int(wrapper.state_variables()[-1]) == 7


@pytest.mark.parametrize(
    ("kind", "size"), [("dense", 6), ("dense", 600), ("conv", 0), ("lstm", 0)]
)
def test_two_calls_see_the_same_weights(kind, size):
    """D(real) and D(fake): by counting, and by the effective kernels."""
    shape = (size,) if kind == "dense" else SHAPES[kind]
    layer = layers.Dense(size) if kind == "dense" else LAYERS[kind]()
    wrapper = SpectralNormalization(layer, update_every=2)
    wrapper.build((None, *shape))
    counted = _count_updates(wrapper)
    x = np.random.default_rng(0).standard_normal((4, *shape))
    x = x.astype("float32")
    kernel = wrapper._normalized[0].variable
    rng = np.random.default_rng(3)
    for step in range(3):
        outputs, states = [], []
        for _ in range(2):
            outputs.append(truth.to_numpy(wrapper(x, training=True)))
            states.append([truth.to_numpy(v) for v in _vectors(wrapper)])
        # The factor is the only thing that could differ.
        np.testing.assert_array_equal(*outputs)
        for first, second in zip(*states, strict=True):
            np.testing.assert_array_equal(first, second)
        assert len(counted) == (step + 1) * len(wrapper._normalized)
        change = rng.standard_normal(tuple(kernel.shape))
        kernel.assign_add(0.01 * change.astype("float32"))


def _vectors(wrapper):
    return [v for v in wrapper.state_variables() if v.dtype == "float32"]


def _count_updates(wrapper):
    """A list that grows with each update of a state."""
    counted = []
    for weight in wrapper._normalized:
        follow = weight.tracker.follow

        def counting(*args, follow=follow):
            counted.append(1)
            return follow(*args)

        weight.tracker.follow = counting
    return counted


@pytest.mark.parametrize("jit_compile", [False, True])
def test_updates_now_and_then_in_a_graph(jit_compile):
    """The state moves in every third step of `fit`, and stays else."""
    wrapper = SpectralNormalization(layers.Dense(5), update_every=3)
    model = keras.Sequential([keras.Input((6,)), wrapper])
    if keras.backend.backend() == "torch":
        jit_compile = False
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=jit_compile)
    x = inputs(batch=4)
    seen = [truth.to_numpy(wrapper.vector_u)]
    for _ in range(6):
        model.train_on_batch(x, np.ones((4, 5)))
        seen.append(truth.to_numpy(wrapper.vector_u))
    moved = [
        bool(np.abs(after - before).max() > 0)
        for before, after in itertools.pairwise(seen)
    ]
    assert moved == [True, False, False] * 2
    norm = truth.spectral_norm(applied(wrapper))
    assert norm == pytest.approx(1.0, rel=2e-2)


@each_variant
def test_fit_save_fold_and_bound(variant, tmp_path):
    options = VARIANTS[variant]
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            SpectralNormalization(
                LAYERS["conv"](), **{"norm": "operator", **options}
            ),
            layers.ReLU(),
            layers.Flatten(),
            SpectralNormalization(layers.Dense(3), **options),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = inputs("conv", batch=24)
    y = np.random.default_rng(4).standard_normal((24, 3))
    model.fit(x, y, batch_size=4, verbose=0)
    outputs = model.predict(x, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_allclose(again.predict(x, verbose=0), outputs, atol=1e-6)
    for old, new in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(truth.to_numpy(old), truth.to_numpy(new))
    folded = fold_model(model)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), outputs, rtol=2e-2, atol=2e-2
    )
    norms = [row.upper for row in norm_report(model, "kernel").rows]
    dense = model.layers[-1]
    expected = truth.spectral_norm(applied(dense))
    assert norms[-1] == pytest.approx(expected, rel=2e-2)
    if options.get("gain"):
        (gain,) = dense.gains.values()
        assert abs(truth.to_numpy(gain)) != 1.0
    certified = fold_model(model, certified=True)
    assert certified.predict(x, verbose=0).shape == outputs.shape
    upper = lipschitz_bound(certified, method="product", lower=False).upper
    limit = 1.0
    if options.get("norm") == "bidirectional":
        # No bound of the layer: between 1 and the number of taps.
        limit = 9.0
    for wrapper in (model.layers[0], dense):
        (weight,) = wrapper._normalized
        bound, gain = wrapper.bound_and_gain(weight.variable)
        limit *= bound * abs(gain)
    assert upper <= limit * (1 + 1e-5)


def test_a_joint_normalization_takes_them_too():
    layer = JointBatchNormalization(
        layers.Dense(5), norm_bound=0.5, gain=True, update_every=2
    )
    layer.build((None, 6))
    (gain,) = layer.gains.values()
    gain.assign(3.0)
    layer(inputs(), training=True)
    folded = fold_model(layer, certified=True)
    norm = truth.spectral_norm(truth.to_numpy(folded.kernel))
    assert 1.4 < norm <= 1.5
    config = JointBatchNormalization.from_config(layer.get_config())
    assert config.gain
    assert config.update_every == 2


def test_float64_and_rounded_policies():
    schedule = VARIANTS["schedule"]["norm_bound"]
    for dtype in ("float64", "mixed_bfloat16", "float16"):
        wrapper = SpectralNormalization(
            layers.Dense(5, dtype=dtype),
            norm_bound=schedule,
            gain=True,
            update_every=2,
            dtype=dtype,
        )
        outputs = [wrapper(inputs(), training=True) for _ in range(2)]
        np.testing.assert_array_equal(*map(truth.to_numpy, outputs))


def test_a_budget_has_no_room_for_a_gain():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="`gain` would leave the budget"):
        normalize_model(model, lipschitz=1.0, gain=True)
    copy = normalize_model(model, norm_bound="rms", update_every=2)
    assert copy.layers[-1].norm_bound == "rms"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_bound": "rsm"}, "'rms', or a schedule.*'rsm'"),
        ({"norm_bound": -1}, "positive, finite.*-1"),
        ({"norm_bound": True, "gain": 2}, "`gain`.*'here'.*gain=2"),
        ({"update_every": 0}, "`update_every`.*'here'.*update_every=0"),
        ({"update_every": 1.5}, "positive integer.*1.5"),
        ({"update_every": True}, "positive integer.*True"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SpectralNormalization(layers.Dense(3, name="here"), **options)
