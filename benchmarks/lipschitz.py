"""Dense stacks: closed form and refined against eclipse-nn, same networks.

Run `python benchmarks/lipschitz.py`; needs `pip install eclipse-nn` (and the
PyTorch that it brings). Prints one row per network: the bound of each as a
share of the product of norms, and the seconds it took.
"""

import time

import numpy as np

from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.lipsdp_descent import refined_bound

RELU = (0.0, 1.0)
# Width and number of layers.
NETWORKS = [(20, 2), (80, 2), (10, 40), (40, 10), (80, 20), (80, 100)]


def network(width, layers):
    """ECLipsE's random networks, regenerated as their generator does."""
    np.random.seed(width * 7 + layers * 13)  # noqa: NPY002
    dims = [4, *[width] * (layers - 1), 1]
    matrices = []
    for columns, rows in zip(dims, dims[1:], strict=False):  # noqa: RUF007
        scale = np.random.uniform(0.4, 1.8)  # noqa: NPY002
        matrix = np.random.rand(rows, columns)  # noqa: NPY002
        matrices.append(matrix * scale / np.linalg.norm(matrix, 2))
        np.random.rand(rows)  # noqa: NPY002
    return matrices


def eclipse(matrices, low=0.0, high=1.0):
    """ECLipsE_Fast of eclipse-nn."""
    import torch
    from eclipse_nn.eclipsE_fast import ECLipsE_Fast

    tensors = [torch.tensor(m, dtype=torch.float64) for m in matrices]
    hidden = len(matrices) - 1
    return float(ECLipsE_Fast(tensors, [low] * hidden, [high] * hidden))


def timed(function, *arguments):
    """The result, and the least seconds of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        value = function(*arguments)
        times.append(time.perf_counter() - start)
    return value, min(times)


def attained(matrices, low, high):
    """The norm with the best constant slopes found: a true lower bound."""
    rng = np.random.default_rng(0)
    best: float = 0.0
    for _ in range(2000):
        total = matrices[0]
        for matrix in matrices[1:]:
            slopes = rng.choice([low, high], len(total))
            total = matrix @ (slopes[:, None] * total)
        best = max(best, float(np.linalg.norm(total, 2)))
    return best


def main():
    print("width layers | ECLipsE_Fast   s | closed form   s | refined   s")
    for width, layers in NETWORKS:
        matrices = network(width, layers)
        plain = np.prod([np.linalg.norm(m, 2) for m in matrices])
        slopes = [RELU] * (layers - 1)
        row = [
            timed(eclipse, matrices),
            timed(closed_form_bound, matrices, slopes),
            timed(refined_bound, matrices, slopes),
        ]
        cells = " | ".join(f"{v / plain:.6f} {s:8.4f}" for v, s in row)
        print(f"{width:5} {layers:6} | {cells}")
    low, high = -0.13, 1.13
    print(f"\nslopes [{low}, {high}]: bound, and what a pair attains")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        matrices = [rng.normal(size=s) for s in ((3, 2), (3, 3), (1, 3))]
        theirs = eclipse(matrices, low, high)
        ours = closed_form_bound(matrices, [(low, high)] * 2)
        found = attained(matrices, low, high)
        verdict = "UNSOUND" if theirs < found else "holds"
        print(
            f"ECLipsE_Fast {theirs:.4f} ({verdict}), closed form {ours:.4f}, "
            f"attained {found:.4f}"
        )


if __name__ == "__main__":
    main()
