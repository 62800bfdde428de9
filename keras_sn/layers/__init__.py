"""Layers of bounded norm: wrappers that bound others', and layers that are."""

from keras_sn.layers.batch_centering import BatchCentering
from keras_sn.layers.group_sort import GroupSort
from keras_sn.layers.householder import Householder
from keras_sn.layers.invertible_downsampling import InvertibleDownsampling2D
from keras_sn.layers.joint_batch_normalization import JointBatchNormalization
from keras_sn.layers.norm_pooling import NormPooling2D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv1D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv2D
from keras_sn.layers.orthogonal_convolution import OrthogonalConv3D
from keras_sn.layers.orthogonal_dense import OrthogonalDense
from keras_sn.layers.random_feature_gaussian_process import (
    RandomFeatureGaussianProcess,
)
from keras_sn.layers.random_feature_gaussian_process import mean_field_logits
from keras_sn.layers.residual_sll import SLLConv2D
from keras_sn.layers.residual_sll import SLLDense
from keras_sn.layers.spectral_normalization import SpectralNormalization
from keras_sn.layers.weight_normalization import WeightNormalization

__all__ = [
    "BatchCentering",
    "GroupSort",
    "Householder",
    "InvertibleDownsampling2D",
    "JointBatchNormalization",
    "NormPooling2D",
    "OrthogonalConv1D",
    "OrthogonalConv2D",
    "OrthogonalConv3D",
    "OrthogonalDense",
    "RandomFeatureGaussianProcess",
    "SLLConv2D",
    "SLLDense",
    "SpectralNormalization",
    "WeightNormalization",
    "mean_field_logits",
]
