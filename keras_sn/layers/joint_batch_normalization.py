"""JointBatchNormalization: a linear layer and its normalization, as one map."""

from typing import Any
from typing import Literal

import keras
from keras import ops

from keras_sn.layers.norm_bounds import checked_norm_bound
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_override import call_with_weights
from keras_sn.layers.wrapper_arguments import check_arguments
from keras_sn.linear_maps.registry import own_maps
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.scaled_outputs import BatchNormalizedMap
from keras_sn.linear_maps.scaled_outputs import output_shape
from keras_sn.linear_maps.weights import AppliedWeight


@keras.saving.register_keras_serializable(package="keras_sn")
class LinearThenBatchNormalization(keras.Sequential):
    """A linear layer and a BatchNormalization, known as one linear map.

    Example:

    >>> from keras_sn.layers.joint_batch_normalization import (
    ...     LinearThenBatchNormalization)
    >>> from keras_sn.linear_maps import linear_maps
    >>> pair = LinearThenBatchNormalization([
    ...     keras.layers.Dense(3), keras.layers.BatchNormalization(name="bn"),
    ... ], name="pair")
    >>> pair.build((None, 2))
    >>> linear_maps(pair)["pair/bn/gamma"]
    <BatchNormalizedMap pair/bn/gamma: (2,) -> (3,)>
    """


@register_linear_map(LinearThenBatchNormalization)
def _linear_then_batch_normalization(pair, norm):
    """`diag(gamma / sqrt(variance + epsilon)) W`; `gamma` is scaled."""
    linear, normalization = pair.layers
    (base,) = own_maps(linear, norm)
    shape = output_shape(linear, base.weights[0].shape)
    if shape is None:
        raise ValueError(
            f"It is not known which outputs of layer '{linear.name}' "
            f"({type(linear).__name__}) a BatchNormalization scales. It takes "
            "Dense, convolutions, transposed, depthwise and separable ones."
        )
    gamma = AppliedWeight(normalization, "gamma")
    variance = AppliedWeight(normalization, "moving_variance")
    return [
        BatchNormalizedMap(gamma, variance, normalization.epsilon, base, shape)
    ]


