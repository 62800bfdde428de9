"""Slopes measured: what no true Lipschitz constant lies below."""

import keras
import numpy as np

# Steps of this length: small beside kinks, large beside rounding.
_STEP = 1e-2
# Rounding of float32, relative to the step.
ROUNDING = 1e-3


def measured_slope(function, shapes, rng, pairs=256, scale=1.0):
    """The steepest `|f(x) - f(y)| / |x - y|` of random pairs.

    Args:
        function: Model or layer; several inputs or outputs count as one.
        shapes: Shape of each input, without the batch axis.
        rng: NumPy generator.
        pairs: Number of pairs.
        scale: Size of the inputs.

    Returns:
        A number, less what rounding may have added.
    """
    starts, ends = [], []
    for shape in shapes:
        start = scale * rng.standard_normal((pairs, *shape))
        step = _STEP * rng.standard_normal((pairs, *shape))
        starts.append(start.astype("float32"))
        ends.append((starts[-1] + step).astype("float32"))
    moved = flat(outputs(function, ends)) - flat(outputs(function, starts))
    steps = flat(ends) - flat(starts)
    slopes = np.linalg.norm(moved, axis=1) / np.linalg.norm(steps, axis=1)
    size = np.abs(flat(outputs(function, starts))).max(initial=0.0)
    # Of each output some ulps, far below the step.
    allowance = 8e-7 * size * np.sqrt(moved.shape[1]) / _STEP
    return slopes.max() * (1 - ROUNDING) - allowance


def outputs(function, inputs):
    """The outputs of a layer or model at inference, as a list."""
    inputs = inputs[0] if len(inputs) == 1 else list(inputs)
    result = function(inputs, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(result)]


def flat(arrays):
    """The arrays of a batch side by side, a row each, in float64."""
    arrays = [np.asarray(array, "float64") for array in arrays]
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)
