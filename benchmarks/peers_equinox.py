"""Equinox's `nn.SpectralNorm`, on models of Equinox."""

import functools
from collections.abc import Callable

import equinox
import jax
from equinox import nn

from benchmarks.peers_jax import JaxSubject
from benchmarks.subjects import Subject
from benchmarks.workloads import PLAIN_MLP
from benchmarks.workloads import SNGAN
from benchmarks.workloads import Case

PLAIN = "Equinox plain"
NORMALIZED = "Equinox"
Wrap = Callable[[equinox.Module], equinox.Module]


def _normalized(layer: equinox.Module) -> equinox.Module:
    return nn.SpectralNorm(layer, "weight", key=jax.random.key(0))


def mlp(wrap: Wrap) -> nn.Sequential:
    """As `workloads.mlp`."""
    modules: list[equinox.Module] = []
    for size, width in zip(PLAIN_MLP, PLAIN_MLP[1:], strict=False):  # noqa: RUF007
        layer = nn.Linear(size, width, key=jax.random.key(0))
        modules += [wrap(layer), nn.Lambda(jax.nn.relu)]
    return nn.Sequential(modules[:-1])


def discriminator(wrap: Wrap) -> nn.Sequential:
    """As `workloads.discriminator`."""
    modules: list[equinox.Module] = []
    channels = 3
    leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)
    for filters, size, strides in SNGAN:
        layer = nn.Conv2d(
            channels, filters, size, strides, 1, key=jax.random.key(0)
        )
        modules += [wrap(layer), nn.Lambda(leaky)]
        channels = filters
    last = nn.Linear(channels * 16, 1, key=jax.random.key(0))
    return nn.Sequential([*modules, nn.Lambda(jax.numpy.ravel), wrap(last)])


MODELS = {
    "mlp": (mlp, PLAIN_MLP[:1]),
    "discriminator": (discriminator, (3, 32, 32)),
}


def subjects(case: Case) -> list[Subject]:
    """The plain model and the normalized one, if there is an equal model."""
    if case.name not in MODELS:
        return []
    build, shape = MODELS[case.name]
    inputs = jax.random.normal(jax.random.key(0), (case.batch, *shape))
    return [
        _subject(PLAIN, functools.partial(build, lambda m: m), inputs),
        _subject(NORMALIZED, functools.partial(build, _normalized), inputs),
    ]


def _subject(name: str, build: Callable, inputs: jax.Array) -> Subject:
    model, state = nn.make_with_state(build)()
    parameters, training_rest = equinox.partition(
        model, equinox.is_inexact_array
    )
    _, serving_rest = equinox.partition(
        nn.inference_mode(model), equinox.is_inexact_array
    )

    def apply(parameters, state, inputs, training):
        rest = training_rest if training else serving_rest
        whole = equinox.combine(parameters, rest)
        # One sample at a time is how Equinox's layers are written.
        return jax.vmap(whole, in_axes=(0, None), out_axes=(0, None))(
            inputs, state
        )

    return JaxSubject(name, PLAIN, apply, parameters, state, inputs)
