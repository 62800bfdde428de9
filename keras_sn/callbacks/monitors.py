"""Monitors: norms of the weights and bounds of the network, in the logs."""

import abc
import os
from typing import Any

import keras

from keras_sn.linear_maps.registry import check_norm
from keras_sn.lipschitz.bound import check_method
from keras_sn.lipschitz.bound import lipschitz_bound
from keras_sn.models.norm_report import norm_report
from keras_sn.tables import line_axes


class Monitor(keras.callbacks.Callback, abc.ABC):
    """Puts numbers into the logs at the end of epochs.

    Put it in front of the callbacks that are to see them.

    Args:
        every: Epochs from one measurement to the next. In between, the logs
            hold the last numbers.
        plot: Path of an image to write at the end of training; `None` for
            none. Takes matplotlib.

    Attributes:
        epochs: List of the epochs that were measured.
        history: Dict `{name: list of numbers}`, one for each of those.
    """

    label: str

    def __init__(
        self, every: int = 1, plot: str | os.PathLike | None = None
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be positive. Received: {every}")
        self.every = every
        self.plot_path = plot
        self.epochs: list[int] = []
        self.history: dict[str, list[float]] = {}

    @abc.abstractmethod
    def measure(self) -> dict[str, float]:
        """The numbers of `self.model`, by their names in the logs."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.epochs, self.history = [], {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch % self.every == 0 or not self.epochs:
            self.epochs.append(epoch)
            for name, number in self.measure().items():
                self.history.setdefault(name, []).append(number)
        if logs is not None:
            # A logger writes the columns of its first epoch.
            logs.update({name: past[-1] for name, past in self.history.items()})

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.plot_path is not None and self.epochs:
            figure = self.plot().figure
            figure.savefig(self.plot_path)
            figure.clear()

    def plot(self, ax: Any = None) -> Any:
        """Draws the numbers over the epochs.

        Args:
            ax: Matplotlib axes to draw into; `None` for new ones.

        Returns:
            The axes.
        """
        ax = line_axes(ax)
        for name, numbers in self.history.items():
            ax.plot(self.epochs, numbers, marker=".", label=name)
        ax.set_xlabel("epoch")
        ax.set_ylabel(self.label)
        ax.legend(fontsize="x-small")
        return ax


class SpectralNormMonitor(Monitor):
    """Puts the spectral norm of each weight into the logs of an epoch.

    They are named `spectral_norm/` and the path of the weight in the model,
    such as `spectral_norm/logits/kernel`, so that `CSVLogger`,
    `TensorBoard`, `EarlyStopping` and the `History` that `fit` returns have
    them, if they come after it. Of a layer in `SpectralNormalization` the
    normalized weight counts.

    Guarantee: certified upper bounds, within `rtol` of the norm
    (`keras_sn.models.norm_report`).

    Args:
        norm: `"operator"`: of the map that a layer applies. `"kernel"`: of
            the kernel as a matrix.
        rtol: How near the bounds are. A wide convolution takes seconds: for
            many of them choose 0.05, or measure less often.
        every: Epochs from one measurement to the next. In between, the logs
            hold the last numbers.
        plot: Path of an image to write at the end of training, which takes
            matplotlib; `None` for none.

    Attributes:
        epochs: List of the epochs that were measured.
        history: Dict `{name: list of norms}`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.callbacks import SpectralNormMonitor
    >>> model = keras.Sequential(
    ...     [keras.Input((3,)), keras.layers.Dense(2, name="logits")],
    ...     name="small")
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0,
    ...                     callbacks=[SpectralNormMonitor()])
    >>> sorted(history.history)
    ['loss', 'spectral_norm/logits/kernel']
    """

    label = "spectral norm"

    def __init__(
        self,
        norm: str = "operator",
        rtol: float = 1e-2,
        every: int = 1,
        plot: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(every, plot)
        check_norm(norm)
        self.norm = norm
        self.rtol = rtol

    def measure(self) -> dict[str, float]:
        rows = norm_report(self.model, self.norm, self.rtol).rows
        # Some models are part of the paths of their weights.
        prefix = f"{self.model.name}/"
        return {
            f"spectral_norm/{row.weight.removeprefix(prefix)}": row.upper
            for row in rows
        }


class LipschitzMonitor(Monitor):
    """Puts the Lipschitz constant of the network into the logs of an epoch.

    As `lipschitz_upper`, and `lipschitz_lower` if asked for. Callbacks that
    come after it see them.

    Guarantee: `lipschitz_upper` is certified and `lipschitz_lower` attained
    (`keras_sn.lipschitz.lipschitz_bound`).

    Args:
        method: Method of `lipschitz_bound`.
        lower: Whether to search for a lower bound too.
        data: Inputs for that search to start from.
        time_limit: Seconds after which a bound is not refined further.
        every: Epochs from one measurement to the next. In between, the logs
            hold the last numbers.
        plot: Path of an image to write at the end of training, which takes
            matplotlib; `None` for none.

    Attributes:
        epochs: List of the epochs that were measured.
        history: Dict `{name: list of bounds}`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sn.callbacks import LipschitzMonitor
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0,
    ...                     callbacks=[LipschitzMonitor()])
    >>> sorted(history.history)
    ['lipschitz_upper', 'loss']
    """

    label = "Lipschitz constant"

    def __init__(
        self,
        method: str = "auto",
        lower: bool = False,
        data: Any = None,
        time_limit: float = 60.0,
        every: int = 1,
        plot: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(every, plot)
        check_method(method)
        self.method = method
        self.lower = lower
        self.data = data
        self.time_limit = time_limit

    def measure(self) -> dict[str, float]:
        report = lipschitz_bound(
            self.model,
            self.method,
            lower=self.lower,
            data=self.data,
            time_limit=self.time_limit,
        )
        found = {"lipschitz_upper": report.upper}
        if self.lower:
            found["lipschitz_lower"] = report.lower
        return found
