"""Spectral normalization outside of Keras, on equal models in this process.

Each peer is compared with the plain model of its own framework. What is not
installed, and the backends without a peer, are left out.
"""

import importlib
import importlib.util

import keras

from benchmarks.subjects import Subject
from benchmarks.workloads import Case

# Backend: the file of its peers, what they need, and what they are called.
PEERS = {
    "torch": [("benchmarks.peers_torch", "torch", "PyTorch")],
    "jax": [
        ("benchmarks.peers_flax", "flax", "Flax"),
        ("benchmarks.peers_equinox", "equinox", "Equinox"),
    ],
}


def peers_for(case: Case) -> list[Subject]:
    """The peers of a case that can be measured here, plain and normalized."""
    subjects: list[Subject] = []
    for module, needed, _ in PEERS.get(keras.backend.backend(), []):
        if importlib.util.find_spec(needed):
            subjects += importlib.import_module(module).subjects(case)
    return subjects


def missing() -> list[str]:
    """A line for each peer that is left out."""
    backend = keras.backend.backend()
    peers = PEERS.get(backend, [])
    if not peers:
        return [f"no peer for {backend} is known: the stock layer is the one"]
    return [
        f"{title} is left out: `pip install {needed}` brings it"
        for _, needed, title in peers
        if not importlib.util.find_spec(needed)
    ]
