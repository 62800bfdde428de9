"""Cells: a fine grid of frequencies, in boxes that can be split."""

import itertools
import math

import numpy as np


class FineGrid:
    """The grid on which a bound is proved, fine enough for its excess.

    Args:
        degrees: Degree of the symbol in each frequency.
        slack: `1 - 1 / excess` that the grid may have.
        sizes: The grid itself, if only its points matter.

    Attributes:
        sizes: Frequencies per axis.
        angle: `arccos(1 / excess)` of the grid.
    """

    def __init__(self, degrees, slack, sizes=None):
        self.degrees = degrees
        if sizes is not None:
            self.sizes = tuple(
                size if degree > 0 else 1
                for degree, size in zip(degrees, sizes, strict=True)
            )
            self.angle = 0.0
            return
        active = sum(degree > 0 for degree in degrees)
        sizes = []
        for degree in degrees:
            if degree == 0:
                sizes.append(1)
                continue
            # Each axis may take an equal share, the product is then least.
            share = (1 - slack) ** (1 / active)
            least = math.pi * degree / math.acos(share)
            sizes.append(max(math.ceil(least), int(2 * degree) + 1))
        self.sizes = tuple(sizes)
        factor = math.prod(
            math.cos(math.pi * degree / size)
            for degree, size in zip(degrees, sizes, strict=True)
        )
        # Rounded towards a larger excess.
        self.angle = math.acos(factor * (1 - 1e-14)) if active else 0.0

    def cells(self, radius):
        """Boxes that cover half of the grid, `(cells, 2, axes)`.

        Args:
            radius: Phase `sum_i d_i |w_i - center_i|` that a box may reach.

        Returns:
            Integers: first index and number of indices along each axis.
        """
        axes, halved = [], False
        active = sum(degree > 0 for degree in self.degrees)
        for degree, size in zip(self.degrees, self.sizes, strict=True):
            length = 1
            if degree > 0:
                step = 2 * math.pi * degree / size
                length = 1 + 2 * int(radius / active / step)
            # The other half holds the complex conjugates.
            count = size // 2 + 1 if size > 1 and not halved else size
            halved = halved or size > 1
            starts = range(0, count, length)
            axes.append([(a, min(length, count - a)) for a in starts])
        boxes = np.array(list(itertools.product(*axes)), dtype="int64")
        count = math.prod(len(axis) for axis in axes)
        boxes = boxes.reshape(count, len(self.sizes), 2)
        return np.swapaxes(boxes, 1, 2)

    def centers(self, cells):
        """Frequency at the middle of each cell, `(cells, axes)`."""
        middle = cells[:, 0] + (cells[:, 1] - 1) // 2
        return 2 * np.pi * middle / np.asarray(self.sizes, dtype="float64")

    def radii(self, cells):
        """Largest phase from the middle of each cell to a point of it."""
        reach = cells[:, 1] // 2
        steps = np.array(
            [
                2 * math.pi * degree / size
                for degree, size in zip(self.degrees, self.sizes, strict=True)
            ]
        )
        return reach @ steps if len(steps) else np.zeros(len(cells))

    def split(self, cell, parts):
        """Cuts a cell into up to `parts` pieces along each axis."""
        axes = []
        for start, length in cell.T:
            edges = np.linspace(0, length, min(parts, length) + 1).astype(int)
            axes.append(
                [
                    (start + a, b - a)
                    for a, b in itertools.pairwise(edges.tolist())
                ]
            )
        boxes = np.array(list(itertools.product(*axes)), dtype="int64")
        return np.swapaxes(boxes.reshape(-1, len(axes), 2), 1, 2)
