"""Dense stacks: closed form and refined against eclipse-nn, same networks.

Run `python -m benchmarks.lipschitz`. Prints one row per network: the bound of
each as a share of the product of norms, and the seconds it took. ECLipsE needs
`pip install eclipse-nn` (and the PyTorch that it brings); without, it is
left out.
"""

import importlib.util
import time

import numpy as np

from keras_sn.lipschitz.upper.closed_form import closed_form_bound
from keras_sn.lipschitz.upper.lipsdp_descent import refined_bound

RELU = (0.0, 1.0)
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


def report(methods):
    """A row for each network: bound over product of norms, seconds."""
    print("width layers | " + " | ".join(f"{n:17}" for n in methods))
    for width, layers in NETWORKS:
        matrices = network(width, layers)
        plain = np.prod([np.linalg.norm(m, 2) for m in matrices])
        row = [timed(method, matrices) for method in methods.values()]
        cells = " | ".join(f"{v / plain:.6f} {s:8.4f}" for v, s in row)
        print(f"{width:5} {layers:6} | {cells}")


def report_soundness():
    """Slopes below 0 and above 1: each bound, and what a pair attains."""
    low, high = -0.13, 1.13
    print(f"\nslopes [{low}, {high}]: bound, and what a pair attains")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        matrices = [rng.normal(size=s) for s in ((3, 2), (3, 3), (1, 3))]
        ours = closed_form_bound(matrices, [(low, high)] * 2)
        found = attained(matrices, low, high)
        line = f"closed form {ours:.4f}, attained {found:.4f}"
        if HAS_ECLIPSE:
            theirs = eclipse(matrices, low, high)
            verdict = "UNSOUND" if theirs < found else "holds"
            line = f"ECLipsE_Fast {theirs:.4f} ({verdict}), {line}"
        print(line)


def main():
    """Prints both tables."""
    methods = {
        "closed form": lambda m: closed_form_bound(m, [RELU] * (len(m) - 1)),
        "refined": lambda m: refined_bound(m, [RELU] * (len(m) - 1)),
    }
    if HAS_ECLIPSE:
        methods = {"ECLipsE_Fast": eclipse, **methods}
    else:
        print("ECLipsE is left out: `pip install eclipse-nn` brings it")
    report(methods)
    report_soundness()


if __name__ == "__main__":
    main()
