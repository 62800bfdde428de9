"""Programs of users from swap to fold, export and report: `make test-zoo`."""

import gc
import os

import keras
import numpy as np
import pytest

from keras_sn.layers import SpectralNormalization
from keras_sn.linear_maps import linear_maps
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models import export_model
from keras_sn.models import fold_model
from keras_sn.models import norm_report
from keras_sn.models import normalize_model
from tests.models.networks import assert_close
from tests.models.networks import predict
from tests.models.programs import PROGRAMS
from tests.models.programs import gradient_penalty_step
from tests.models.programs import inputs_of
from tests.models.programs import train
from tests.models.programs import wgan_critic

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_SN_ZOO") != "1",
    reason="takes minutes: run `make test-zoo` (KERAS_SN_ZOO=1)",
)


def through(model, tmp_path, atol=1e-4):
    """Folds, exports and reports a trained model."""
    for layer in model.layers:
        if isinstance(layer, SpectralNormalization):
            layer.refresh()
    inputs = inputs_of(model, seed=1)
    folded = fold_model(model)
    assert_close(predict(model, inputs), predict(folded, inputs), atol)
    is_torch = keras.backend.backend() == "torch"
    name = "served.pt2" if is_torch else "served"
    assert export_model(model, tmp_path / name).exists()
    report = norm_report(model, norm="kernel", rtol=1e-3)
    assert all(np.isfinite(row.upper) for row in report.rows)
    # The data gives the search labels that an Embedding has.
    network = lipschitz_bound(folded, method="product", data=None, lower=False)
    assert network.upper >= 0
    gc.collect()
    return report, network


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = PROGRAMS[name]()
    train(model)
    report, network = through(model, tmp_path)
    wrappers = [
        layer
        for layer in model.layers
        if isinstance(layer, SpectralNormalization)
    ]
    assert len(report.rows) >= len(wrappers) > 0
    normalized = {layer.layer.name for layer in wrappers}
    for row in report.rows:
        if row.layer in normalized:
            assert row.upper <= 1.001, row
    if name in ("dcgan_discriminator", "wgan_critic", "critic", "actor"):
        assert np.isfinite(network.upper)


def test_wgan_gp(tmp_path):
    """The loop: the penalty's gradient goes through the wrapper twice."""
    keras.utils.set_random_seed(0)
    model = wgan_critic()
    rng = np.random.default_rng(0)
    optimizer = keras.optimizers.Adam(1e-3)
    for _ in range(3):
        real, fake = rng.standard_normal((2, 8, 2)).astype("float32")
        gradients = gradient_penalty_step(model, real, fake)
        assert all(np.isfinite(g).all() for g in gradients)
        assert max(np.abs(g).max() for g in gradients) > 0
        optimizer.apply(
            [keras.ops.convert_to_tensor(g) for g in gradients],
            model.trainable_variables,
        )
    _, network = through(model, tmp_path)
    # Three layers of norm one, and slopes of at most one.
    assert network.upper <= 1.001


def hub(name):
    keras_hub = pytest.importorskip("keras_hub")
    if name == "vit":
        return keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3),
            patch_size=(16, 16),
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
        )
    if name == "resnet":
        return keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            image_shape=(32, 32, 3),
        )
    return keras_hub.models.BertBackbone(
        vocabulary_size=11,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )


@pytest.mark.filterwarnings("ignore:Model '.*' is a .*Backbone")
@pytest.mark.parametrize("name", ["vit", "resnet", "bert"])
def test_keras_hub(name):
    """Backbones with random weights: what a copy is, what is folded."""
    model = hub(name)
    normalized = normalize_model(model)
    # Tokens, and the segments and the mask that are 0 or 1.
    arrays = inputs_of(model, highest=2)
    arrays = arrays if isinstance(arrays, list) else [arrays]
    inputs = keras.tree.pack_sequence_as(model.input, arrays)
    folded = fold_model(normalized)
    assert_close(predict(normalized, inputs), predict(folded, inputs), 1e-3)
    report = norm_report(normalized, norm="kernel")
    assert len(report.rows) > 3
    gc.collect()


@pytest.mark.parametrize("name", ["MLP", "CouplingFlow", "DeepSet"])
def test_bayesflow(name):
    """Networks that are layers: wrapped whole, and folded to themselves."""
    bayesflow = pytest.importorskip("bayesflow")
    networks = bayesflow.networks
    rng = np.random.default_rng(0)
    data = rng.standard_normal((4, 3)).astype("float32")
    if name == "MLP":
        network = networks.MLP(widths=(8, 8))
    elif name == "DeepSet":
        network = networks.DeepSet(summary_dim=2, depth=1)
        data = rng.standard_normal((4, 5, 3)).astype("float32")
    else:
        network = networks.CouplingFlow(
            depth=2, subnet_kwargs={"widths": (8, 8)}
        )
        network.build((None, 3), (None, 2))
        kernels = [m.weights[0].shape for m in linear_maps(network).values()]
        assert len(kernels) > 4
        normalized = normalize_model(network)
        folded = fold_model(normalized)
        assert type(folded) is type(network)
        return
    network(data)
    normalized = normalize_model(network)
    folded = fold_model(normalized)
    assert type(folded) is type(network)
    assert_close(predict(normalized, data), predict(folded, data), 1e-3)
