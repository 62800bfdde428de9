"""SpectralNormalization: a wrapper that bounds the norm of its weights."""

import functools
import inspect
import math

import keras
from keras import ops

from keras_sn.fast_ops import first_and_rest
from keras_sn.fast_ops import with_gradient_in_order
from keras_sn.keras_access import sublayers
from keras_sn.layers.weight_override import call_with_weights
from keras_sn.layers.weight_override import rematerializes
from keras_sn.layers.weight_selection import select_maps
from keras_sn.linear_maps.registry import check_norm
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.norms.cold_start import cold_start
from keras_sn.norms.power_iteration import normalization_factor
from keras_sn.norms.power_iteration import power_iteration
from keras_sn.norms.power_iteration import right_vectors
from keras_sn.norms.power_iteration import sigma_of_image

_MODES = ("normalize", "clip")
# Layers linear in their input up to bias and activation: scaling the input
# scales the kernel. Exact classes only, a subclass may do anything.
_SCALES_INPUT = {
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
}
# Layers of which `call` is known: product with the kernel, bias, activation.
# Exact classes again. Conv1D is none of them: it pads the input by itself.
_PLAIN = {
    keras.layers.Dense: "dense",
    keras.layers.Conv2D: "convolution",
    keras.layers.Conv3D: "convolution",
}
# Stands in for an axis of unknown size when costs are compared.
_TYPICAL_SIZE = 32


