"""Flax's `linen.SpectralNorm`, on models of Flax."""

import jax
from flax import linen

from benchmarks.peers_jax import JaxSubject
from benchmarks.subjects import Subject
from benchmarks.workloads import PLAIN_MLP
from benchmarks.workloads import SNGAN
from benchmarks.workloads import Case

PLAIN = "Flax plain"
NORMALIZED = "Flax"


class Model(linen.Module):
    """A model whose layers may be normalized."""

    normalized: bool

    def apply_layer(self, layer, x, training):
        if not self.normalized:
            return layer(x)
        return linen.SpectralNorm(layer)(x, update_stats=training)


class Mlp(Model):
    """As `workloads.mlp`."""

    @linen.compact
    def __call__(self, x, training):
        for width in PLAIN_MLP[1:-1]:
            x = self.apply_layer(linen.Dense(width), x, training)
            x = linen.relu(x)
        return self.apply_layer(linen.Dense(PLAIN_MLP[-1]), x, training)


class Discriminator(Model):
    """As `workloads.discriminator`."""

    @linen.compact
    def __call__(self, x, training):
        for filters, size, strides in SNGAN:
            layer = linen.Conv(filters, (size, size), strides)
            x = linen.leaky_relu(self.apply_layer(layer, x, training), 0.1)
        x = x.reshape(len(x), -1)
        return self.apply_layer(linen.Dense(1), x, training)


MODELS = {
    "mlp": (Mlp, PLAIN_MLP[:1]),
    "discriminator": (Discriminator, (32, 32, 3)),
}


def subjects(case: Case) -> list[Subject]:
    """The plain model and the normalized one, if there is an equal model."""
    if case.name not in MODELS:
        return []
    model, shape = MODELS[case.name]
    inputs = jax.random.normal(jax.random.key(0), (case.batch, *shape))
    return [
        _subject(PLAIN, model(normalized=False), inputs),
        _subject(NORMALIZED, model(normalized=True), inputs),
    ]


def _subject(name: str, model: Model, inputs: jax.Array) -> Subject:
    variables = model.init(jax.random.key(0), inputs, training=True)

    def apply(parameters, state, inputs, training):
        outputs, updated = model.apply(
            {"params": parameters, **state},
            inputs,
            training=training,
            mutable=list(state) if training else [],
        )
        return outputs, updated

    parameters = variables.pop("params")
    return JaxSubject(name, PLAIN, apply, parameters, variables, inputs)
