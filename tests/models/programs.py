"""Networks as people write them with spectral normalization."""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_sn.layers import SpectralNormalization
from keras_sn.models import normalize_model

SIZE = 32
CLASSES = 5


def normalized(layer, **options):
    return SpectralNormalization(layer, **options)


def conv(filters, kernel=3, strides=1, **kwargs):
    return normalized(
        layers.Conv2D(filters, kernel, strides, padding="same", **kwargs)
    )


def dcgan_discriminator():
    """Strided convolutions, the import swapped."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            conv(8, 4, 2),
            layers.LeakyReLU(0.2),
            conv(16, 4, 2),
            layers.LeakyReLU(0.2),
            conv(16, 4, 2),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            normalized(layers.Dense(1)),
        ]
    )


def dcgan_generator():
    """Transposed convolutions and batch normalization."""
    return keras.Sequential(
        [
            keras.Input((8,)),
            normalized(layers.Dense(4 * 4 * 8)),
            layers.Reshape((4, 4, 8)),
            normalized(layers.Conv2DTranspose(8, 4, 2, padding="same")),
            layers.BatchNormalization(),
            layers.ReLU(),
            normalized(layers.Conv2DTranspose(8, 4, 2, padding="same")),
            layers.BatchNormalization(),
            layers.ReLU(),
            normalized(layers.Conv2DTranspose(3, 4, 2, padding="same")),
            layers.Activation("tanh"),
        ]
    )


def down_block(x, filters):
    skip = conv(filters, 1)(layers.AveragePooling2D(2)(x))
    x = conv(filters)(layers.ReLU()(x))
    x = conv(filters)(layers.ReLU()(x))
    return layers.Add()([layers.AveragePooling2D(2)(x), skip])


def sngan_resnet():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = down_block(down_block(inputs, 8), 16)
    x = ops.sum(layers.ReLU()(x), axis=(1, 2))
    return keras.Model(inputs, normalized(layers.Dense(1))(x))


@keras.saving.register_keras_serializable("keras_sn_programs")
class Scale(layers.Layer):
    """SAGAN's gate: a scalar that starts at zero."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(), initializer="zeros")

    def call(self, inputs):
        return self.gamma * inputs


