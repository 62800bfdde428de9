"""RandomFeatureGaussianProcess: logits that know how far a sample is."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_sn.circumstances import full_precision
from keras_sn.fast_ops import Array
from keras_sn.layers.layer_arguments import check_count
from keras_sn.layers.layer_arguments import refusal

_LIKELIHOODS = ("categorical", "binary", "gaussian")


@keras.saving.register_keras_serializable(package="keras_sn")
class RandomFeatureGaussianProcess(keras.layers.Layer):
    """A Gaussian process as the last layer, by random Fourier features.

    Behind a network that keeps distances (spectral normalization of residual
    blocks, or orthogonal layers), a Gaussian process with the RBF kernel is
    certain near the training data and uncertain far from it, where a Dense
    layer is the more certain the farther. That is SNGP.

    The features `sqrt(2 / D) cos(h W + b)` of the input `h` have fixed random
    `W` and `b`; the logits are linear in them. By Laplace's method their
    posterior has the precision `ridge I + sum_i w_i f_i f_i^T` over the
    training samples, with `w = p (1 - p)` for the probability `p` of the
    likeliest class (1 for the Gaussian likelihood). It is gathered in
    training calls, over one epoch: have `keras_sn.callbacks.ResetCovariance`
    start it anew in each.

    In training the logits are returned as they are. At inference they are
    those of the mean-field approximation, `logits / sqrt(1 + factor v)` with
    the variance `v` of the sample.

    Guarantee: the features approximate the RBF kernel with an error of order
    `1 / sqrt(features)`; given them, the covariance is exact for the
    Gaussian likelihood, and Laplace's approximation for the others, with the
    logits of the step in which a sample was seen.

    Args:
        units: Number of logits.
        features: Number `D` of random features.
        length_scale: Distance at which two inputs begin to differ.
        ridge: Precision of the prior.
        likelihood: `"categorical"`, `"binary"` (each logit by itself) or
            `"gaussian"`.
        mean_field_factor: `factor` above; pi / 8 matches the probabilities.
            0 leaves the logits as they are.
        seed: Of the random features; the same on every backend.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer.

    Input shape: `(batch, inputs)`. Output shape: `(batch, units)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers import RandomFeatureGaussianProcess
    >>> head = RandomFeatureGaussianProcess(2, features=64)
    >>> near = np.random.default_rng(0).normal(size=(256, 3))
    >>> _ = head(near, training=True)
    >>> far = near + 20.0
    >>> variances = [keras.ops.mean(head.variance(x)) for x in (near, far)]
    >>> bool(variances[0] < 0.5 * variances[1])
    True

    Reference:

    - [Liu et al., 2020](https://arxiv.org/abs/2006.10108)
    - [Rahimi & Recht, 2007](https://papers.nips.cc/paper/3182)
    """

    def __init__(
        self,
        units: int,
        features: int = 1024,
        length_scale: float = 1.0,
        ridge: float = 1.0,
        likelihood: str = "categorical",
        mean_field_factor: float = math.pi / 8,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_count(self, "units", units)
        self.features = check_count(self, "features", features)
        if not length_scale > 0 or not ridge > 0 or not mean_field_factor >= 0:
            raise refusal(
                self,
                "`length_scale` and `ridge` must be positive, and "
                "`mean_field_factor` must not be negative.",
                length_scale=length_scale,
                ridge=ridge,
                mean_field_factor=mean_field_factor,
            )
        if likelihood not in _LIKELIHOODS:
            demand = f"`likelihood` must be one of {list(_LIKELIHOODS)}."
            raise refusal(self, demand, likelihood=likelihood)
        self.length_scale = float(length_scale)
        self.ridge = float(ridge)
        self.likelihood = likelihood
        self.mean_field_factor = float(mean_field_factor)
        self.seed = seed

    def build(self, input_shape: tuple) -> None:
        inputs = input_shape[-1]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: inputs})
        rng = np.random.default_rng(self.seed)
        frequencies = rng.standard_normal((inputs, self.features))
        phases = rng.uniform(0, 2 * math.pi, self.features)
        self.frequencies = self._fixed("frequencies", frequencies)
        self.phases = self._fixed("phases", phases)
        self.kernel = self.add_weight(
            shape=(self.features, self.units),
            initializer="glorot_uniform",
            name="output_kernel",
        )
        self.bias = self.add_weight(
            shape=(self.units,), initializer="zeros", name="bias"
        )
        # One precision for all logits, of the likeliest class; or one each.
        self.outputs = self.units if self.likelihood == "binary" else 1
        self.precision = self.add_weight(
            shape=(self.outputs, self.features, self.features),
            initializer="zeros",
            trainable=False,
            autocast=False,
            # Each replica adds what it has seen.
            aggregation="sum",
            name="precision",
        )

    def _fixed(self, name: str, array: np.ndarray) -> keras.Variable:
        return self.add_weight(
            shape=array.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(
                array, dtype
            ),
            trainable=False,
            autocast=False,
            name=name,
        )

    def call(self, inputs, training: bool | None = None):
        features = self.random_features(inputs)
        kernel, bias = (
            ops.cast(variable, features.dtype)
            for variable in (self.kernel, self.bias)
        )
        logits = ops.matmul(features, kernel) + bias
        if training:
            if self.trainable:
                self._gather(features, logits)
        elif self.mean_field_factor > 0:
            logits = mean_field_logits(
                logits, self._variance(features), self.mean_field_factor
            )
        return ops.cast(logits, self.compute_dtype)

    def random_features(self, inputs: Array) -> Array:
        """The random Fourier features of a batch, `(batch, features)`."""
        # Cosines of large numbers, so not in half precision.
        wide = ops.cast(inputs, self.variable_dtype)
        with full_precision(wide):
            angles = ops.matmul(wide / self.length_scale, self.frequencies)
        return math.sqrt(2 / self.features) * ops.cos(angles + self.phases)

    def _gather(self, features: Array, logits: Array) -> None:
        """Adds a batch to the precision."""
        features = ops.stop_gradient(features)
        weights = self._weights(ops.stop_gradient(logits))
        with full_precision(features):
            # (outputs, features, batch) times (batch, features)
            weighted = ops.expand_dims(ops.transpose(weights), -1) * features
            batch = ops.matmul(
                ops.transpose(weighted, (0, 2, 1)),
                ops.expand_dims(features, 0),
            )
        self.precision.assign(self.precision + batch)

    def _weights(self, logits: Array) -> Array:
        """The curvature of the likelihood, `(batch, outputs)`."""
        logits = ops.cast(logits, self.variable_dtype)
        if self.likelihood == "gaussian":
            return ops.ones_like(logits[:, :1])
        if self.likelihood == "binary":
            probabilities = ops.sigmoid(logits)
        else:
            softmax = ops.softmax(logits, axis=-1)
            probabilities = ops.max(softmax, axis=-1, keepdims=True)
        return probabilities * (1 - probabilities)

    def covariance(self, inputs: Array) -> Array:
        """The posterior covariance of the logits of a batch.

        Args:
            inputs: As for a call.

        Returns:
            Tensor `(batch, batch)`; `(units, batch, batch)` for the binary
            likelihood.
        """
        features = self.random_features(ops.convert_to_tensor(inputs))
        halves = self._halves(features)
        result = ops.matmul(ops.transpose(halves, (0, 2, 1)), halves)
        return result if self.likelihood == "binary" else result[0]

    def variance(self, inputs: Array) -> Array:
        """The diagonal of `covariance`, without the rest.

        Returns:
            Tensor `(batch, units)` for the binary likelihood, else
            `(batch, 1)`.
        """
        return self._variance(
            self.random_features(ops.convert_to_tensor(inputs))
        )

    def _variance(self, features: Array) -> Array:
        halves = self._halves(features)
        return ops.transpose(ops.sum(halves * halves, axis=1))

    def _halves(self, features: Array) -> Array:
        """`L^-1 f` of the factor `L L^T` of the precision, a column each."""
        prior = self.ridge * ops.eye(self.features, dtype=self.variable_dtype)
        columns = ops.broadcast_to(
            ops.transpose(features)[None],
            (self.outputs, self.features, ops.shape(features)[0]),
        )
        with full_precision(features):
            factor = ops.cholesky(ops.convert_to_tensor(self.precision) + prior)
            return ops.solve_triangular(factor, columns, lower=True)

    def reset_covariance(self) -> None:
        """Forgets the training samples: the precision is that of the prior."""
        self.precision.assign(ops.zeros(self.precision.shape))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "features": self.features,
            "length_scale": self.length_scale,
            "ridge": self.ridge,
            "likelihood": self.likelihood,
            "mean_field_factor": self.mean_field_factor,
            "seed": self.seed,
        }


def mean_field_logits(
    logits: Array, variance: Array, factor: float = math.pi / 8
) -> Array:
    """Logits whose probabilities are the mean of those of Gaussian logits.

    Guarantee: an approximation, within a few percent of the probability.

    Args:
        logits: Means, `(batch, units)`.
        variance: Variances, `(batch, 1)` or `(batch, units)`.
        factor: pi / 8 matches probit and logistic function.

    Returns:
        `logits / sqrt(1 + factor variance)`.

    Example:

    >>> import numpy as np
    >>> from keras_sn.layers.random_feature_gaussian_process import (
    ...     mean_field_logits)
    >>> variance = np.full((1, 1), 24 / np.pi)
    >>> logits = mean_field_logits(np.ones((1, 2)), variance)
    >>> keras.ops.convert_to_numpy(logits).tolist()
    [[0.5, 0.5]]

    Reference:

    - [Lu, Ie & Sha, 2020](https://arxiv.org/abs/2006.07584)
    """
    variance = ops.cast(variance, logits.dtype)
    return logits / ops.sqrt(1.0 + factor * variance)
