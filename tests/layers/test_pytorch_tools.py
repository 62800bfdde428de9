"""What PyTorch's own tools do to a model with wrappers in it, unfolded."""

import copy
import io
import pickle

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.layers.cases import CASES
from tests.thoroughness import fuzzing
from tests.truth import dense_matrix
from tests.truth import spectral_norm
from tests.truth import to_numpy

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="PyTorch only"
)

BATCH = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            SpectralNormalization(layers.Dense(3, activation="tanh")),
            SpectralNormalization(layers.Dense(2)),
        ]
    )
    for layer in model.layers:
        layer.layer.bias.assign(np.arange(layer.layer.units))
    return model


@pytest.fixture
def batch():
    return torch.from_numpy(BATCH)


def expected(model, inputs=BATCH):
    """What a model of that architecture computes, in NumPy."""
    first, second = (wrapper.layer for wrapper in model.layers)
    hidden = np.tanh(_affine(first, inputs))
    return _affine(second, hidden)


def _affine(dense, inputs):
    kernel = to_numpy(dense.kernel)
    return inputs @ kernel / spectral_norm(kernel) + to_numpy(dense.bias)


def _saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": _saved_and_loaded,
}


@pytest.mark.parametrize("way", COPIES)
def test_copies(way, model, batch):
    twin = COPIES[way](model)
    result = to_numpy(twin(batch))
    np.testing.assert_allclose(result, expected(model), atol=1e-5)
    # Parameters are in the order of the model's, which lists rely on.
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert [tuple(p.shape) for p in twin.parameters()] == shapes
    model.layers[0].layer.kernel.assign(np.ones((4, 3)))
    np.testing.assert_array_equal(to_numpy(twin(batch)), result)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_model(use_buffers, model, batch):
    """The average of weights W and 3 W is 2 W, normalized W / sigma(W)."""
    averaged = torch.optim.swa_utils.AveragedModel(
        model, use_buffers=use_buffers
    )
    averaged.update_parameters(model)
    outputs = expected(model)
    for wrapper in model.layers:
        wrapper.layer.kernel.assign(3 * to_numpy(wrapper.layer.kernel))
    averaged.update_parameters(model)
    np.testing.assert_allclose(to_numpy(averaged(batch)), outputs, atol=1e-5)
    kernel = averaged.module.layers[0].layer.kernel
    original = to_numpy(model.layers[0].layer.kernel)
    np.testing.assert_allclose(to_numpy(kernel), original * 2 / 3, rtol=1e-5)


