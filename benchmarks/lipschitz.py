"""Dense stacks: closed form and refined against eclipse-nn, same networks.

`python -m benchmarks.lipschitz` writes
benchmarks/lipschitz_results/lipschitz.json and the table of docs/lipschitz.md:
the bound of each as a share of the product of norms, and the seconds it took.
ECLipsE needs `pip install eclipse-nn` (and the PyTorch that it brings);
without, it is left out.
"""

import importlib.util
import itertools
import time

import numpy as np

from benchmarks.bounds_page import save
from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.lipsdp_descent import refined_bound

RELU = (0.0, 1.0)
# Of the soundness table: below 0 and above 1.
SLOPES = (-0.13, 1.13)
HAS_ECLIPSE = importlib.util.find_spec("eclipse_nn") is not None
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


def gaussian(*dims):
    """Matrices with entries of variance `2 / columns`, as He-normal."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(rows, columns)) * np.sqrt(2 / columns)
        for columns, rows in itertools.pairwise(dims)
    ]


def networks():
    """Those of ECLipsE, and one in the size of a classifier of MNIST."""
    for width, layers in NETWORKS:
        yield f"{layers} layers of {width}", network(width, layers)
    yield "784-256-256-10, He-normal", gaussian(784, 256, 256, 10)


def compared(methods):
    """A row for each network: bounds and seconds of each method."""
    rows = []
    for name, matrices in networks():
        found = {}
        for method, function in methods.items():
            bound, seconds = timed(function, matrices)
            found[method] = {"bound": bound, "seconds": seconds}
        product = float(np.prod([np.linalg.norm(m, 2) for m in matrices]))
        rows.append({"name": name, "product": product, "found": found})
        print(rows[-1], flush=True)
    return rows


def attacked():
    """Slopes below 0 and above 1: each bound, and what a pair attains."""
    low, high = SLOPES
    rows = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        matrices = [rng.normal(size=s) for s in ((3, 2), (3, 3), (1, 3))]
        row = {
            "closed form": closed_form_bound(matrices, [SLOPES] * 2),
            "attained": attained(matrices, low, high),
        }
        if HAS_ECLIPSE:
            row["ECLipsE_Fast"] = eclipse(matrices, low, high)
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


def main():
    """Measures, and writes the page."""
    methods = {
        "closed form": lambda m: closed_form_bound(m, [RELU] * (len(m) - 1)),
        "refined": lambda m: refined_bound(m, [RELU] * (len(m) - 1)),
    }
    if HAS_ECLIPSE:
        methods = {"ECLipsE_Fast": eclipse, **methods}
    else:
        print("ECLipsE is left out: `pip install eclipse-nn` brings it")
    found = {"networks": compared(methods), "slopes": list(SLOPES)}
    save("lipschitz", found | {"attacked": attacked()})


if __name__ == "__main__":
    main()
