"""How large a linear map is: one file per estimator, spectral_norm in front."""

from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.exact import exact_bounds
from keras_sn.norms.gram_iteration import gram_iteration
from keras_sn.norms.grid_certificate import grid_bounds
from keras_sn.norms.lanczos import golub_kahan_lanczos
from keras_sn.norms.lanczos import lanczos_bounds
from keras_sn.norms.power_iteration import power_iteration
from keras_sn.norms.refinement import refined_bounds
from keras_sn.norms.spectral_norm import spectral_norm

__all__ = [
    "NormBounds",
    "exact_bounds",
    "golub_kahan_lanczos",
    "gram_iteration",
    "grid_bounds",
    "lanczos_bounds",
    "power_iteration",
    "refined_bounds",
    "spectral_norm",
]
