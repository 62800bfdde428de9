"""tracker_of: the tracker that suits a map."""

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.both_reshapes import BothReshapes
from keras_sn.norms.mean_tracking import MeanTracker
from keras_sn.norms.subspace_tracking import SubspaceTracker
from keras_sn.norms.tracking import Tracker
from keras_sn.norms.vector_tracking import VectorTracker


def tracker_of(linear_map: LinearMap) -> Tracker:
    """Several vectors where that costs little, one for each block elsewhere."""
    if isinstance(linear_map, BothReshapes):
        first, other = linear_map.first, linear_map.other
        return MeanTracker(linear_map, tracker_of(first), tracker_of(other))
    if SubspaceTracker.suits(linear_map):
        return SubspaceTracker(linear_map)
    return VectorTracker(linear_map)
