"""NormBounds: what is known about a norm, from below and from above."""

import dataclasses
import math

from keras_sn.norms.proofs import scaled_down
from keras_sn.norms.proofs import scaled_up


@dataclasses.dataclass(frozen=True)
class NormBounds:
    """A bracket of a spectral norm.

    An estimate from below has `upper = inf`: it is never a certificate.

    Args:
        lower: The norm is at least this.
        upper: The norm is at most this.

    Example:

    >>> from keras_sn.norms import NormBounds
    >>> bounds = NormBounds(lower=1.98, upper=2.0)
    >>> round(bounds.gap, 3)
    0.01
    """

    lower: float
    upper: float = math.inf

    @property
    def gap(self) -> float:
        """`(upper - lower) / upper`, zero for an exact norm."""
        if self.upper == self.lower:
            return 0.0
        if math.isinf(self.upper):
            return 1.0
        return (self.upper - self.lower) / self.upper

    def scaled(self, power: float) -> "NormBounds":
        """The bracket of the map multiplied by a power of two."""
        return NormBounds(
            scaled_down(self.lower, power), scaled_up(self.upper, power)
        )
