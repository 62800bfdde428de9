"""Which linear map a weight defines: LinearMap, its kinds, the registry."""

# The modules of the layer kinds register their builders when imported.
from keras_sn.linear_maps import convolution  # noqa: F401
from keras_sn.linear_maps import dense  # noqa: F401
from keras_sn.linear_maps import normalization  # noqa: F401
from keras_sn.linear_maps import recurrent  # noqa: F401
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import linear_maps
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.weights import ArrayWeight

__all__ = [
    "AppliedWeight",
    "ArrayWeight",
    "LinearMap",
    "MatrixMap",
    "linear_maps",
    "register_linear_map",
]
