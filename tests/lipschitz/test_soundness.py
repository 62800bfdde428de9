"""Soundness: no pair of inputs of any network beats its upper bound."""

import networks
import numpy as np
import pytest

from keras_sn.lipschitz import lipschitz_bound
from keras_sn.lipschitz.lower.ascent import lower_bound
from tests.thoroughness import draws
from tests.thoroughness import fuzzing

# 6 * 4 architectures with 4 draws of weights each; thorough 13 and 10 of them,
# which makes 520.
GROUPS = 13
ARCHITECTURES = 4
DRAWS = draws(fuzzing(4, everything=10), sample=1)
METHODS = ("product", "folded", "rescaled", "closed_form", "refined")


@pytest.mark.parametrize("group", range(draws(fuzzing(6, GROUPS), sample=2)))
def test_no_network_beats_its_bound(group):
    for architecture in range(ARCHITECTURES):
        rng = np.random.default_rng([group, architecture])
        model = networks.random_network(rng)
        for draw in range(DRAWS):
            networks.randomize(model, rng, spread=rng.uniform(0.5, 2.0))
            lower = lower_bound(model, starts=16, iterations=12, seed=draw)
            method = METHODS[(group + draw) % len(METHODS)]
            report = lipschitz_bound(model, method, lower=False)
            assert np.isfinite(report.upper), report
            assert 0 <= lower <= report.upper, f"lower {lower}\n{report}"
