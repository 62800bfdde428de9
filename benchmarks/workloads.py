"""The models to measure, each with its layers given to a `wrap` function."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

Wrap = Callable[[keras.layers.Layer], keras.layers.Layer]

WARM = ("train", "inference", "eager")
MEASURES = (*WARM, "cold")
TOKENS = 100_000


@dataclasses.dataclass(frozen=True)
class Case:
    """A model at one batch size, or one point of a curve.

    Attributes:
        name: Name of the workload or the curve.
        batch: Samples per call.
        build: Makes the model, each of its layers with weights wrapped.
        x: Where on the curve it is; `None` outside of curves.
        convolutional: Whether the norm of the operator is another one than
            that of the kernel.
        measures: What is worth measuring of it.
        options: Arguments of every `SpectralNormalization`.
        quick: Whether `--quick` measures it.
    """

    name: str
    batch: int
    build: Callable[[Wrap], keras.Model]
    x: int | None = None
    convolutional: bool = False
    measures: tuple[str, ...] = MEASURES
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    quick: bool = False

    @property
    def label(self) -> str:
        """Such as `mlp, batch 64` or `width 256`."""
        if self.x is None:
            return f"{self.name}, batch {self.batch}"
        return f"{self.name} {self.x}"


def mlp(wrap: Wrap, widths: tuple[int, ...]) -> keras.Model:
    """Dense layers of these widths, the first that of the input."""
    size, *hidden, last = widths
    model = keras.Sequential([keras.Input((size,))])
    for width in hidden:
        model.add(wrap(layers.Dense(width, activation="relu")))
    model.add(wrap(layers.Dense(last)))
    return model


# Filters, kernel size and strides: Miyato et al. 2018, table 3.
SNGAN = (
    *((64, 3, 1), (64, 4, 2), (128, 3, 1), (128, 4, 2)),
    *((256, 3, 1), (256, 4, 2), (512, 3, 1)),
)


def discriminator(wrap: Wrap) -> keras.Model:
    """The SNGAN discriminator for 32 x 32 x 3."""
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters, size, strides in SNGAN:
        convolution = layers.Conv2D(
            filters, size, strides=strides, padding="same"
        )
        model.add(wrap(convolution))
        model.add(layers.LeakyReLU(0.1))
    model.add(layers.Flatten())
    model.add(wrap(layers.Dense(1)))
    return model


# Of ResNet-18 and ResNet-50: filters, blocks.
RESNET_18 = ((64, 2), (128, 2), (256, 2), (512, 2))
RESNET_50 = ((64, 3), (128, 4), (256, 6), (512, 3))


def resnet(wrap: Wrap, stages, bottleneck: bool = False) -> keras.Model:
    """A ResNet for 32 x 32 x 3, as for CIFAR: a first layer 3 x 3, no pool."""

    def convolution(x, filters, size, strides=1):
        layer = layers.Conv2D(
            filters, size, strides=strides, padding="same", use_bias=False
        )
        return layers.BatchNormalization()(wrap(layer)(x))

    def block(x, filters, strides):
        width = 4 * filters if bottleneck else filters
        y = x
        if bottleneck:
            y = layers.ReLU()(convolution(y, filters, 1))
        y = layers.ReLU()(convolution(y, filters, 3, strides))
        y = convolution(y, width, 1 if bottleneck else 3)
        if strides != 1 or x.shape[-1] != width:
            x = convolution(x, width, 1, strides)
        return layers.ReLU()(layers.add([x, y]))

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(inputs, 64, 3))
    for stage, (filters, blocks) in enumerate(stages):
        for i in range(blocks):
            x = block(x, filters, 2 if stage and not i else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, wrap(layers.Dense(10))(x))


def lstm(wrap: Wrap) -> keras.Model:
    """LSTM 256 over 32 steps of 64 features."""
    recurrent = wrap(layers.LSTM(256))
    return keras.Sequential(
        [keras.Input((32, 64)), recurrent, wrap(layers.Dense(10))]
    )


def transformer(wrap: Wrap, blocks: int) -> keras.Model:
    """Pre-norm transformer blocks, 256 wide, 8 heads, over 64 tokens."""
    inputs = keras.Input((64, 256))
    x = inputs
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.add([x, wrap(layers.MultiHeadAttention(8, 32))(y, y)])
        y = layers.LayerNormalization()(x)
        y = wrap(layers.Dense(1024, activation="gelu"))(y)
        x = layers.add([x, wrap(layers.Dense(256))(y)])
    return keras.Model(inputs, x)


def embedding(wrap: Wrap) -> keras.Model:
    """Embedding 100k x 64 of 64 tokens, averaged, then Dense."""
    return keras.Sequential(
        [
            keras.Input((64,), dtype="int32"),
            wrap(layers.Embedding(TOKENS, 64)),
            layers.GlobalAveragePooling1D(),
            wrap(layers.Dense(10)),
        ]
    )


def batch_for(model: keras.Model, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and targets for a model."""
    rng = np.random.default_rng(0)
    shape = (size, *model.input_shape[1:])
    if "int" in model.inputs[0].dtype:
        inputs = rng.integers(0, TOKENS, size=shape).astype("int32")
    else:
        inputs = rng.standard_normal(shape).astype("float32")
    targets = rng.standard_normal((size, *model.output_shape[1:]))
    return inputs, targets.astype("float32")


