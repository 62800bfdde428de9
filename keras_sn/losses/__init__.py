"""Losses: certified margins, optimal transport, adversarial training."""

from keras_sn.losses.adversarial import hinge_discriminator
from keras_sn.losses.adversarial import hinge_generator
from keras_sn.losses.adversarial import relativistic_discriminator
from keras_sn.losses.adversarial import relativistic_generator
from keras_sn.losses.gradient_penalty import gradient_penalty
from keras_sn.losses.kantorovich_rubinstein import HingeKantorovichRubinstein
from keras_sn.losses.kantorovich_rubinstein import KantorovichRubinstein
from keras_sn.losses.margin import LipschitzMarginCrossentropy

__all__ = [
    "HingeKantorovichRubinstein",
    "KantorovichRubinstein",
    "LipschitzMarginCrossentropy",
    "gradient_penalty",
    "hinge_discriminator",
    "hinge_generator",
    "relativistic_discriminator",
    "relativistic_generator",
]
