"""Spectral normalization on several devices, compared with one device.

    KERAS_BACKEND=tensorflow python examples/distributed.py
    KERAS_BACKEND=jax python examples/distributed.py
    KERAS_BACKEND=torch python examples/distributed.py

TensorFlow: tf.distribute.MirroredStrategy on four virtual CPUs. JAX:
keras.distribution, DataParallel and ModelParallel on four virtual CPUs.
PyTorch: DistributedDataParallel over gloo in two processes. Each trains the
same network on the same batches as a single device; weights and singular
vectors must agree.
"""

import os
import sys

DEVICES = 4
PROCESSES = 2
STEPS = 20
BATCH = 16
TOLERANCE = 1e-4

# Read when JAX starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count={DEVICES}"
)

import hush  # noqa: F401, E402
import keras  # noqa: E402
import numpy as np  # noqa: E402

from keras_sn.layers import SpectralNormalization  # noqa: E402


def make_model():
    """A small discriminator, equal each time."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            SpectralNormalization(
                layers.Conv2D(8, 3, strides=2, activation="leaky_relu"),
                norm="operator",
                name="conv",
            ),
            layers.Flatten(),
            SpectralNormalization(
                layers.Dense(16, activation="leaky_relu"), name="hidden"
            ),
            SpectralNormalization(layers.Dense(1), name="score"),
        ]
    )


def make_data():
    """`STEPS` batches, in order."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((STEPS * BATCH, 8, 8, 3)).astype("float32")
    return images, images.mean((1, 2, 3), keepdims=True)[:, 0, 0]


def fit(model):
    """Trains by Keras, as on one device; returns the final state."""
    model.compile(keras.optimizers.SGD(0.05), "mse")
    images, targets = make_data()
    model.fit(images, targets, batch_size=BATCH, shuffle=False, verbose=0)
    return state_of(model)


def state_of(model):
    """Dict of all weights and singular vectors."""
    return {
        v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.weights
    }


def report(name, state, expected):
    """Prints the largest difference of two states; whether it is small."""
    worst = max(
        np.abs(a - b).max()
        for a, b in zip(state.values(), expected.values(), strict=True)
    )
    print(f"{name}: largest difference from one device {worst:.1e}")
    return worst <= TOLERANCE


def tensorflow_mirrored():
    """Every replica holds all weights and sees a part of each batch."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES
    )
    expected = fit(make_model())
    names = [f"CPU:{i}" for i in range(DEVICES)]
    strategy = tf.distribute.MirroredStrategy(names)
    with strategy.scope():
        model = make_model()
        state = fit(model)
    same = all(
        np.array_equal(copy.numpy(), state[u.path])
        for name in ("conv", "hidden", "score")
        for u in model.get_layer(name).vectors_u.values()
        for copy in strategy.experimental_local_results(u.value)
    )
    print(f"u identical on {DEVICES} replicas: {same}")
    return report("MirroredStrategy", state, expected) and same


def jax_distributions():
    """Batches split over devices; then a kernel split over devices."""
    expected = fit(make_model())
    devices = keras.distribution.list_devices()
    distribution = keras.distribution.DataParallel(devices=devices)
    with distribution.scope():
        model = make_model()
        state = fit(model)
    fine = report(f"DataParallel on {len(devices)}", state, expected)
    fine &= same_on_every_device(model)

    mesh = keras.distribution.DeviceMesh(
        (2, DEVICES // 2), ("batch", "model"), devices
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden/.*kernel"] = (None, "model")
    distribution = keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"
    )
    with distribution.scope():
        model = make_model()
        state = fit(model)
    kernel = model.get_layer("hidden").layer.kernel.value
    shard = kernel.addressable_shards[0].data.shape
    print(f"the kernel {kernel.shape} lies on each device as {shard}")
    fine &= shard[1] * (DEVICES // 2) == kernel.shape[1]
    fine &= same_on_every_device(model)
    return report("ModelParallel", state, expected) and fine


def same_on_every_device(model):
    """Whether each device holds the same `u`."""
    same = all(
        np.array_equal(np.asarray(shard.data), np.asarray(u.value))
        for name in ("conv", "hidden", "score")
        for u in model.get_layer(name).vectors_u.values()
        for shard in u.value.addressable_shards
    )
    print(f"u identical on every device: {same}")
    return same


def torch_parallel():
    """Every process holds all weights and sees a part of each batch."""
    import torch

    expected = fit_torch(make_model(), rank=0, world=1)
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=torch_worker, args=(rank, results))
        for rank in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    states = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    first, second = states
    same = all(np.array_equal(first[k], second[k]) for k in first)
    print(f"weights and u identical in {PROCESSES} processes: {same}")
    return report("DistributedDataParallel", first, expected) and same


def torch_worker(rank, results):
    """What each of the processes does."""
    import torch.distributed

    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=PROCESSES
    )
    results.put(fit_torch(make_model(), rank, PROCESSES))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def fit_torch(model, rank, world):
    """A PyTorch training loop on a share of each batch."""
    import torch

    module = model
    if world > 1:
        module = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.05
    )
    images, targets = map(torch.from_numpy, make_data())
    share = BATCH // world
    for step in range(STEPS):
        start = step * BATCH + rank * share
        batch = slice(start, start + share)
        scores = module(images[batch], training=True)
        loss = torch.mean((scores - targets[batch]) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return state_of(model)


RUNS = {
    "tensorflow": tensorflow_mirrored,
    "jax": jax_distributions,
    "torch": torch_parallel,
}

if __name__ == "__main__":
    sys.exit(0 if RUNS[keras.backend.backend()]() else 1)