@keras.saving.register_keras_serializable(package="keras_sn")
class JointBatchNormalization(SpectralNormalization):
    """A linear layer and a BatchNormalization whose product is bounded.

    In front of a BatchNormalization a spectral norm means nothing: whatever
    the kernel is divided by, the normalization multiplies it with again. Here
    what counts is the map that both apply at inference,
    `diag(gamma / sqrt(moving_variance + epsilon)) W`: `gamma` is multiplied
    by `norm_bound` over its norm, in training too, where the variance is that
    of the batch.

    The estimate of the norm, its state and its gradient are those of
    `SpectralNormalization`. `keras_sn.models.fold_model` gives the linear
    layer alone, with the folded kernel and a bias.

    Guarantee: that of `SpectralNormalization` for the folded map, at
    inference. (A batch may have any deviation, so in training there is none.)

    Args:
        layer: The linear layer: dense, or a convolution of any kind, without
            an activation; put that behind.
        normalization: The `keras.layers.BatchNormalization`. `None`: one with
            the defaults of Keras, along the channels of the layer.
        norm_bound: The norm of the folded map.
        mode: `"normalize"`: the folded map gets the norm `norm_bound`, and the
            gradient goes by way of the norm. `"clip"`: only a larger norm is
            changed, by a number that is held constant.
        norm: `"operator"` or `"kernel"`, as for `SpectralNormalization`.
        power_iterations: As for `SpectralNormalization`.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Call arguments, input and output shape: those of the linear layer.

    Raises:
        ValueError: If an argument is out of range or the two do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import JointBatchNormalization
    >>> from keras_sn.models import fold_model
    >>> layer = JointBatchNormalization(keras.layers.Dense(3), norm_bound=0.1)
    >>> outputs = layer(np.ones((4, 2)), training=True)
    >>> folded = fold_model(layer)
    >>> kernel = keras.ops.convert_to_numpy(folded.kernel)
    >>> type(folded).__name__, round(float(np.linalg.norm(kernel, 2)), 4)
    ('Dense', 0.1)

    Reference:

    - [Gouk et al., 2018](https://arxiv.org/abs/1804.04368), who bound the
      normalization by itself
    """

    # The weights at inference are those of the wrapper it inherits from.
    normalizes_itself = True

    def __init__(
        self,
        layer: keras.layers.Layer,
        normalization: keras.layers.BatchNormalization | None = None,
        norm_bound: float = 1.0,
        mode: Literal["normalize", "clip"] = "normalize",
        norm: Literal["kernel", "operator"] = "operator",
        power_iterations: int = 1,
        **kwargs: Any,
    ) -> None:
        axis = 1 if _channels_first(layer) else -1
        if normalization is None:
            normalization = keras.layers.BatchNormalization(
                axis=axis, dtype=layer.dtype_policy
            )
        _check_pair(layer, normalization, axis)
        # Here, by the name of the layer that the user knows.
        weights = ["gamma"]
        check_arguments(layer, power_iterations, norm, mode, weights, False, 1)
        checked_norm_bound(norm_bound, layer)
        super().__init__(
            LinearThenBatchNormalization([layer, normalization]),
            power_iterations,
            norm,
            norm_bound,
            mode,
            weight_names=weights,
            **kwargs,
        )

    @property
    def linear(self) -> keras.layers.Layer:
        """The linear layer."""
        return self.layer.layers[0]

    @property
    def normalization(self) -> keras.layers.BatchNormalization:
        """The BatchNormalization."""
        return self.layer.layers[1]

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any):
        if not self._follows(training) or not self.normalization.trainable:
            return super().call(*args, training=training, **kwargs)
        # The statistics of the batch are what it is normalized by, and the
        # moving ones lag: with them the output would go on changing in scale
        # for as long, and all that is behind with it.
        outputs = self.linear(*args)
        (linear_map,) = [weight.linear_map for weight in self._normalized]
        assert isinstance(linear_map, BatchNormalizedMap)
        with linear_map.at_variance(self._batch_variance(outputs)):
            (factor,) = self._factors(training)
        gamma = self.normalization.gamma
        scaled = ops.cast(gamma.value, factor.dtype) * factor
        return call_with_weights(
            self.normalization,
            [(gamma, ops.cast(scaled, gamma.dtype))],
            self.add_loss,
            (outputs,),
            {**kwargs, "training": True},
        )

    def _batch_variance(self, outputs):
        axis = self.normalization.axis % len(outputs.shape)
        others = [i for i in range(len(outputs.shape)) if i != axis]
        outputs = ops.cast(outputs, self._normalized[0].dtype)
        return ops.var(outputs, axis=others)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["weight_names"]
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "layer": serialize(self.linear),
            "normalization": serialize(self.normalization),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None):
        config = dict(config)
        for name in ("layer", "normalization"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def _channels_first(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "data_format", None) == "channels_first"


def _check_pair(
    layer: keras.layers.Layer,
    normalization: keras.layers.Layer,
    axis: int,
) -> None:
    """Raises `ValueError` unless the two are one linear map at inference."""
    activation = getattr(layer, "activation", None)
    if activation not in (None, keras.activations.linear):
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) has the activation "
            f"{keras.activations.serialize(activation)!r}, so that it is no "
            "linear map together with the normalization. Put the activation "
            "behind: JointBatchNormalization(layer), then "
            "keras.layers.Activation."
        )
    if type(normalization) is not keras.layers.BatchNormalization:
        raise ValueError(
            "`normalization` must be a keras.layers.BatchNormalization. "
            f"Received: {normalization!r}"
        )
    rank = getattr(layer, "rank", None)
    last = -1 if rank is None else rank + 1
    along = (axis,) if axis == 1 else (-1, last)
    if not normalization.scale or normalization.axis not in along:
        raise ValueError(
            "`normalization` must have a scale to divide, and normalize axis "
            f"{axis}, that of the channels of layer '{layer.name}'. Received: "
            f"scale={normalization.scale}, axis={normalization.axis}."
        )
