"""Tests of norm_report: the figures, and each form they are given in."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from rich.console import Console

from keras_sn.layers import SpectralNormalization
from keras_sn.models import norm_report

_KERNEL = np.diag([3.0, 4.0]).astype("float32")


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2, name="plain"),
            SpectralNormalization(
                layers.Dense(2), norm_bound=2.0, name="wrapped"
            ),
        ],
        name="small",
    )
    for layer in (model.layers[0], model.layers[1].layer):
        layer.kernel.assign(_KERNEL)
    return model


def test_figures(model):
    report = norm_report(model)
    plain, wrapped = report.rows
    assert plain.lower <= 4 <= plain.upper
    assert plain.upper == pytest.approx(4, rel=1e-6)
    assert wrapped.upper == pytest.approx(2, rel=1e-6)
    assert [row.layer for row in report.rows] == ["plain", "wrapped"]
    assert {row.layer_class for row in report.rows} == {"Dense"}
    assert report.largest == plain.upper


def test_norm_of_the_kernel_as_a_matrix():
    """All ones: 3 for the row of taps, sqrt(3) for the kernel as a column."""
    model = keras.Sequential([keras.Input((None, 1)), layers.Conv1D(1, 3)])
    model.layers[0].kernel.assign(np.ones((3, 1, 1)))
    (applied,) = norm_report(model).rows
    (kernel,) = norm_report(model, norm="kernel").rows
    assert applied.lower <= 3 <= applied.upper <= 3.05
    assert kernel.upper == pytest.approx(3**0.5, rel=1e-6)


def test_forms(model):
    report = norm_report(model)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["name"] == "small"
    assert data["rows"][0]["shape"] == [2, 2]
    assert data["rows"][0]["upper"] == report.rows[0].upper
    console = Console(width=120, record=True)
    console.print(report)
    for text in (str(report), console.export_text()):
        assert "wrapped/kernel" in text
        assert "2x2" in text
        assert "operator norm at most 4" in text


def test_plot(model):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    ax = norm_report(model).plot()
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([4, 2], rel=1e-6)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["small/plain/kernel", "small/wrapped/kernel"]
    assert norm_report(model).plot(ax) is ax


def test_progress(model):
    seen = []
    norm_report(model, progress=lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_nothing_to_report():
    model = keras.Sequential([keras.Input((2,)), layers.ReLU()])
    with pytest.raises(ValueError, match="no layer in"):
        norm_report(model)


class OwnKernel(layers.Layer):
    """A kernel, and no word on what is done with it."""

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 2), name="kernel", initializer="ones"
        )

    def call(self, inputs):
        return keras.ops.exp(keras.ops.matmul(inputs, self.kernel))


class TenTimes(layers.Dense):
    """A subclass that is another layer."""

    def call(self, inputs, training=None):
        return 10 * super().call(inputs)


_UNKNOWN = {
    "unregistered": (lambda: OwnKernel(name="odd"), "no linear map"),
    "subclass": (lambda: TenTimes(2, name="odd"), "replaces 'call' of Dense"),
    "equation": (
        lambda: keras.Sequential(
            [
                layers.Reshape((2, 1)),
                layers.EinsumDense("abc,cd->ad", (2,), name="odd"),
            ]
        ),
        "sums the input",
    ),
}


@pytest.mark.parametrize("kind", _UNKNOWN)
def test_a_layer_that_is_not_known(kind):
    make, reason = _UNKNOWN[kind]
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2, name="plain"),
            SpectralNormalization(layers.Dense(2), name="wrapped"),
            make(),
        ]
    )
    model.layers[0].kernel.assign(_KERNEL)
    report = norm_report(model)
    plain, wrapped, odd = report.rows
    assert plain.lower <= 4 <= plain.upper <= 4.001
    assert plain.reason is None
    assert wrapped.upper == pytest.approx(1, rel=1e-3)
    assert odd.layer == "odd"
    assert (odd.lower, odd.upper) == (0.0, np.inf)
    assert reason in odd.reason
    assert report.largest == np.inf
    console = Console(width=120, record=True)
    console.print(report)
    for text in (str(report), console.export_text()):
        assert " ".join(odd.reason.split()[:6]) in " ".join(text.split())
    assert np.isfinite(norm_report(model, norm="kernel").largest)


def test_plot_of_a_layer_that_is_not_known():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2), OwnKernel()])
    model.layers[0].kernel.assign(_KERNEL)
    widths = [bar.get_width() for bar in norm_report(model).plot().patches]
    assert widths == pytest.approx([4, 4], rel=1e-6)
