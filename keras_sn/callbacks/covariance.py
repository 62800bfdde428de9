"""ResetCovariance: the covariance of a Gaussian process, epoch by epoch."""

import keras

from keras_sn.keras_access import all_layers
from keras_sn.layers.random_feature_gaussian_process import (
    RandomFeatureGaussianProcess,
)


class ResetCovariance(keras.callbacks.Callback):
    """Has Gaussian process heads gather their covariance anew in each epoch.

    The precision of a `keras_sn.layers.RandomFeatureGaussianProcess` is a sum
    over the training samples, so it must see each once: in the last epoch,
    with the features of a network that hardly moves any more.

    Raises:
        ValueError: When training begins, if the model has no such layer.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.callbacks import ResetCovariance
    >>> from keras_sn.layers import RandomFeatureGaussianProcess
    >>> head = RandomFeatureGaussianProcess(2, 8, likelihood="gaussian")
    >>> model = keras.Sequential([keras.Input((3,)), head])
    >>> model.compile("sgd", "mse")
    >>> x = np.ones((4, 3))
    >>> _ = model.fit(
    ...     x, x[:, :2], epochs=3, verbose=0, callbacks=[ResetCovariance()])
    >>> features = keras.ops.convert_to_numpy(head.random_features(x))
    >>> np.allclose(head.precision[0], features.T @ features, atol=1e-5)
    True
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self._heads():
            raise ValueError(
                "`ResetCovariance` takes a model with a "
                "`keras_sn.layers.RandomFeatureGaussianProcess`. Model "
                f"'{self.model.name}' has none."
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for head in self._heads():
            head.reset_covariance()

    def _heads(self) -> list[RandomFeatureGaussianProcess]:
        return [
            layer
            for layer in all_layers(self.model)
            if isinstance(layer, RandomFeatureGaussianProcess)
        ]
