"""Models in the shape of well-known ones, for CIFAR-sized inputs."""

import keras
from keras import layers


def _conv(x, filters, strides=1, activate=True):
    x = layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False
    )(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activate else x


def resnet18(width=64):
    inputs = keras.Input((32, 32, 3))
    x = _conv(inputs, width)
    for stage in range(4):
        filters = width * 2**stage
        for block in range(2):
            strides = 2 if stage and not block else 1
            y = _conv(x, filters, strides)
            y = _conv(y, filters, activate=False)
            if x.shape[-1] != filters or strides > 1:
                x = layers.Conv2D(filters, 1, strides=strides, use_bias=False)(
                    x
                )
                x = layers.BatchNormalization()(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="resnet18")


def vgg(width=16):
    inputs = x = keras.Input((32, 32, 3))
    for stage in range(4):
        for _ in range(2):
            x = _conv(x, width * 2**stage)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(10)(x), name="vgg")


def unet(width=8):
    inputs = x = keras.Input((32, 32, 3))
    skips = []
    for stage in range(3):
        x = _conv(_conv(x, width * 2**stage), width * 2**stage)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = _conv(x, width * 8)
    for stage in reversed(range(3)):
        x = layers.Conv2DTranspose(
            width * 2**stage, 2, strides=2, padding="same"
        )(x)
        x = layers.Concatenate()([x, skips[stage]])
        x = _conv(_conv(x, width * 2**stage), width * 2**stage)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x), name="unet")