def test_average_of_weights_far_apart_is_normalized(model, batch):
    averaged = torch.optim.swa_utils.AveragedModel(model)
    rng = np.random.default_rng(1)
    for _ in range(4):
        for wrapper in model.layers:
            shape = tuple(wrapper.layer.kernel.shape)
            wrapper.layer.kernel.assign(rng.standard_normal(shape))
            wrapper.refresh()
        averaged.update_parameters(model)
    for wrapper in averaged.module.layers:
        (weight,) = wrapper.normalized_weights().values()
        assert spectral_norm(to_numpy(weight)) == pytest.approx(1, rel=1e-3)
    outputs = to_numpy(averaged(batch))
    np.testing.assert_allclose(outputs, expected(averaged.module), atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_vmap_over_examples(training, model, batch):
    outputs = torch.func.vmap(
        lambda row: model(row[None], training=training)[0]
    )(batch)
    np.testing.assert_allclose(to_numpy(outputs), expected(model), atol=1e-4)


def test_vmap_updates_the_state_of_a_large_layer_once():
    """Whose state is computed from a row of the batch."""
    batch = np.random.default_rng(0).standard_normal((4, 520))
    batch = torch.from_numpy(batch.astype("float32"))
    wrappers = [
        SpectralNormalization(layers.Dense(520, kernel_initializer=start))
        for start in [keras.initializers.GlorotNormal(seed=0)] * 2
    ]
    for wrapper in wrappers:
        wrapper.build((None, 520))
    outputs = torch.func.vmap(lambda row: wrappers[0](row[None], training=True))
    together = wrappers[1](batch, training=True)
    np.testing.assert_allclose(
        to_numpy(outputs(batch)[:, 0]), to_numpy(together), atol=1e-4
    )
    for found, expected_value in zip(
        *[w.variables for w in wrappers], strict=True
    ):
        np.testing.assert_allclose(
            to_numpy(found), to_numpy(expected_value), atol=1e-5
        )


@pytest.mark.parametrize("training", [False, True])
def test_gradients_per_sample(training, model, batch):
    trained = [v.value.detach() for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]

    def loss(values, row):
        outputs, _ = model.stateless_call(
            values, others, row[None], training=training
        )
        return (outputs**2).sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(
        trained, batch
    )
    for index in range(len(batch)):
        one_by_one = torch.func.grad(loss)(trained, batch[index])
        for all_at_once, alone in zip(found, one_by_one, strict=True):
            np.testing.assert_allclose(
                to_numpy(all_at_once[index]), to_numpy(alone), atol=1e-5
            )


@pytest.mark.parametrize("training", [False, True])
def test_torch_export(training, model, batch):
    program = torch.export.export(model, (batch,), {"training": training})
    outputs = program.module()(batch, training=training)
    np.testing.assert_allclose(to_numpy(outputs), expected(model), atol=1e-5)


def test_export_as_a_torch_program(model, batch, tmp_path):
    path = str(tmp_path / "model.pt2")
    model(batch)
    model.export(path, format="torch", verbose=False)
    program = torch.export.load(path).module()
    outputs = to_numpy(program(batch[:1]))
    np.testing.assert_allclose(outputs, expected(model, BATCH[:1]), atol=1e-5)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("training", [False, True])
def test_compiled_as_one_graph(training, model, batch):
    compiled = torch.compile(
        lambda inputs: model(inputs, training=training),
        backend="eager",
        fullgraph=True,
    )
    outputs = to_numpy(compiled(batch))
    np.testing.assert_allclose(outputs, expected(model), atol=1e-5)


# One for each way of calling the layer inside; those of Keras's layers that
# PyTorch compiles as one graph when they are not wrapped.
COMPILED = (
    "dense_nd",
    "einsum",
    "embedding",
    "conv2d",
    "conv2d_transpose",
    "depthwise2d",
    "separable2d",
    "lstm",
    "bidirectional",
    "time_distributed",
    "batch_normalization",
    "functional",
    "subclassed",
)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
@pytest.mark.parametrize("name", fuzzing(COMPILED[::3], COMPILED))
def test_layers_compiled_as_one_graph(name):
    (case,) = [case for case in CASES if case.name == name]
    torch._dynamo.reset()
    wrapper = SpectralNormalization(case.make(), norm="operator")
    model = case.model(wrapper)
    (inputs,) = [torch.from_numpy(array) for array in case.inputs()]
    exact = to_numpy(_first(model(inputs)))
    for training in (False, True):
        if training and name == "batch_normalization":
            continue  # Keras's own does not compile in training
        compiled = torch.compile(
            lambda inputs, training=training: model(inputs, training=training),
            backend="eager",
            fullgraph=True,
        )
        outputs = to_numpy(_first(compiled(inputs)))
        np.testing.assert_allclose(outputs, exact, atol=2e-3)


@pytest.mark.parametrize("norm", ["kernel", "operator"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast(case, norm):
    """The dtype of the plain layer, the numbers of single precision."""
    if case.name == "custom_kernel" and norm == "operator":
        pytest.skip("Its map is not registered")
    plain, wrapper = (
        case.make(),
        SpectralNormalization(case.make(), norm=norm),
    )
    inputs = [torch.from_numpy(array) for array in case.inputs()]
    for layer in (plain, wrapper):
        case.model(layer)
    exact = to_numpy(_first(wrapper(*inputs)))
    for training in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            ours = _first(wrapper(*inputs, training=training))
            theirs = _first(plain(*inputs, training=training))
        assert ours.dtype == theirs.dtype
        if training:
            ours.float().sum().backward()
        else:
            size = np.abs(exact).max()
            np.testing.assert_allclose(
                to_numpy(ours.float()), exact, atol=0.03 * size
            )


def _first(outputs):
    return keras.tree.flatten(outputs)[0]


def test_autocast_keeps_the_norm():
    """What is served in 16 bits has the norm 1, but for its own rounding."""
    wrapper = SpectralNormalization(layers.Dense(30, use_bias=False))
    wrapper.build((None, 40))
    with torch.autocast("cpu", torch.bfloat16):
        matrix = to_numpy(wrapper(torch.eye(40)).float())
    assert spectral_norm(matrix) == pytest.approx(1, rel=2**-7)
    assert spectral_norm(dense_matrix(wrapper, (40,))) == pytest.approx(
        1, rel=1e-4
    )
