"""Soundness: no pair of inputs of any network beats its upper bound."""

import networks
import numpy as np
import pytest

from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.ascent import lower_bound

CHUNKS = 20
PER_CHUNK = 26
METHODS = ("product", "folded", "rescaled", "closed_form", "refined")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_network_beats_its_bound(chunk):
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        rng = np.random.default_rng(seed)
        model = networks.random_network(rng)
        lower = lower_bound(model, starts=24, iterations=6, seed=seed)
        method = METHODS[seed % 5]
        report = lipschitz_bound(model, method, lower=False)
        assert np.isfinite(report.upper), report
        assert 0 <= lower <= report.upper, f"seed {seed}\n{report}"
