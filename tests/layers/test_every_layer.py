"""Every kind of Keras layer, wrapped: one table, the same checks for each."""

import keras
import numpy as np
import pytest

from keras_sn.layers import SpectralNormalization
from tests.layers.cases import CASES
from tests.layers.harness import Harness
from tests.thoroughness import EVERYTHING
from tests.truth import kernel_norm
from tests.truth import to_numpy

pytestmark = pytest.mark.parametrize("case", CASES, ids=str)

HARNESS_SAMPLE = ("dense", "conv2d", "embedding", "lstm", "batch_normalization")


def skip_unsupported(case):
    if case.channels_first and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no channels_first convolution on a CPU")


def owner_of(layer, variable):
    """The innermost layer that holds a variable as an attribute."""
    for part in [*layer._flatten_layers()][::-1]:
        if any(value is variable for value in vars(part).values()):
            return part
    raise AssertionError(f"nobody owns {variable.path}")


def norms(wrapper):
    """`{path: norm}` of the effective weights, by numpy."""
    variables = {v.path: v for v in wrapper.layer.weights}
    return {
        path: kernel_norm(
            owner_of(wrapper.layer, variables[path]),
            variables[path].name,
            to_numpy(value),
        )
        for path, value in wrapper.normalized_weights().items()
    }


def train(case, wrapper, steps=12):
    """Fits random targets; returns the model and the losses of two epochs."""
    model = case.model(wrapper)
    inputs = case.inputs()
    targets = [
        np.random.default_rng(1).standard_normal(o.shape).astype("float32")
        for o in keras.tree.flatten(model(inputs))
    ]
    # XLA compiles each case for seconds; the other modes have tests of
    # their own in test_backends_agree.py.
    jit = "auto" if keras.backend.backend() == "jax" else False
    model.compile(
        keras.optimizers.SGD(0.002, momentum=0.5), "mse", jit_compile=jit
    )
    # An epoch costs TensorFlow and JAX more than its steps.
    inputs, targets = keras.tree.map_structure(
        lambda x: np.concatenate([x] * (steps // 2)), (inputs, targets)
    )
    history = model.fit(
        inputs, targets, epochs=2, batch_size=4, verbose=0, shuffle=False
    )
    return model, history.history["loss"]


def test_normalizes_trains_and_reloads(case, tmp_path):
    skip_unsupported(case)
    wrapper = SpectralNormalization(case.make(), norm_bound=1.5)
    case.model(wrapper)
    names = [v.name for v in wrapper.layer.trainable_weights]
    before = [to_numpy(v) for v in wrapper.layer.trainable_weights]
    for path, norm in norms(wrapper).items():
        assert norm == pytest.approx(1.5, rel=1e-3), path
    assert tuple(p.split("/")[-1] for p in wrapper.vectors_u) == case.weights

    model, losses = train(case, wrapper)
    assert losses[-1] < losses[0]
    after = [to_numpy(v) for v in wrapper.layer.trainable_weights]
    for name, old, new in zip(names, before, after, strict=True):
        assert np.abs(old - new).max() > 0, f"{name} did not move"
    for path, norm in norms(wrapper).items():
        assert norm == pytest.approx(1.5, rel=1e-2), path

    outputs = model.predict(case.inputs(seed=2), verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    again = reloaded.predict(case.inputs(seed=2), verbose=0)
    np.testing.assert_array_equal(outputs, again)


@pytest.mark.on_every_backend
def test_equals_the_plain_layer_with_normalized_weights(case):
    skip_unsupported(case)
    wrapper = SpectralNormalization(case.make(), norm_bound=0.7)
    inputs = case.inputs()
    wrapper(*inputs)
    rng = np.random.default_rng(0)
    for variable in wrapper.layer.weights:
        if variable.name == "bias":
            variable.assign(rng.standard_normal(tuple(variable.shape)))
    outputs = to_numpy(wrapper(*inputs))
    weights = wrapper.normalized_weights()
    for variable in wrapper.layer.weights:
        if variable.path in weights:
            variable.assign(weights[variable.path])
    plain = to_numpy(wrapper.layer(*inputs))
    np.testing.assert_allclose(outputs, plain, rtol=1e-5, atol=1e-5)


def test_masks_pass(case):
    if not case.masked:
        pytest.skip("the wrapped layer does not keep a mask")
    inputs = case.inputs()[0]
    if case.integers:
        inputs[:, -2:] = 0
        layers = []
    else:
        inputs[:, -1:] = 0
        layers = [keras.layers.Masking()]
    plain = keras.Sequential([*layers, case.make()])
    wrapped = keras.Sequential([*layers, SpectralNormalization(case.make())])
    expected = plain(inputs)._keras_mask
    mask = wrapped(inputs)._keras_mask
    np.testing.assert_array_equal(to_numpy(mask), to_numpy(expected))


def test_keeps_the_dtype_of_the_wrapped_layer(case):
    skip_unsupported(case)
    layer = case.make()
    inputs = case.inputs()
    expected = keras.tree.map_structure(
        lambda x: keras.backend.standardize_dtype(x.dtype), layer(*inputs)
    )
    wrapper = SpectralNormalization(layer)
    outputs = keras.tree.map_structure(
        lambda x: keras.backend.standardize_dtype(x.dtype), wrapper(*inputs)
    )
    assert outputs == expected


def test_keras_layer_harness(case):
    """`run_layer_test`, Keras's own check of any layer."""
    skip_unsupported(case)
    compiles = keras.backend.backend() != "torch"
    if compiles and not EVERYTHING and str(case) not in HARNESS_SAMPLE:
        pytest.skip("compiles for minutes: run `make test-thorough`")
    if len(case.input_shapes) > 1:
        pytest.skip("the harness passes one input only")
    Harness("run_layer_test").run_layer_test(
        SpectralNormalization,
        init_kwargs={"layer": case.make()},
        input_data=case.inputs()[0],
        run_mixed_precision_check=not case.integers,
    )