@keras.saving.register_keras_serializable(package="keras_sn")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides the weights of a layer by their spectral norm.

    A superset of `keras.layers.SpectralNormalization` that computes the same
    on TensorFlow, JAX and PyTorch. The trainable weight `W` is never
    assigned: the layer is called with `norm_bound * W / sigma(W)`, and the
    gradient passes through `sigma` with its singular vectors held constant.
    The weights are normalized from the first call on, in training and at
    inference.

    The only state is one vector `u` per normalized weight, float32 or wider,
    which follows the dominant left singular vector by `power_iterations`
    steps in every training call of a trainable wrapper. Inference iterates
    from there until the estimate stops growing, and changes nothing; after
    training with large steps that takes a while, which `refresh()` saves.

    Guarantee: `sigma` is an estimate from below. In training it lags behind
    weights that move fast; at inference it is converged. For a certified
    norm see `keras_sn.norms.spectral_norm`.

    Args:
        layer: The layer to wrap: any `keras.layers.Layer` that has a
            registered linear map (see `keras_sn.linear_maps`), or weights
            named `kernel`, `recurrent_kernel` or `embeddings`, itself or in
            its sublayers. For a recurrent network wrap the RNN, not the cell.
        power_iterations: Number of power iterations per training call.
        norm: `"kernel"`: the norm of the kernel reshaped to a matrix (Miyato
            et al.). `"operator"`: the norm of the map that the layer applies;
            they differ for convolutions.
        norm_bound: The norm of the normalized weights.
        mode: `"normalize"`: every weight gets the norm `norm_bound`.
            `"clip"`: only weights of a larger norm are changed.
        weight_names: The weights to normalize, as names (`"kernel"`) or paths
            or ends of paths (`"forward_lstm/lstm_cell/kernel"`). `None`:
            every kernel in the layer and its sublayers. (The `gamma` of a
            BatchNormalization only if it is the wrapped layer, or named.)
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
    """

    # Tells `linear_maps` that the weights inside need no second bound.
    normalizes_itself = True

    def __init__(
        self,
        layer,
        power_iterations=1,
        norm="kernel",
        norm_bound=1.0,
        mode="normalize",
        weight_names=None,
        **kwargs,
    ):
        _check_arguments(
            layer, power_iterations, norm, norm_bound, mode, weight_names
        )
        self._take_signatures_of(layer)
        super().__init__(layer, **kwargs)
        # The wrapped layer casts its inputs; here they pass as they are.
        self.autocast = False
        # Known when the wrapped layer is built, as for the stock wrapper.
        self.supports_masking = False
        self.power_iterations = power_iterations
        self.norm = norm
        self.norm_bound = float(norm_bound)
        self.mode = mode
        self.weight_names = weight_names
        self._maps = []
        self._vectors = []

    def _take_signatures_of(self, layer):
        """Gives `call` and `build` of this instance the layer's signatures.

        Keras reads from them which inputs and masks to pass and which shapes
        to build with.
        """
        if not isinstance(layer, keras.layers.Layer):
            return  # Wrapper.__init__ raises
        own_call = self.call

        @functools.wraps(own_call)
        def call(*args, **kwargs):
            return own_call(*args, **kwargs)

        call.__signature__ = _with_training(inspect.signature(layer.call))
        self.call = call
        self.build.__signature__ = inspect.signature(layer.build)

    @property
    def compute_dtype(self):
        # The norm is computed in the precision of the weights. With a lower
        # dtype here, Keras would hand out rounded weights in `call`.
        return self.variable_dtype

    @property
    def vector_u(self):
        """The state `u` of the normalized weight, if there is just one."""
        if len(self._vectors) != 1:
            raise AttributeError(
                f"Layer '{self.name}' normalizes {len(self._vectors)} weights; "
                "`vectors_u` holds the state of each by the weight's path."
            )
        return self._vectors[0]

    @property
    def vectors_u(self):
        """Dict `{path of the weight: u}`."""
        keys = unique_keys(m.path for m in self._maps)
        return dict(zip(keys, self._vectors, strict=True))

    def build(self, *args, **kwargs):
        self._build_wrapped(*args, **kwargs)
        self._maps = select_maps(self.layer, self.norm, self.weight_names)
        for linear_map in self._maps:
            self._vectors.append(self._add_vector(linear_map))
        self._scaling = self._choose_scaling()
        self.supports_masking = self.layer.supports_masking

    def _build_wrapped(self, *args, **kwargs):
        layer = self.layer
        if type(layer).build is keras.layers.Layer.build and any(
            not part.built for part in sublayers(layer)
        ):
            # No `build` of its own: calling it creates its sublayers' weights.
            self._trace_wrapped(*args, **kwargs)
        if not layer.built:
            layer.build(*args, **kwargs)
            layer.built = True

    def _trace_wrapped(self, *args, **kwargs):
        as_tensor = functools.partial(
            keras.tree.map_shape_structure, keras.KerasTensor
        )
        shapes = [*args, *kwargs.values()]
        self.layer.compute_output_spec(*map(as_tensor, shapes))

    def _add_vector(self, linear_map):
        name = "vector_u"
        if len(self._maps) > 1:
            path = linear_map.path.removeprefix(self.layer.path or "")
            name += "_" + path.strip("/").replace("/", "_")
        return self.add_weight(
            shape=linear_map.probe_shape,
            # Variables are initialized in the order of their creation, so
            # this sees the kernel also where initialization is deferred.
            initializer=lambda shape, dtype: ops.convert_to_tensor(
                cold_start(linear_map), dtype
            ),
            dtype=_state_dtype(linear_map),
            trainable=False,
            autocast=False,
            # Every replica computes the same vector from the same weights.
            aggregation="only_first_replica",
            name=name,
        )

    def call(self, *args, training=None, **kwargs):
        if self._scaling == "dense" and len(args) == 1 and not kwargs:
            return self._call_dense(args[0], training)
        factors = self._factors(training)
        if self._scaling == "convolution" and len(args) == 1 and not kwargs:
            return self._call_convolution(args[0], factors[0])
        if training is not None:
            kwargs["training"] = training
        if self._scales_input(args, kwargs):
            inputs = ops.cast(args[0], factors[0].dtype)
            for factor in factors:
                inputs = inputs * factor
            return self.layer(inputs, *args[1:], **kwargs)
        if self._scaling == "output":
            outputs = self.layer(*args, **kwargs)
            # In float32, then rounded once.
            scaled = ops.cast(outputs, factors[0].dtype) * factors[0]
            return ops.cast(scaled, outputs.dtype)
        return call_with_weights(
            self.layer,
            self._replacements(factors),
            self.add_loss,
            args,
            kwargs,
        )

    def _factors(self, training):
        """The factor of each weight; updates `u` in a training call."""
        factors = []
        for linear_map, u in zip(self._maps, self._vectors, strict=True):
            values = tuple(ops.cast(v, u.dtype) for v in linear_map.values())
            sigma, new_u = power_iteration(
                linear_map, u.value, self._iterations(training), values
            )
            factors.append(self._factor(sigma, u, new_u, training))
        return factors

    def _updates(self, training):
        """Whether the call follows the weights; a frozen wrapper never does."""
        return bool(training) and self.trainable

    def _iterations(self, training):
        # Training may lag a step behind the weights. Inference may not: what
        # is served has the norm asked for.
        return self.power_iterations if self._updates(training) else None

    def _factor(self, sigma, u, new_u, training):
        if self._updates(training):
            u.assign(new_u)
        return normalization_factor(sigma, self.norm_bound, self.mode)

    def _call_dense(self, inputs, training):
        """A Dense layer, its singular vector `v` one more row of the batch.

        The product with the batch then gives `v @ kernel` and its gradient as
        well. By itself that gradient, a matrix of rank one, costs about as
        much as a layer: it is as large as the kernel.
        """
        (linear_map,), (u,) = self._maps, self._vectors
        (kernel,) = linear_map.values()
        held = (ops.stop_gradient(kernel),)
        right = right_vectors(
            linear_map, u.value, self._iterations(training), held
        )
        inputs = ops.cast(inputs, kernel.dtype)
        rows = inputs
        if len(inputs.shape) != 2:
            rows = ops.reshape(inputs, (-1, kernel.shape[0]))
        images = ops.concatenate([right, rows], axis=0) @ kernel
        image, outputs = first_and_rest(images)
        sigma, new_u = sigma_of_image(image, u.value)
        outputs = outputs * self._factor(sigma, u, new_u, training)
        if len(inputs.shape) != 2:
            shape = (*ops.shape(inputs)[:-1], kernel.shape[1])
            outputs = ops.reshape(outputs, shape)
        return self._biased_and_activated(outputs)

    def _call_convolution(self, inputs, factor):
        """A convolution: the smallest of input, kernel and output is scaled.

        Calling the layer with other weights takes an eager backend longer
        than scaling them.
        """
        layer = self.layer
        kernel = layer.kernel
        inputs = ops.cast(inputs, kernel.dtype)
        smallest = self._smallest(inputs, kernel)
        if smallest == "input":
            inputs = inputs * factor
        elif smallest == "kernel":
            kernel = kernel * factor
        kernel = with_gradient_in_order(kernel)
        outputs = layer.convolution_op(inputs, kernel)
        if smallest == "output":
            outputs = outputs * factor
        return self._biased_and_activated(outputs)

    def _smallest(self, inputs, kernel):
        layer = self.layer
        axis = 1 if layer.data_format == "channels_first" else -1
        channels, size = inputs.shape[axis], _typical_size(inputs)
        # As with padding "same": close enough to compare.
        pixels = size // channels // math.prod(layer.strides)
        sizes = {
            "input": size,
            "kernel": _typical_size(kernel),
            "output": pixels * layer.filters,
        }
        return min(sizes, key=sizes.get)

    def _biased_and_activated(self, outputs):
        """What a plain layer does with the product of input and kernel."""
        bias = self.layer.bias
        if bias is not None:
            if getattr(self.layer, "data_format", None) == "channels_first":
                bias = ops.reshape(bias, (-1,) + (1,) * self.layer.rank)
            outputs = outputs + bias
        if self.layer.activation is None:
            return outputs
        return self.layer.activation(outputs)

    def _replacements(self, factors):
        return [
            (variable, ops.cast(ops.cast(variable.value, f.dtype) * f, dtype))
            for linear_map, f in zip(self._maps, factors, strict=True)
            for variable in linear_map.weights[0].scalable_variables()
            if (dtype := variable.value.dtype)
        ]

    def _choose_scaling(self):
        """How a scalar factor reaches the weights without a copy of them."""
        # In float16 an input times 1 / sigma can overflow; a weight cannot.
        if self.layer.compute_dtype == "float16":
            return "weights"
        if self._is_plain():
            # Checked here since the layer itself is not called.
            self.input_spec = self.layer.input_spec
            return _PLAIN[type(self.layer)]
        if type(self.layer) in _SCALES_INPUT and self.layer.autocast:
            return "input"
        if (
            type(self.layer) is keras.layers.Embedding
            and self.layer.activity_regularizer is None
        ):
            return "output"
        return "weights"

    def _is_plain(self):
        """Whether all that the layer does is known, so that it can be done."""
        layer = self.layer
        return (
            type(layer) in _PLAIN
            and layer.compute_dtype == layer.variable_dtype
            and layer.compute_dtype in ("float32", "float64")
            and layer.activity_regularizer is None
            and not rematerializes(layer)
        )

    def _scales_input(self, args, kwargs):
        """Whether to scale the input: where it is smaller than the weights."""
        if (
            self._scaling != "input"
            or len(args) != 1
            or set(kwargs) - {"training"}
        ):
            return False
        weights = sum(math.prod(m.weights[0].shape) for m in self._maps)
        return _typical_size(args[0]) < weights

    def normalized_weights(self):
        """The weights the layer is called with at inference.

        Returns:
            Dict `{path: tensor}` in the shape and dtype of the weights. A
            layer that holds these in place of its own computes the same as
            the wrapper.
        """
        pairs = self.normalized_values()
        keys = unique_keys(variable.path for variable, _ in pairs)
        return {key: value for key, (_, value) in zip(keys, pairs, strict=True)}

    def normalized_values(self):
        """The same as a list of `(variable, tensor)`: paths may be equal."""
        self._check_built()
        factors = self._factors(training=False)
        pairs = []
        for linear_map, factor in zip(self._maps, factors, strict=True):
            weight = linear_map.weights[0]
            value = weight.value()
            scaled = ops.cast(value, factor.dtype) * factor
            pairs.append((weight.variable, ops.cast(scaled, value.dtype)))
        return pairs

    def refresh(self):
        """Computes `u` anew, after weights came from elsewhere.

        Power iteration in training follows slow changes. After weights were
        replaced (`set_weights`, a checkpoint without `u`), call this.
        """
        self._check_built()
        for linear_map, u in zip(self._maps, self._vectors, strict=True):
            u.assign(ops.cast(cold_start(linear_map), u.dtype))

    def _check_built(self):
        if not self.built:
            raise ValueError(
                f"Layer '{self.name}' is not built. Call it on data or call "
                "`build(input_shape)` first."
            )

    def compute_output_shape(self, *args, **kwargs):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        if "training" not in inspect.signature(self.layer.call).parameters:
            kwargs.pop("training", None)
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_mask(self, *args, **kwargs):
        return self.layer.compute_mask(*args, **kwargs)

    def rematerialized_call(self, layer_call, *args, **kwargs):
        # The wrapped layer rematerializes; doing it here as well would run
        # the update of `u` twice.
        return layer_call

    def get_build_config(self):
        return {"layer": self.layer.get_build_config()} if self.built else None

    def build_from_config(self, config):
        config = config.get("layer") or {}
        if "input_shape" in config:
            self.build(config["input_shape"])
        else:
            self.build(**config.get("shapes_dict", {}))

    def load_own_variables(self, store):
        # The stock wrapper stores the kernel next to its `vector_u`.
        if len(store.keys()) == 2 and len(self._vectors) == 1:
            self._load_stock_variables(store["0"], store["1"])
        else:
            super().load_own_variables(store)

    def _load_stock_variables(self, kernel, vector_u):
        self._maps[0].weights[0].variable.assign(kernel)
        if math.prod(vector_u.shape) == math.prod(self.vector_u.shape):
            shape = self.vector_u.shape
            self.vector_u.assign(ops.reshape(vector_u[...], shape))
        else:
            # One `u` per block here, one for the whole kernel there.
            self.refresh()

    def get_config(self):
        return {
            **super().get_config(),
            "power_iterations": self.power_iterations,
            "norm": self.norm,
            "norm_bound": self.norm_bound,
            "mode": self.mode,
            "weight_names": self.weight_names,
        }


def _check_arguments(
    layer, power_iterations, norm, norm_bound, mode, weight_names
):
    if not isinstance(power_iterations, int) or power_iterations <= 0:
        raise ValueError(
            "`power_iterations` should be greater than zero. Received: "
            f"`power_iterations={power_iterations}`"
        )
    check_norm(norm)
    if not isinstance(norm_bound, (int, float)) or not 0 < norm_bound < float(
        "inf"
    ):
        raise ValueError(
            "`norm_bound` must be a positive, finite number. Received: "
            f"norm_bound={norm_bound!r}"
        )
    if mode not in _MODES:
        raise ValueError(
            f"`mode` must be one of {list(_MODES)}. Received: mode={mode!r}"
        )
    if weight_names is not None and (
        isinstance(weight_names, str)
        or not weight_names
        or not all(isinstance(name, str) for name in weight_names)
    ):
        raise ValueError(
            "`weight_names` must be a non-empty list of names or paths of "
            f"weights, or None. Received: weight_names={weight_names!r}"
        )
    if _is_cell(layer):
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) is an RNN cell. A "
            "cell runs inside a compiled loop, where the state of a wrapper "
            "cannot be kept up to date. Wrap the RNN instead: "
            f"SpectralNormalization(keras.layers.RNN({type(layer).__name__}"
            "(...)))."
        )


def _typical_size(tensor):
    # Sizes may be unknown, or symbols while JAX exports.
    return math.prod(
        n if isinstance(n, int) else _TYPICAL_SIZE for n in tensor.shape
    )


def _is_cell(layer):
    return (
        isinstance(layer, keras.layers.Layer)
        and hasattr(layer, "state_size")
        and "states" in inspect.signature(layer.call).parameters
    )


def _with_training(signature):
    """The signature with a `training` argument, for the wrapper's own use."""
    parameters = list(signature.parameters.values())
    if "training" in signature.parameters:
        return signature
    training = inspect.Parameter(
        "training", inspect.Parameter.KEYWORD_ONLY, default=None
    )
    has_var_keyword = (
        parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    )
    parameters.insert(len(parameters) - bool(has_var_keyword), training)
    return signature.replace(parameters=parameters)


def _state_dtype(linear_map):
    dtype = linear_map.weights[0].variable.dtype
    return "float64" if dtype == "float64" else "float32"
