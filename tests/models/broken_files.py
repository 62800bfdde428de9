"""Ways to spoil a `.keras` file, and what is said about each."""

import json
import zipfile

import h5py
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="keras_sn_tests")
class Unknown(layers.Layer):
    """A layer that the process which loads it does not know."""


def missing(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged(path):
    """The directory of the archive is whole, what it leads to is not."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("model.weights.h5").header_offset
    content[offset + 200 : offset + 260] = bytes(60)
    path.write_bytes(bytes(content))


def not_keras(path):
    path.write_text("weights")


def no_weights(path):
    _rewrite(path, {"model.weights.h5": None})


def no_model(path):
    """The config is JSON, but of something else."""
    _rewrite(path, {"config.json": lambda config: b"[1, 2]"})


def no_class(path):
    def without_class(config):
        return json.dumps({"config": json.loads(config)["config"]}).encode()

    _rewrite(path, {"config.json": without_class})


def wrong_type(path):
    """Keras's loader ends in an AttributeError."""

    def without_text(config):
        return config.replace(b'"module": "keras.layers"', b'"module": true', 1)

    _rewrite(path, {"config.json": without_text})


def other_weights(path):
    """The config asks for larger weights than there are."""

    def larger(config):
        return config.replace(b'"units": 8', b'"units": 9')

    _rewrite(path, {"config.json": larger})


def unknown_class(path):
    keras.Sequential([keras.Input((2,)), Unknown()]).save(path)

    def renamed(config):
        return config.replace(b"Unknown", b"Forgotten")

    _rewrite(path, {"config.json": renamed})


def unsafe(path):
    """Code in the file, which Keras's safe mode does not run."""
    code = layers.Lambda(lambda x: 2 * x, output_shape=(2,))
    keras.Sequential([keras.Input((2,)), code]).save(path)


def weights_alone(path):
    """What Keras 2 saved: renamed, it is an HDF5 file all the same."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    with h5py.File(path, "w") as file:
        file["kernel"] = model.layers[0].get_weights()[0]


def unbuilt(path):
    keras.Sequential([layers.Dense(2)]).save(path)


def no_kernel(path):
    keras.Sequential([keras.Input((2,)), layers.ReLU()]).save(path)


# Files that cannot be loaded, and models that nothing can be done with.
UNREADABLE = {
    missing: "There is no file",
    folder: "is no `.keras` file",
    empty: "is broken",
    truncated: "is broken",
    damaged: "is broken",
    not_keras: "is broken",
    no_weights: "Cannot load",
    no_model: "Cannot load",
    no_class: "Cannot load",
    wrong_type: "AttributeError",
    other_weights: "Cannot load",
    unknown_class: r"its class Forgotten is not known here.*--import",
    unsafe: r"holds code, of a Lambda layer.*safe_mode=False",
    weights_alone: "is broken",
}
UNFIT = {unbuilt: "is not built", no_kernel: "here is no"}


def _rewrite(path, changes):
    """Passes members of the archive through functions; `None` removes one."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, change in changes.items():
        content = members.pop(name)
        if change is not None:
            members[name] = change(content)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
