"""Who is measured: a model that trains, predicts and is called."""

import abc
import functools
import math
import pathlib
import tempfile

import keras

from benchmarks.workloads import Case
from benchmarks.workloads import Wrap
from benchmarks.workloads import batch_for
from keras_sn.layers import SpectralNormalization
from keras_sn.models import fold_model

PLAIN = "plain"
STOCK = "stock"
KERNEL = "kernel"
OPERATOR = "operator"
FOLDED = "folded"
OURS = (KERNEL, OPERATOR, FOLDED)


class Subject(abc.ABC):
    """A model with its batch. Every method returns when the result is there.

    Attributes:
        name: Which variant it is.
        base: Name of the variant that its times are divided by.
    """

    def __init__(self, name: str, base: str) -> None:
        self.name = name
        self.base = base

    @abc.abstractmethod
    def train(self) -> None:
        """One step of SGD on the batch."""

    @abc.abstractmethod
    def predict(self) -> None:
        """The outputs of the batch, compiled where the backend compiles."""

    @abc.abstractmethod
    def call(self) -> None:
        """The outputs of the batch by `model(x)`."""

    @abc.abstractmethod
    def reload(self) -> None:
        """Saves the model and goes on with the loaded one."""


class KerasSubject(Subject):
    """A compiled Keras model."""

    def __init__(self, name: str, model: keras.Model, batch_size: int) -> None:
        super().__init__(name, PLAIN)
        self.model = model
        self.inputs, self.targets = batch_for(model, batch_size)
        self.tensor = keras.ops.convert_to_tensor(self.inputs)
        self._compile()

    def _compile(self) -> None:
        self.model.compile(keras.optimizers.SGD(1e-4), "mse")

    def train(self) -> None:
        self.model.train_on_batch(self.inputs, self.targets)

    def predict(self) -> None:
        self.model.predict_on_batch(self.inputs)

    def call(self) -> None:
        # JAX and GPUs return before they are done.
        keras.ops.convert_to_numpy(self.model(self.tensor, training=False))

    def reload(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.keras")
            self.model.save(path)
            self.model = keras.models.load_model(path)
        self._compile()


def wrap_of(variant: str, case: Case) -> Wrap:
    """The wrapper of a variant."""
    ours = functools.partial(SpectralNormalization, **case.options)
    wrappers: dict[str, Wrap] = {
        PLAIN: lambda layer: layer,
        STOCK: functools.partial(
            keras.layers.SpectralNormalization, **case.options
        ),
        KERNEL: ours,
        OPERATOR: functools.partial(ours, norm="operator"),
    }
    return wrappers[variant]


def variants(case: Case) -> list[str]:
    """The variants of a case that are built from its layers."""
    # Of dense maps the norm of the operator is that of the kernel.
    last = [OPERATOR] if case.convolutional else []
    return [PLAIN, STOCK, KERNEL, *last]


def keras_model(variant: str, case: Case) -> keras.Model:
    """The model of a variant, with the same weights as the others."""
    keras.utils.set_random_seed(0)
    return case.build(wrap_of(variant, case))


def folded_subject(kernel: KerasSubject) -> KerasSubject:
    """The model of `KERNEL` without its wrappers."""
    return KerasSubject(FOLDED, fold_model(kernel.model), len(kernel.inputs))


def normalized_sizes(model: keras.Model) -> list[int]:
    """The number of entries of each weight that the model normalizes."""
    return [
        math.prod(value.shape)
        for layer in model.layers
        if isinstance(layer, SpectralNormalization)
        for value in layer.normalized_weights().values()
    ]
