"""Losses of a discriminator and a generator, of the logits of both batches."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_sn.losses")
def hinge_discriminator(real: Any, fake: Any) -> Any:
    """Hinge loss of a discriminator, `E relu(1 - real) + E relu(1 + fake)`.

    Args:
        real: Logits of real samples, any shape.
        fake: Logits of generated samples, any shape.

    Returns:
        Scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import hinge_discriminator
    >>> float(hinge_discriminator(np.array([2.0, 0.0]), np.array([-0.5])))
    1.0

    Reference:

    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957)
    """
    real, fake = _tensors(real, fake)
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


@keras.saving.register_keras_serializable(package="keras_sn.losses")
def hinge_generator(fake: Any) -> Any:
    """Loss of the generator against a hinge discriminator, `-E fake`.

    Args:
        fake: Logits of generated samples, any shape.

    Returns:
        Scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import hinge_generator
    >>> float(hinge_generator(np.array([2.0, 1.0])))
    -1.5

    Reference:

    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957)
    """
    (fake,) = _tensors(fake)
    return -ops.mean(fake)


@keras.saving.register_keras_serializable(package="keras_sn.losses")
def relativistic_discriminator(real: Any, fake: Any) -> Any:
    """Relativistic pairing loss, `E softplus(fake - real)`.

    A generated sample is held against a real one, so that the discriminator
    cannot leave all real samples on one side (no mode is dropped). Used with
    `gradient_penalty` on both batches.

    Args:
        real: Logits of real samples.
        fake: Logits of as many generated samples.

    Returns:
        Scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import relativistic_discriminator
    >>> logits = np.zeros((3, 1))
    >>> round(float(relativistic_discriminator(logits, logits)), 4)
    0.6931

    Reference:

    - [Jolicoeur-Martineau, 2018](https://arxiv.org/abs/1807.00734)
    - [Huang et al., 2025](https://arxiv.org/abs/2501.05441)
    """
    real, fake = _tensors(real, fake)
    _check_pairs(real, fake)
    return ops.mean(ops.softplus(fake - real))


@keras.saving.register_keras_serializable(package="keras_sn.losses")
def relativistic_generator(real: Any, fake: Any) -> Any:
    """Loss of the generator in that game, `E softplus(real - fake)`.

    Args:
        real: Logits of real samples.
        fake: Logits of as many generated samples.

    Returns:
        Scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_sn.losses import relativistic_generator
    >>> logits = np.zeros((3, 1))
    >>> round(float(relativistic_generator(logits, logits)), 4)
    0.6931

    Reference:

    - [Jolicoeur-Martineau, 2018](https://arxiv.org/abs/1807.00734)
    """
    return relativistic_discriminator(fake, real)


def _tensors(*logits: Any) -> list:
    """As tensors, at least in single precision."""
    tensors = [ops.convert_to_tensor(array) for array in logits]
    dtype = keras.backend.result_type(*[t.dtype for t in tensors], "float32")
    return [ops.cast(tensor, dtype) for tensor in tensors]


def _check_pairs(real: Any, fake: Any) -> None:
    """Raises `ValueError` unless the samples can be paired."""
    if tuple(real.shape) != tuple(fake.shape):
        raise ValueError(
            "A relativistic loss pairs each real sample with a generated one, "
            "so it takes as many of both. Received logits of the shapes "
            f"{tuple(real.shape)} and {tuple(fake.shape)}."
        )