def sagan_discriminator():
    """Self-attention over the pixels, written in operations."""
    inputs = keras.Input((SIZE // 2, SIZE // 2, 3))
    x = layers.LeakyReLU(0.1)(conv(16, 4, 2)(inputs))
    pixels = (SIZE // 4) ** 2
    query = layers.Reshape((pixels, 2))(conv(2, 1)(x))
    key = layers.Reshape((pixels, 2))(conv(2, 1)(x))
    value = layers.Reshape((pixels, 8))(conv(8, 1)(x))
    scores = ops.softmax(ops.einsum("bqc,bkc->bqk", query, key))
    attended = ops.einsum("bqk,bkc->bqc", scores, value)
    attended = layers.Reshape((SIZE // 4, SIZE // 4, 8))(attended)
    x = layers.Add()([x, Scale()(conv(16, 1)(attended))])
    x = layers.Flatten()(layers.LeakyReLU(0.1)(conv(16, 4, 2)(x)))
    return keras.Model(inputs, normalized(layers.Dense(1))(x))


def biggan_discriminator():
    """The class is projected on the features: an Embedding, wrapped."""
    images = keras.Input((SIZE, SIZE, 3), name="images")
    labels = keras.Input((), dtype="int32", name="labels")
    x = down_block(down_block(images, 8), 16)
    features = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    embedded = normalized(layers.Embedding(CLASSES, 16))(labels)
    projected = ops.sum(features * embedded, axis=-1, keepdims=True)
    score = normalized(layers.Dense(1))(features)
    return keras.Model([images, labels], score + projected)


def wgan_critic():
    return keras.Sequential(
        [
            keras.Input((2,)),
            normalized(layers.Dense(16)),
            layers.LeakyReLU(0.2),
            normalized(layers.Dense(16)),
            layers.LeakyReLU(0.2),
            normalized(layers.Dense(1)),
        ]
    )


def sngp():
    """Residual layers below one, random cosine features on top."""
    inputs = keras.Input((2,))
    x = layers.Dense(16, trainable=False)(inputs)
    for _ in range(3):
        hidden = normalized(
            layers.Dense(16, "relu"), norm_bound=0.9, mode="clip"
        )(x)
        x = layers.Add()([x, layers.Dropout(0.1)(hidden)])
    features = layers.Dense(32, trainable=False, name="features")(x)
    return keras.Model(inputs, layers.Dense(2)(ops.cos(features)))


def actor():
    """Normalized but for the last layer, as is usual for critics too."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, "relu", name="first"),
            layers.Dense(16, "relu", name="second"),
            layers.Dense(2, "tanh", name="action"),
        ]
    )
    return normalize_model(model, layers=["first", "second"])


def critic():
    state, action = keras.Input((6,)), keras.Input((2,))
    x = layers.Concatenate()([state, action])
    x = normalized(layers.Dense(16, "relu"))(x)
    return keras.Model([state, action], normalized(layers.Dense(1))(x))


def dncnn():
    """A denoiser: the noise is what is learnt, any size of image."""
    inputs = keras.Input((None, None, 1))
    x = layers.ReLU()(conv(8)(inputs))
    for _ in range(2):
        x = conv(8, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Subtract()([inputs, conv(1)(x)]))


PROGRAMS = {
    program.__name__: program
    for program in (
        dcgan_discriminator,
        dcgan_generator,
        sngan_resnet,
        sagan_discriminator,
        biggan_discriminator,
        wgan_critic,
        sngp,
        actor,
        critic,
        dncnn,
    )
}


def inputs_of(model, batch=4, seed=0, highest=CLASSES):
    """Arrays as the model takes them, open axes at 16."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *(n or 16 for n in tensor.shape[1:]))
        if tensor.dtype == "int32":
            arrays.append(rng.integers(0, highest, shape).astype("int32"))
        else:
            arrays.append(rng.standard_normal(shape).astype("float32"))
    return arrays if len(arrays) > 1 else arrays[0]


def train(model, steps=2):
    """Some steps with Adam towards zero."""
    inputs = inputs_of(model)
    shape = model(inputs, training=False).shape
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    for _ in range(steps):
        model.train_on_batch(inputs, np.zeros(shape, "float32"))


def gradient_penalty_step(model, real, fake):
    """The gradients of WGAN-GP's loss, each backend in its own words."""
    mixed = (real + fake) / 2
    run = {
        "tensorflow": _penalty_tensorflow,
        "jax": _penalty_jax,
        "torch": _penalty_torch,
    }[keras.backend.backend()]
    return [np.asarray(g) for g in run(model, real, fake, mixed)]


def _loss(scores_real, scores_fake, gradients):
    norms = ops.sqrt(ops.sum(ops.square(gradients), axis=-1) + 1e-12)
    distance = ops.mean(scores_fake) - ops.mean(scores_real)
    return distance + 10 * ops.mean(ops.square(norms - 1))


def _penalty_tensorflow(model, real, fake, mixed):
    import tensorflow as tf

    mixed = tf.constant(mixed)
    with tf.GradientTape() as tape:
        with tf.GradientTape() as inner:
            inner.watch(mixed)
            scores = model(mixed, training=True)
        gradients = inner.gradient(scores, mixed)
        loss = _loss(
            model(real, training=True), model(fake, training=True), gradients
        )
    weights = [v.value for v in model.trainable_variables]
    return tape.gradient(loss, weights)


def _penalty_jax(model, real, fake, mixed):
    import jax

    state = [v.value for v in model.non_trainable_variables]

    def scores(weights, inputs):
        return model.stateless_call(weights, state, inputs, training=True)[0]

    def loss(weights):
        gradients = jax.grad(lambda x: scores(weights, x).sum())(mixed)
        return _loss(scores(weights, real), scores(weights, fake), gradients)

    return jax.grad(loss)([v.value for v in model.trainable_variables])


def _penalty_torch(model, real, fake, mixed):
    import torch

    real, fake = torch.tensor(real), torch.tensor(fake)
    mixed = torch.tensor(mixed, requires_grad=True)
    scores = model(mixed, training=True).sum()
    (gradients,) = torch.autograd.grad(scores, mixed, create_graph=True)
    loss = _loss(
        model(real, training=True), model(fake, training=True), gradients
    )
    weights = [v.value for v in model.trainable_variables]
    found = torch.autograd.grad(loss, weights)
    return [gradient.detach().numpy() for gradient in found]
