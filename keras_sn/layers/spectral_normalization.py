"""SpectralNormalization: a wrapper that bounds the norm of its weights."""

from collections.abc import Sequence
from typing import Any
from typing import Literal

import keras
from keras import ops

from keras_sn.layers.building import build_inside
from keras_sn.layers.building import builds_by_shape
from keras_sn.layers.norm_bounds import NormBound
from keras_sn.layers.norm_bounds import bound_config
from keras_sn.layers.norm_bounds import checked_norm_bound
from keras_sn.layers.normalized_weight import NormalizedWeight
from keras_sn.layers.scaling import ReplacedWeights
from keras_sn.layers.scaling import RiddenProduct
from keras_sn.layers.scaling import choose_scaling
from keras_sn.layers.signatures import take_signatures
from keras_sn.layers.signatures import takes_training
from keras_sn.layers.weight_factors import WeightFactors
from keras_sn.layers.weight_selection import relative_names
from keras_sn.layers.weight_selection import select_maps
from keras_sn.layers.wrapper_arguments import check_arguments
from keras_sn.layers.wrapper_arguments import check_keywords
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.norms.tracking import FRESH


@keras.saving.register_keras_serializable(package="keras_sn")
class SpectralNormalization(WeightFactors):
    """Divides the weights of a layer by their spectral norm.

    A superset of `keras.layers.SpectralNormalization` that computes the same
    on TensorFlow, JAX and PyTorch. The trainable weight `W` is never
    assigned: the layer is called with `norm_bound * W / sigma(W)`, and the
    gradient passes through `sigma` with its singular vectors held constant.
    The weights are normalized from the first call on, in training and at
    inference.

    The state follows the dominant singular vectors `u` and `v` of each weight
    by `power_iterations` steps in every training call of a trainable wrapper.
    Inference takes one product with the weight and changes nothing. Only in
    the first 16 steps, and where the weights were replaced or moved far since
    the last step, it searches anew, in every call until training goes on or
    `refresh()` is called.

    Guarantee: `sigma` is an estimate from below. It is within 1e-3 of the norm
    before training, after `refresh()` and of weights that were replaced.
    Right after training steps it is as well for matrices of up to 2^18
    numbers (1.1e-3 at most was seen), but for the first hundred steps from
    scratch (6 percent were seen); in a larger one it lags where another
    singular vector overtakes the first (9 percent were seen). With
    `norm="operator"` it is the largest norm at a grid of frequencies: what a
    convolution amplifies by exceeds `norm_bound` by at most 4 percent with a
    3x3 kernel (3 were seen), 18 with 5x5 (9 seen), 13 with 7x7 (7 seen). Of
    `fold_model(certified=True)` it does not exceed it. For a certified norm
    see `keras_sn.norms.spectral_norm`.

    Args:
        layer: The layer to wrap: any `keras.layers.Layer` that has a
            registered linear map (see `keras_sn.linear_maps`), or weights
            named `kernel`, `recurrent_kernel` or `embeddings`, itself or in
            its sublayers. For a recurrent network wrap the RNN, not the cell.
        power_iterations: Number of power iterations per training call.
        norm: `"kernel"`: the norm of the kernel reshaped to a matrix (Miyato
            et al.). `"operator"`: the norm of the map that the layer applies;
            they differ for convolutions. `"bidirectional"`: of a kernel
            `(*taps, a, b)` the mean of two norms, those of the matrices with
            `b` and with `a` columns; of any other weight as `"kernel"`.
        norm_bound: The norm of the normalized weights: a number; `"rms"`,
            `sqrt(outputs / inputs)`, with which root mean squares don't grow
            at any width; or a schedule of `keras.optimizers.schedules`, by
            the training calls so far.
        mode: `"normalize"`: every weight gets the norm `norm_bound`.
            `"clip"`: only weights of a larger norm are changed. They are
            divided by a number that is held constant: the gradient is that
            of the scaled weight, so a weight can come back inside.
        weight_names: The weights to normalize, as names (`"kernel"`) or paths
            or ends of paths (`"forward_lstm/lstm_cell/kernel"`). `None`:
            every kernel in the layer and its sublayers. (The `gamma` of a
            BatchNormalization only if it is the wrapped layer, or named.)
        gain: Whether each weight is multiplied with a number that is learned,
            1 at first (`gains`): `gain * norm_bound * W / sigma(W)`, of norm
            `abs(gain) * norm_bound`.
        update_every: The state is updated in the first of so many training
            calls; the others take `sigma` along the same vectors. With 2,
            `D(real)` and `D(fake)` in one step see the same weights.
        **kwargs: `name`, `trainable`, `dtype`: as for any layer. The layer
            inside keeps a dtype policy of its own and decides the dtype of
            the outputs.

    Call arguments, input and output shapes: those of the wrapped layer.

    Raises:
        ValueError: If an argument is out of range, the layer is an RNN cell
            or quantized, or there is nothing in it to normalize.

    Example:

    >>> import numpy as np
    >>> import keras
    >>> from keras_sn.layers import SpectralNormalization
    >>> layer = SpectralNormalization(keras.layers.Dense(3), norm_bound=2.0)
    >>> layer(np.ones((1, 4))).shape == (1, 3)
    True
    >>> (kernel,) = layer.normalized_weights().values()
    >>> kernel = keras.ops.convert_to_numpy(kernel)
    >>> float(np.linalg.norm(kernel, 2).round(4))
    2.0

    Reference:

    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957)
    - [Gouk et al., 2018](https://arxiv.org/abs/1804.04368) for `"clip"`
    - [Zhai et al., 2023](https://arxiv.org/abs/2303.06296) for `gain`
    - [Lin et al., 2021](https://arxiv.org/abs/2009.02773) for
      `"bidirectional"`
    - [Yang et al., 2023](https://arxiv.org/abs/2310.17813) for `"rms"`
    """

    # Tells `linear_maps` that the weights inside need no second bound.
    normalizes_itself = True

    def __init__(
        self,
        layer: keras.layers.Layer,
        power_iterations: int = 1,
        norm: Literal["kernel", "operator", "bidirectional"] = "kernel",
        norm_bound: NormBound = 1.0,
        mode: Literal["normalize", "clip"] = "normalize",
        weight_names: Sequence[str] | None = None,
        gain: bool = False,
        update_every: int = 1,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            layer,
            power_iterations,
            norm,
            mode,
            weight_names,
            gain,
            update_every,
        )
        check_keywords(layer, kwargs)
        take_signatures(self, layer)
        super().__init__(layer, **kwargs)
        # The wrapped layer casts its inputs; here they pass as they are.
        self.autocast = False
        # Known when the wrapped layer is built, as for the stock wrapper.
        self.supports_masking = False
        self.power_iterations = int(power_iterations)
        self.norm = norm
        self.norm_bound = checked_norm_bound(norm_bound, layer)
        self.mode = mode
        self.gain = gain
        self.update_every = int(update_every)
        self.weight_names = None if weight_names is None else list(weight_names)
        self._normalized: list[NormalizedWeight] = []

    @property
    def compute_dtype(self) -> str:
        # The norm is computed in the precision of the weights. With a lower
        # dtype here, Keras would hand out rounded weights in `call`.
        return self.variable_dtype

    def build(self, *args: Any, **kwargs: Any) -> None:
        build_inside(self.layer, args, kwargs)
        maps = select_maps(self.layer, self.norm, self.weight_names)
        self._add_state(maps)
        self._scaling = choose_scaling(self.layer, maps)
        self._replacing = ReplacedWeights(self.layer, maps)
        if not isinstance(self._scaling, ReplacedWeights):
            # Checked here since the layer itself may not be called.
            self.input_spec = self.layer.input_spec
        self.supports_masking = self.layer.supports_masking

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any):
        scaling = self._scaling
        if (
            isinstance(scaling, RiddenProduct)
            and self._follows(training)
            and scaling.rides(args, kwargs)
        ):
            return scaling.ride(args[0], *self._lead())
        factors = self._factors(training)
        if training is not None:
            kwargs["training"] = training
        if not scaling.takes(args, kwargs):
            scaling = self._replacing
        return scaling.call(args, kwargs, factors, self)

    def normalized_weights(self) -> dict[str, Any]:
        """The weights the layer is called with at inference.

        Returns:
            Dict `{path: tensor}` in the shape and dtype of the weights. A
            layer that holds these in place of its own computes the same as
            the wrapper. Where several weights have the same path, `"#2"`,
            `"#3"`, ... is added to those of the second and further.
        """
        pairs = self.normalized_values()
        keys = unique_keys(variable.path for variable, _ in pairs)
        return {key: value for key, (_, value) in zip(keys, pairs, strict=True)}

    def normalized_values(self) -> list[tuple[keras.Variable, Any]]:
        """The same as a list of `(variable, tensor)`."""
        self._check_built()
        factors = self._factors(training=False)
        pairs = []
        for weight, factor in zip(self._normalized, factors, strict=True):
            value = weight.linear_map.weights[0].value()
            scaled = ops.cast(value, factor.dtype) * factor
            pairs.append((weight.variable, ops.cast(scaled, value.dtype)))
        return pairs

    def refresh(self) -> None:
        """Computes the state anew, after weights came from elsewhere.

        Training follows slow changes, and inference notices weights that
        were replaced (`set_weights`, `assign`), but then takes a search in
        every call, which this saves.
        """
        self._check_built()
        for weight in self._normalized:
            weight.refresh()
        self._age.assign(FRESH)

    def _check_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"Layer '{self.name}' is not built. Call it on data or call "
                "`build(input_shape)` first."
            )

    def compute_output_shape(self, *args: Any, **kwargs: Any):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any):
        if not takes_training(self.layer):
            kwargs.pop("training", None)
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any):
        return self.layer.compute_mask(*args, **kwargs)

    def rematerialized_call(self, layer_call, *args: Any, **kwargs: Any):
        # The wrapped layer rematerializes; doing it here as well would run
        # the update of `u` twice.
        return layer_call

    def get_build_config(self) -> dict | None:
        return {"layer": self.layer.get_build_config()} if self.built else None

    def build_from_config(self, config: dict) -> None:
        config = config.get("layer") or {}
        if "input_shape" in config:
            self.build(config["input_shape"])
        else:
            self.build(**config.get("shapes_dict", {}))

    def get_config(self) -> dict:
        names = self.weight_names
        if names is not None and self.built:
            # A path may begin otherwise where the layer is loaded.
            names = relative_names(names, self.layer)
        config = super().get_config()
        if self.built and builds_by_shape(self.layer):
            # The wrapper builds it, under the path that it has here: what is
            # sorted by paths keeps its order (PyTorch's `AveragedModel`).
            config["layer"].pop("build_config", None)
        return {
            **config,
            "power_iterations": self.power_iterations,
            "norm": self.norm,
            "norm_bound": bound_config(self.norm_bound),
            "mode": self.mode,
            "weight_names": names,
            "gain": self.gain,
            "update_every": self.update_every,
        }
