"""Error and time of every way to the norm of a layer, ours and published.

Run as `python -m benchmarks.norms [--quick]` with KERAS_BACKEND=torch: the
comparators are written plainly with torch. Prints two tables: the brackets of
`spectral_norm` on layers of many shapes, and for some convolutions the
published methods next to it, each at the tightness it reaches.
"""

import argparse
import math
import time

import keras
import numpy as np
import torch

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms import refined_bounds
from keras_sn.norms import spectral_norm


def he_normal(shape):
    """Random kernel `(filters, channels, height, width)`, fan-out."""
    deviation = math.sqrt(2 / (shape[0] * math.prod(shape[2:])))
    return np.random.default_rng(0).standard_normal(shape) * deviation


def trained_like(shape):
    """A kernel with a decaying spectrum, low-pass as trained ones are."""
    rng = np.random.default_rng(0)
    filters, channels, height, width = shape
    rank = min(filters, channels)
    values = np.arange(1, rank + 1) ** -0.7
    left = np.linalg.qr(rng.standard_normal((filters, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((channels, rank)))[0]
    rows = np.exp(-((np.arange(height) - (height - 1) / 2) ** 2))
    columns = np.exp(-((np.arange(width) - (width - 1) / 2) ** 2))
    smooth = np.einsum("or,r,cr,h,w->ochw", left, values, right, rows, columns)
    return smooth + 0.05 * he_normal(shape)


def gram_iteration(kernel, size, iterations):
    """Delattre et al. 2023: Gram iteration on the FFT grid of one size."""
    symbol = torch.fft.rfft2(kernel, s=(size, size)).permute(2, 3, 0, 1)
    symbol = symbol.reshape(-1, *kernel.shape[:2])
    if symbol.shape[1] > symbol.shape[2]:
        symbol = symbol.mT.conj()
    logarithm = torch.zeros(len(symbol))
    for _ in range(iterations):
        norm = torch.linalg.matrix_norm(symbol)
        symbol = symbol / norm[:, None, None]
        logarithm = 2 * (logarithm + norm.log())
        symbol = symbol @ symbol.mH
    logarithm = logarithm + torch.linalg.matrix_norm(symbol).log()
    return float(torch.exp(logarithm.max() / 2**iterations))


def batched_svd(kernel, size):
    """The exact norm with circular padding, by singular values."""
    symbol = torch.fft.rfft2(kernel, s=(size, size)).permute(2, 3, 0, 1)
    return float(torch.linalg.svdvals(symbol).max())


def fantastic_four(kernel):
    """Singla & Feizi 2021: least of four reshaped norms, upper."""
    filters, channels, height, width = kernel.shape
    reshapes = [
        kernel.permute(0, 2, 1, 3).reshape(filters * height, -1),
        kernel.permute(0, 3, 1, 2).reshape(filters * width, -1),
        kernel.reshape(filters, -1),
        kernel.permute(0, 2, 3, 1).reshape(-1, channels),
    ]
    norms = [float(torch.linalg.matrix_norm(m, 2)) for m in reshapes]
    return math.sqrt(height * width) * min(norms)


def power_iteration(kernel, size, iterations):
    """Power iteration on the zero-padded layer of one size, lower."""
    vector = torch.randn(1, kernel.shape[1], size, size)
    padding = kernel.shape[-1] // 2
    for _ in range(iterations):
        vector = vector / vector.norm()
        image = torch.nn.functional.conv2d(vector, kernel, padding=padding)
        vector = torch.nn.functional.conv_transpose2d(
            image, kernel, padding=padding
        )
    return float(vector.norm().sqrt())


def timed(function, repeats=3):
    """The result and the least of some times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, min(times)


def compare(name, kernel, size, repeats):
    """The published methods and ours, on one kernel."""
    tensor = torch.tensor(kernel, dtype=torch.float32)
    symbol = Symbol(kernel.transpose(2, 3, 1, 0)[None])
    reference = refined_bounds(symbol, rtol=1e-2)
    print(f"\n{name}, S in [{reference.lower:.5f}, {reference.upper:.5f}]")
    circular = batched_svd(tensor.double(), size)
    gram, seconds = timed(lambda: gram_iteration(tensor, size, 6), repeats)
    # Float32 can end below the norm; float64 proves no closer than this.
    tightness = max(gram / circular - 1, 1e-6)
    rows = [
        (f"Gram iteration, 6, {size}x{size}", "upper*", gram, seconds),
        ("batched SVD", "circular", *timed(lambda: batched_svd(tensor, size))),
        ("Fantastic Four", "upper", *timed(lambda: fantastic_four(tensor))),
        (
            "power iteration, 50",
            "lower",
            *timed(lambda: power_iteration(tensor, size, 50), repeats),
        ),
    ]
    grid = (size, size)
    ours = timed(lambda: refined_bounds(symbol, tightness, grid=grid), repeats)
    rows.append(
        (
            f"ours, {size}x{size}, rtol={tightness:.1e}",
            "bracket*",
            ours[0].upper,
            ours[1],
        )
    )
    ours = timed(lambda: refined_bounds(symbol, 1e-2), repeats)
    rows.append(("ours, rtol=1e-2", "bracket", ours[0].upper, ours[1]))
    for method, kind, value, taken in rows:
        error = value / reference.lower - 1
        print(f"  {method:28} {kind:9} {error:+9.2%} {taken:8.3f} s")


def brackets(quick):
    """Time of the brackets of layers of many shapes."""
    layers = keras.layers
    cases = [
        ("Dense 1024x1024", layers.Dense(1024), (1024,), 1e-3),
        ("Conv2D 3x3 64->64", layers.Conv2D(64, 3), (64,), 1e-3),
        ("Conv2D 3x3 128->128", layers.Conv2D(128, 3), (128,), 1e-3),
        ("Conv2D 7x7 3->64", layers.Conv2D(64, 7), (3,), 1e-2),
        ("Depthwise 3x3x1024", layers.DepthwiseConv2D(3), (1024,), 1e-2),
        (
            "Conv2D 3x3 256->256, 8 groups",
            layers.Conv2D(256, 3, groups=8),
            (256,),
            1e-2,
        ),
        (
            "Conv2DTranspose 4x4/2 128->128",
            layers.Conv2DTranspose(128, 4, strides=2),
            (128,),
            1e-2,
        ),
        (
            "Separable 3x3 256->256",
            layers.SeparableConv2D(256, 3),
            (256,),
            1e-2,
        ),
    ]
    if not quick:
        cases += [
            ("Conv2D 5x5 128->128", layers.Conv2D(128, 5), (128,), 1e-3),
            ("Conv2D 3x3 512->512", layers.Conv2D(512, 3), (512,), 1e-2),
            ("Dense 4096x4096", layers.Dense(4096), (4096,), 1e-2),
        ]
    for name, layer, channels, rtol in cases:
        spatial = (None, None) if hasattr(layer, "kernel_size") else ()
        layer.build((None, *spatial, *channels))
        bounds, seconds = timed(
            lambda layer=layer, rtol=rtol: spectral_norm(layer, rtol=rtol), 1
        )
        print(
            f"{name:32} rtol={rtol:.0e} gap={bounds.gap:.1e} {seconds:7.2f} s",
            flush=True,
        )


def main():
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    keras.utils.set_random_seed(0)
    brackets(quick)
    repeats = 1 if quick else 3
    print("\nError is that of the value, against a certified lower bound of S.")
    print("*: for circular padding at that size only.")
    for make in (he_normal, trained_like):
        for channels, size in ((64, 56), (256, 14)):
            name = f"{make.__name__} {channels}->{channels} 3x3, {size}x{size}"
            kernel = make((channels, channels, 3, 3))
            compare(name, kernel, size, repeats)


if __name__ == "__main__":
    main()
