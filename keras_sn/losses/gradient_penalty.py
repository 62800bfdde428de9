"""gradient_penalty: zero-centred, on real samples (R1) or fake ones (R2)."""

from typing import Any

import keras
from keras import ops

from keras_sn.input_gradients import input_gradients


def gradient_penalty(
    discriminator: keras.layers.Layer, inputs: Any, training: bool = True
) -> Any:
    """The mean of `|gradient of D at x|^2` over the samples `x`.

    Half of it times a factor is the penalty R1 on real samples and R2 on
    generated ones. It is differentiable in the weights of the discriminator,
    also where those are normalized, and constant in the inputs.

    Guarantee: exact.

    Args:
        discriminator: A built layer or model. What it gives for a sample is
            summed up, if it is more than one number.
        inputs: Samples `(batch, ...)`, or a list of inputs as the
            discriminator takes them; those that are integers, such as
            labels, are left alone.
        training: Passed on to the discriminator. Its state (batch
            statistics, probes of a spectral norm) is updated as in any call.

    Returns:
        Scalar tensor.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.losses import gradient_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((2,)),
    ...     keras.layers.Dense(1, kernel_initializer="ones")])
    >>> round(float(gradient_penalty(model, np.zeros((5, 2), "float32"))), 4)
    2.0

    Reference:

    - [Mescheder et al., 2018](https://arxiv.org/abs/1801.04406)
    """
    gradients = input_gradients(discriminator, inputs, training=training)
    squares = [
        ops.sum(
            ops.square(ops.cast(gradient, "float32")),
            axis=tuple(range(1, len(gradient.shape))),
        )
        for gradient in gradients
    ]
    return ops.mean(sum(squares[1:], squares[0]))
