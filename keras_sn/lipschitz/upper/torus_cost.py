"""What a recursion on a torus costs: seconds and bytes, about."""

import math

from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_schedule import Schedule

# Multiply-adds of complex numbers a second.
_SPEED = 1.5e9


def cost(plan: Schedule, torus: Torus) -> tuple[float, float]:
    """Seconds of one recursion, about, and bytes that it takes."""
    work, largest = 0.0, 0.0
    channels = plan.signals[plan.entry].channels
    before = plan.signals[plan.entry].reduction
    ends = [
        *((stage.rows, stage.reduction) for stage in plan.stages),
        ([plan.exit], plan.signals[plan.exit].reduction),
    ]
    for rows, after in ends:
        outputs = sum(plan.signals[value].channels for value in rows)
        fine, coarse = (len(torus.points(r)) for r in (before, after))
        work += fine * channels * outputs * (channels + outputs)
        if not (work and channels * 2 <= outputs and fine == 1):
            work += 2 * coarse * outputs**3
        numbers = max(fine * channels**2, coarse * outputs**2)
        largest = max(largest, 48.0 * numbers)
        channels, before = outputs, after
    real = math.prod(torus.sizes) == 1
    return work / _SPEED / (4 if real else 1), largest