def _dense(*widths: int) -> Callable[[Wrap], keras.Model]:
    return functools.partial(mlp, widths=widths)


def _curve(name: str, x: int, batch: int, widths, **settings: Any) -> Case:
    return Case(
        name,
        batch,
        _dense(*widths),
        x=x,
        measures=("train", "inference"),
        **settings,
    )


PLAIN_MLP = (1024, 2048, 2048, 2048, 10)


def workloads() -> list[Case]:
    """The models of the tables."""
    resnet_18 = functools.partial(resnet, stages=RESNET_18)
    resnet_50 = functools.partial(resnet, stages=RESNET_50, bottleneck=True)
    one_block = functools.partial(transformer, blocks=1)
    return [
        Case("mlp", 1, _dense(*PLAIN_MLP), quick=True),
        Case("mlp", 8, _dense(*PLAIN_MLP), measures=WARM),
        Case("mlp", 64, _dense(*PLAIN_MLP), measures=WARM),
        Case("discriminator", 1, discriminator, convolutional=True, quick=True),
        Case(
            "discriminator",
            32,
            discriminator,
            convolutional=True,
            measures=WARM,
        ),
        Case("resnet18", 16, resnet_18, convolutional=True),
        Case("lstm", 16, lstm),
        Case("transformer", 8, one_block),
        Case("embedding", 32, embedding),
        # Building and compiling where there is much of it.
        Case("dense8192", 1, _dense(8192, 8192), measures=("cold",)),
        Case("resnet50", 1, resnet_50, measures=("cold",)),
        Case(
            "transformer12",
            1,
            functools.partial(transformer, blocks=12),
            measures=("cold",),
        ),
    ]


def curves() -> list[Case]:
    """Growth of the overhead with one size of the model or the call."""
    widths = [
        _curve("width", w, 64, (w, w, w), quick=w <= 512)
        for w in (256, 512, 1024, 2048, 4096)
    ]
    batches = [
        _curve("batch", b, b, (1024, 1024, 1024)) for b in (1, 4, 16, 64, 256)
    ]
    depths = [
        _curve("depth", d, 64, (512,) * (d + 1)) for d in (1, 2, 4, 8, 16)
    ]
    iterations = [
        _curve(
            "power_iterations",
            k,
            64,
            (1024, 1024, 1024),
            options={"power_iterations": k},
        )
        for k in (1, 2, 4, 8)
    ]
    return [*widths, *batches, *depths, *iterations]


def cases() -> list[Case]:
    """All of them."""
    return workloads() + curves()


def find_case(label: str) -> Case:
    """The case of a label."""
    return next(case for case in cases() if case.label == label)
