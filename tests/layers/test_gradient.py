"""The gradient through sigma: closed form, PyTorch, finite differences."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_sn.layers import SpectralNormalization
from tests.gradients import gradients
from tests.gradients import inner
from tests.truth import spectral_norm
from tests.truth import to_numpy

RNG = np.random.default_rng(3)
INPUTS = RNG.standard_normal((7, 6)).astype("float32")
# The loss is <OUTER, output>, so dL/d(normalized kernel) is INPUTS^T OUTER.
OUTER = RNG.standard_normal((7, 5)).astype("float32")


def dense(kernel, **arguments):
    wrapper = SpectralNormalization(layers.Dense(5), **arguments)
    wrapper.build((None, 6))
    wrapper.layer.kernel.assign(kernel)
    wrapper.refresh()
    return wrapper


def closed_form(kernel, upstream, bound, clip):
    """METHODS.md, section 1; a clipped weight is scaled by a constant."""
    left, singular, right = np.linalg.svd(kernel)
    sigma = singular[0]
    if clip:
        return min(1.0, bound / sigma) * upstream
    inner = np.sum(upstream * kernel / sigma)
    rank_one = np.outer(left[:, 0], right[0])
    return bound / sigma * (upstream - inner * rank_one)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["normalize", "clip"])
@pytest.mark.parametrize("norm", [0.4, 7.0])
def test_equals_the_closed_form(norm, mode, training):
    kernel = RNG.standard_normal((6, 5))
    kernel *= norm / spectral_norm(kernel)
    wrapper = dense(kernel, norm_bound=1.5, mode=mode)
    (gradient,) = gradients(
        lambda: inner(wrapper(INPUTS, training=training), OUTER),
        [wrapper.layer.kernel],
    )
    expected = closed_form(kernel, INPUTS.T @ OUTER, 1.5, mode == "clip")
    np.testing.assert_allclose(
        to_numpy(gradient), expected, rtol=1e-5, atol=1e-5 * abs(expected).max()
    )


# The same gradient by each way of applying the factor.
WAYS = {
    "dense": (lambda: layers.Dense(5), (6,)),
    "input": (
        lambda: layers.EinsumDense("ab,bc->ac", 5, bias_axes="c"),
        (6,),
    ),
    "weights": (lambda: layers.Dense(5, activity_regularizer="l2"), (6,)),
    "remat": (lambda: layers.Dense(5), (6,)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_scaling_has_the_same_gradient(way):
    make, _ = WAYS[way]
    kernel = RNG.standard_normal((6, 5)).astype("float32")
    if way == "remat":
        with keras.RematScope(mode="full"):
            layer = make()
    else:
        layer = make()
    if way == "weights":
        layer.activity_regularizer = None
        layer = keras.Sequential([layer])
    wrapper = SpectralNormalization(layer)
    inputs = INPUTS[:3]  # fewer numbers than the kernel has
    wrapper.build(inputs.shape)
    variable = next(v for v in wrapper.layer.weights if v.name == "kernel")
    variable.assign(kernel)
    wrapper.refresh()
    (gradient,) = gradients(
        lambda: inner(wrapper(inputs, training=True), OUTER[:3]),
        [variable],
    )
    expected = closed_form(
        kernel.astype("float64"), inputs.T @ OUTER[:3], 1.0, False
    )
    np.testing.assert_allclose(
        to_numpy(gradient), expected, rtol=1e-5, atol=1e-5 * abs(expected).max()
    )


# Each tracker of a norm: by several vectors, by one, by one for each block.
TRACKED = {
    "small": (lambda: layers.Dense(5), (6,), {}),
    "large": (lambda: layers.Dense(700), (600,), {}),
    "convolution": (lambda: layers.Conv2D(3, 2), (4, 4, 2), {}),
    "operator": (lambda: layers.Conv2D(3, 2), (4, 4, 2), {"norm": "operator"}),
    "both": (
        lambda: layers.Conv2D(3, 2),
        (4, 4, 2),
        {"norm": "bidirectional"},
    ),
    "seldom": (lambda: layers.Conv2D(3, 2), (4, 4, 2), {"update_every": 2}),
    "embedding": (lambda: layers.Embedding(9, 4), (), {}),
}


@pytest.mark.parametrize("kind", TRACKED)
@pytest.mark.parametrize("first", [True, False])
def test_a_loss_of_two_calls_has_the_sum_of_their_gradients(kind, first):
    """PyTorch assigns the state in place; no earlier call may depend on it."""
    make, shape, arguments = TRACKED[kind]
    wrapper = SpectralNormalization(make(), **arguments)
    inputs = np.ones((2, *shape), "int32" if kind == "embedding" else "float32")
    wrapper.build(inputs.shape)
    (variable,) = [v for v in wrapper.layer.weights if v.name != "bias"]
    start = [to_numpy(v) for v in wrapper.state_variables()]

    def loss(training):
        outputs = wrapper(inputs, training=training)
        return inner(outputs, np.ones(outputs.shape, "float32"))

    def gradient(*calls):
        for v, value in zip(wrapper.state_variables(), start, strict=True):
            v.assign(value)
        (found,) = gradients(lambda: sum(loss(c) for c in calls), [variable])
        return to_numpy(found)

    # From a converged state each call sees the same norm.
    together = gradient(first, True, not first)
    apart = 2 * gradient(True) + gradient(False)
    np.testing.assert_allclose(
        together, apart, atol=1e-3 * np.abs(apart).max() + 1e-6
    )


def test_equals_pytorch_spectral_norm():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    kernel = RNG.standard_normal((6, 5)).astype("float32")
    linear = torch.nn.Linear(6, 5, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(kernel.T))
    torch.nn.utils.parametrizations.spectral_norm(
        linear, n_power_iterations=100
    )
    (linear(torch.tensor(INPUTS)) * torch.tensor(OUTER)).sum().backward()
    reference = linear.parametrizations.weight.original.grad.numpy().T
    weight = linear.weight.detach().numpy().T

    wrapper = dense(kernel)
    (gradient,) = gradients(
        lambda: inner(wrapper(INPUTS, training=True), OUTER),
        [wrapper.layer.kernel],
    )
    (normalized,) = wrapper.normalized_weights().values()
    np.testing.assert_allclose(to_numpy(normalized), weight, atol=1e-5)
    np.testing.assert_allclose(
        to_numpy(gradient), reference, rtol=1e-5, atol=1e-5
    )


def test_second_derivative_in_the_kernel():
    """Of c W / (u W v) with u, v constant, along the top direction D.

    There W(t) = W + t D has u W(t) v = s + t, so that the outputs are
    x (W + t D) / (s + t), whose second derivative at 0 is
    2 x (W / s - D) / s^2.
    """
    torch = pytest.importorskip("torch", reason="differentiates twice")
    if keras.backend.backend() != "torch":
        pytest.skip("One backend that differentiates twice will do")
    kernel = RNG.standard_normal((6, 5)).astype("float32")
    left, sizes, right = np.linalg.svd(kernel.astype("float64"))
    top = np.outer(left[:, 0], right[0])
    wrapper = dense(kernel)
    variable, direction = wrapper.layer.kernel.value, torch.tensor(top).float()
    value = inner(wrapper(INPUTS, training=True), OUTER)
    (first,) = torch.autograd.grad(value, variable, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), variable)
    outer = INPUTS.T @ OUTER
    expected = 2 * np.sum(outer * (kernel / sizes[0] - top)) / sizes[0] ** 2
    found = float((second * direction).sum())
    assert found == pytest.approx(expected, rel=1e-3)


CONVOLUTIONS = {
    "conv": lambda: layers.Conv2D(4, 3, padding="same"),
    "grouped": lambda: layers.Conv2D(4, 3, groups=2, padding="same"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same"),
}


@pytest.mark.parametrize("norm", ["kernel", "operator"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_against_finite_differences(kind, norm):
    # Numbers of its own: with a few, another frequency becomes the largest
    # within the step, and there is no derivative.
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, 5, 5, 4)).astype("float32")
    wrapper = SpectralNormalization(CONVOLUTIONS[kind](), norm=norm)
    wrapper.build(inputs.shape)
    kernel = wrapper.layer.kernel
    values = rng.standard_normal(tuple(kernel.shape)).astype("float32")
    direction = rng.standard_normal(values.shape).astype("float32")
    outer = rng.standard_normal((2, 5, 5, 4)).astype("float32")

    def loss(training):
        return inner(wrapper(inputs, training=training), outer)

    kernel.assign(values)
    wrapper.refresh()
    for _ in range(60):
        wrapper(inputs, training=True)
    (gradient,) = gradients(lambda: loss(True), [kernel])
    slope = np.sum(to_numpy(gradient) * direction)
    step = 1e-2
    ends = []
    for sign in (1, -1):
        kernel.assign(values + sign * step * direction)
        ends.append(float(loss(False)))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)
