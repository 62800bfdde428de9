"""QKClip: attention logits held to a threshold, head by head."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.keras_access import recorded_outputs
from keras_sn.keras_access import sublayers
from keras_sn.linear_maps.registry import walk


class QKClip(keras.callbacks.Callback):
    """Scales query and key weights of heads whose logits grow too large.

    After a step, the largest attention logit of each head on the batch `x` is
    computed. Where it exceeds the threshold, the query and the key projection
    of that head are each scaled by `sqrt(threshold / largest)`, weights and
    biases alike, which brings it back to the threshold and leaves the other
    heads alone. This is what keeps Muon stable in large transformers
    (MuonClip). In `GroupQueryAttention`, where heads share their keys, the
    query alone is scaled.

    Guarantee: exact on `x`, all pairs of tokens counted, masked or not.

    Args:
        x: A batch of inputs of the model, as `model(x)` takes them. The
            larger it is, the nearer its largest logits are to those of all
            data, and the longer it takes.
        threshold: The largest logit allowed.
        every: Steps from one look to the next; each is an inference on `x`.

    Raises:
        ValueError: If the model has no `MultiHeadAttention` or
            `GroupQueryAttention` outside of `SpectralNormalization`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.callbacks import QKClip
    >>> tokens = keras.Input((5, 8))
    >>> attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    >>> model = keras.Model(tokens, attention(tokens, tokens))
    >>> model.compile("sgd", "mse")
    >>> x = np.random.default_rng(0).normal(size=(4, 5, 8))
    >>> clip = QKClip(x, threshold=0.1)
    >>> _ = model.fit(x, x, verbose=0, callbacks=[clip])
    >>> max(clip.largest_logits()["attention"]) < 0.1001
    True

    Reference:

    - [Kimi Team, 2025](https://arxiv.org/abs/2507.20534)
    """

    def __init__(
        self, x: Any, threshold: float = 100.0, every: int = 1
    ) -> None:
        super().__init__()
        if not threshold > 0 or every < 1:
            raise ValueError(
                "`threshold` and `every` must be positive. Received: "
                f"threshold={threshold}, every={every}"
            )
        self.x = x
        self.threshold = threshold
        self.every = every
        self._steps = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._steps = 0
        if not self._attention_layers():
            raise ValueError(
                "`QKClip` takes a model with `keras.layers.MultiHeadAttention`"
                " or `GroupQueryAttention` layers that are not wrapped in "
                "`SpectralNormalization` (which bounds their kernels itself). "
                f"Model '{self.model.name}' has none."
            )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._steps += 1
        if self._steps % self.every == 0:
            self.clip()

    def clip(self) -> None:
        """Brings all heads of the model back to the threshold."""
        # On JAX, the variables lag behind a training step.
        synchronize = getattr(self.model, "jax_state_sync", None)
        if synchronize is not None:
            synchronize()
        for layer, largest in self._largest().items():
            factors = self.threshold / np.maximum(largest, self.threshold)
            if factors.min() < 1:
                _scale_heads(layer, factors)

    def largest_logits(self) -> dict[str, list[float]]:
        """The largest logit of each head on `x`, by the name of the layer."""
        return {
            layer.name: largest.tolist()
            for layer, largest in self._largest().items()
        }

    def _attention_layers(self) -> list[keras.layers.Layer]:
        kinds = (
            keras.layers.MultiHeadAttention,
            keras.layers.GroupQueryAttention,
        )
        return [layer for layer in walk(self.model) if isinstance(layer, kinds)]

    def _largest(self) -> dict[keras.layers.Layer, np.ndarray]:
        """The largest logit of each head, of each layer."""
        found = {}
        attention = self._attention_layers()
        pairs = [_projections(layer) for layer in attention]
        with recorded_outputs([part for pair in pairs for part in pair]) as (
            outputs
        ):
            self.model(self.x, training=False)
        for layer, (query, key) in zip(attention, pairs, strict=True):
            calls = zip(outputs[query], outputs[key], strict=True)
            largest = [_largest_logits(q, k) for q, k in calls]
            # A layer that `x` does not reach has no logits.
            if largest:
                found[layer] = np.max(largest, axis=0)
        return found


def _projections(
    layer: keras.layers.Layer,
) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """The layers that make queries and keys."""
    named = {part.name: part for part in sublayers(layer)}
    return named["query"], named["key"]


def _largest_logits(query: Any, key: Any) -> np.ndarray:
    """The largest `q . k / sqrt(size)` of each head of the queries.

    Args:
        query: `(batch, ..., heads, size)`.
        key: `(batch, ..., heads, size)`, perhaps fewer heads.
    """
    *_, heads, size = query.shape
    query = ops.reshape(
        ops.cast(query, "float32"), (query.shape[0], -1, heads, size)
    )
    key = ops.reshape(
        ops.cast(key, "float32"), (key.shape[0], -1, key.shape[-2], size)
    )
    if key.shape[-2] != heads:
        key = ops.repeat(key, heads // key.shape[-2], axis=-2)
    logits = ops.einsum("bthk,bshk->hbts", query, key)
    largest = ops.max(logits, axis=(1, 2, 3)) / size**0.5
    return ops.convert_to_numpy(ops.stop_gradient(largest))


def _scale_heads(layer: keras.layers.Layer, factors: np.ndarray) -> None:
    """Scales the logits of each head by its factor."""
    query, key = _projections(layer)
    if key.kernel.shape[-2] == query.kernel.shape[-2]:
        factors = np.sqrt(factors)
        parts = [query, key]
    else:
        parts = [query]
    for part in parts:
        for variable in part.trainable_variables:
            scale = ops.convert_to_tensor(factors[:, None], variable.dtype)
            variable.assign(variable * scale)
