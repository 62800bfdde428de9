"""Spreading the Lipschitz constant of a network over its layers."""

import math
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
from keras.layers import Layer

from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.linear_maps.base import LinearMap
from keras_sn.lipschitz import LipschitzReport
from keras_sn.lipschitz import lipschitz_bound
from keras_sn.models.baking import normalized_copies
from keras_sn.models.folding import fold_model
from keras_sn.models.folding import folded
from keras_sn.norms.spectral_norm import spectral_norm

# From a share to the bound of the network.
BoundOf = Callable[[float], LipschitzReport]

_STEPS = 40
_TOLERANCE = 1e-4
# What rounding and the width of certificates may take away.
_CORRECTIONS = 8
# Shares outside of this range leave float32 in a deep network.
_SMALLEST_SHARE = 1e-6
_LARGEST_SHARE = 1e6


def spread_budget(
    copy: Layer, chosen: Sequence[SpectralNormalization], lipschitz: float
) -> None:
    """Gives each chosen wrapper the share of the budget it may have.

    All shares are equal, the largest for which the certified product bound
    is at most the budget. The bound is computed for weights of one entry,
    whose norms are exact, so that it holds for any weights of that norm.

    Args:
        copy: Model with wrapped layers; their `norm_bound` is set.
        chosen: List of those wrappers to set.
        lipschitz: The constant to keep to.

    Raises:
        ValueError: If no share keeps to it.
    """
    if not chosen:
        raise ValueError(
            "`lipschitz` is shared among the layers that get wrapped here, "
            f"and in model '{copy.name}' all are wrapped already."
        )
    bound_of = _bound_by_share(copy, chosen)
    share = _largest_share(bound_of, lipschitz, len(chosen), copy.name)
    for _ in range(_CORRECTIONS):
        for wrapper in chosen:
            wrapper.norm_bound = share
        upper = _upper(fold_model(copy, certified=True)).upper
        if upper <= lipschitz:
            return
        share *= min((lipschitz / upper) ** (1 / len(chosen)), 1 - 1e-6)
    raise ValueError(_too_small(lipschitz, upper, copy.name))


def _bound_by_share(
    copy: Layer, chosen: Sequence[SpectralNormalization]
) -> BoundOf:
    """Function from a share to the bound of the network."""
    probe = folded(copy)
    ids = {id(wrapper) for wrapper in chosen}
    units = []
    for layer, twin in probe.leaves:
        for wrapper, _, variable, linear_map in normalized_copies(layer, twin):
            if id(wrapper) in ids:
                units.append((variable, _one_entry(variable, linear_map)))

    def bound_of(share: float) -> LipschitzReport:
        for variable, unit in units:
            variable.assign(unit * share)
        return _upper(probe.model)

    return bound_of


def _one_entry(variable: keras.Variable, linear_map: LinearMap) -> np.ndarray:
    """A weight with one entry, such that the norm of the map is one.

    A convolution with such a kernel shifts one channel: its norm is that
    entry, whatever strides, dilation and groups.
    """
    unit = np.zeros(variable.shape, dtype="float64")
    unit.flat[0] = 1.0
    if len(linear_map.weights) > 1:
        # The scale of a BatchNormalization, which divides by the deviation.
        unit.flat[0] = 1.0 / _norm_with(linear_map, variable, unit)
    return unit


def _norm_with(
    linear_map: LinearMap, variable: keras.Variable, value: np.ndarray
) -> float:
    variable.assign(value)
    return spectral_norm(linear_map).upper or 1.0


def _upper(model: Layer) -> LipschitzReport:
    return lipschitz_bound(model, method="product", lower=False)


def _largest_share(
    bound_of: BoundOf, lipschitz: float, count: int, name: str
) -> float:
    """Bisection of the bound, which grows with the share."""
    report = bound_of(1.0)
    if report.unbounded:
        row = report.unbounded[0]
        raise ValueError(
            f"No budget can be kept in model '{name}': layer '{row.name}' has "
            f"no known Lipschitz constant. {row.reason}"
        )
    # In a chain this is the answer; a branch that skips layers makes it a
    # bound for one side only.
    guess = (lipschitz / max(report.upper, 1e-300)) ** (1 / count)
    low, high = _bracket(bound_of, lipschitz, guess, name)
    for _ in range(_STEPS):
        if high <= low * (1 + _TOLERANCE):
            break
        middle = math.sqrt(low * high)
        if bound_of(middle).upper <= lipschitz:
            low = middle
        else:
            high = middle
    return low


def _bracket(
    bound_of: BoundOf, lipschitz: float, guess: float, name: str
) -> tuple[float, float]:
    low = min(max(guess * (1 - 1e-5), _SMALLEST_SHARE), _LARGEST_SHARE)
    upper = bound_of(low).upper
    if upper <= lipschitz:
        high = low * (1 + _TOLERANCE)
        while bound_of(high).upper <= lipschitz:
            low, high = high, high * 4
            if high > _LARGEST_SHARE:
                return low, low
        return low, high
    while upper > lipschitz:
        high, low = low, low / 4
        if low < _SMALLEST_SHARE:
            raise ValueError(_too_small(lipschitz, upper, name))
        upper = bound_of(low).upper
    return low, high


def _too_small(lipschitz: float, upper: float, name: str) -> str:
    return (
        f"The Lipschitz constant of model '{name}' cannot be brought to "
        f"{lipschitz}: with the chosen layers as good as zero the bound is "
        f"still {upper:.6g}. A skip connection counts 1 whatever the layers "
        "beside it; choose more layers, or a larger constant."
    )
