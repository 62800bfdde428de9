"""Copying a model with some of its layers replaced, weights included."""

import tempfile
import warnings

import keras

from keras_sn.keras_access import is_graph
from keras_sn.keras_access import sublayers
from keras_sn.linear_maps.wrapped import is_normalizing


def copy_graph(model, replace):
    """A copy of a model or layer, layer by layer, weights not yet copied.

    Args:
        model: Built Sequential or Functional model, or another layer; models
            inside of it are opened, other layers are not.
        replace: Function that takes a layer and returns the new one.

    Returns:
        The copy. Layers keep their place and their name, so `paired` finds
        who stands for whom.

    Raises:
        ValueError: If the model is not built.
    """
    check_built(model)
    if not is_graph(model):
        copy = replace(model)
        build_like(copy, model)
        return copy
    copy = _clone(model, replace, {})
    if not copy.built:
        copy.build_from_config(model.get_build_config())
    for original, twin in paired(model, copy):
        if is_graph(original) and not original.trainable:
            twin.trainable = False
    _compile_like(copy, model)
    return copy


def check_built(model):
    """Raises unless `model` is a built layer or model."""
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            "Expected a Keras model or layer. "
            f"Received: {model!r} (of type {type(model)})"
        )
    if not model.built or (is_graph(model) and not _has_inputs(model)):
        raise ValueError(
            f"{_kind(model)} '{model.name}' is not built, so it has no weights "
            "yet. Start it with a `keras.Input`, call it on data or call "
            f"`{model.name}.build(input_shape)` first."
        )


def paired(model, copy):
    """Yields `(layer, its copy)`, models before the layers inside them."""
    yield model, copy
    if is_graph(model) and is_graph(copy):
        for layer in model.layers:
            yield from paired(layer, copy.get_layer(layer.name))


def paired_leaves(model, copy):
    """Like `paired`, without models that were opened; each pair once."""
    seen = set()
    for original, twin in paired(model, copy):
        opened = is_graph(original) and is_graph(twin)
        if not opened and id(original) not in seen:
            seen.add(id(original))
            yield original, twin


def copy_weights(layer, copy, dropped=(), added=(), values=None):
    """Copies the weights of a layer into its copy, by their order.

    Args:
        layer: The layer to read.
        copy: The built layer to write.
        dropped: Weights of `layer` that the copy does not have.
        added: Weights of `copy` that the layer does not have.
        values: Dict `{id(weight of layer): array}` to write instead.

    Raises:
        ValueError: If the two do not fit each other.
    """
    values = values or {}
    sources = without(layer.weights, dropped)
    targets = without(copy.weights, added)
    shapes = [tuple(v.shape) for v in sources]
    if shapes != [tuple(v.shape) for v in targets]:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}), made anew from "
            "its config, has other weights than the layer itself: "
            f"{[(v.path, tuple(v.shape)) for v in targets]} for "
            f"{[(v.path, tuple(v.shape)) for v in sources]}. Its `get_config` "
            "must hold every argument of its constructor."
        )
    for source, target in zip(sources, targets, strict=True):
        # By way of NumPy: a training step on JAX gives up the buffers of the
        # variables it updates.
        value = values.get(id(source))
        if value is None:
            value = keras.ops.convert_to_numpy(source)
        target.assign(value)
    _copy_tables(layer, copy)


def without(variables, left_out):
    """The variables that are none of those left out."""
    ids = {id(v) for v in left_out}
    return [v for v in variables if id(v) not in ids]


def build_like(copy, layer):
    """Builds the copy of a layer for the inputs of the layer."""
    if copy.built:
        return
    config = layer.get_build_config() or {}
    if "layer" in config and is_normalizing(layer):
        config = config["layer"] or {}
    if is_normalizing(copy):
        config = {"layer": config}
    copy.build_from_config(config)
    # As after loading from a file: a Model does not say so by itself.
    copy.built = True


def _uncompiled(model):
    """The same layers in a model without a compile config.

    A copy is compiled afterwards, where a failure can be explained.
    """
    if isinstance(model, keras.Sequential) or not model.compiled:
        return model
    view = keras.Model(model.input, model.output, name=model.name)
    # A subclass with its own `train_step` stays what it is.
    return view if type(view) is type(model) else model


def _compile_like(copy, model):
    if not model.compiled or copy.compiled:
        return
    try:
        copy.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"The copy of model '{model.name}' is not compiled, call "
            f"`compile` on it: {error}",
            stacklevel=4,
        )


def _clone(model, replace, made):
    """The copy of a graph and the graphs inside; `made` holds its layers."""

    def clone(operation):
        # Operations such as `keras.ops.add` hold no state and serve both.
        if not isinstance(operation, keras.layers.Layer):
            return operation
        if id(operation) not in made:
            new = (
                _clone(operation, replace, made)
                if is_graph(operation)
                else replace(operation)
            )
            # The layer is kept, so that its id stays taken.
            made[id(operation)] = (operation, new)
        return made[id(operation)][1]

    source = _uncompiled(model)
    if isinstance(model, keras.Sequential):
        return keras.models.clone_model(source, clone_function=clone)
    inputs = keras.tree.map_structure(_input_like(model), source.input)
    return keras.models.clone_model(
        source, input_tensors=inputs, clone_function=clone
    )


def _input_like(model):
    """Function from an input tensor of a model to a new one of its kind."""
    # Left to itself, `clone_model` names inputs after tensors, not layers.
    layers = {
        id(layer.output): layer
        for layer in model.layers
        if isinstance(layer, keras.layers.InputLayer)
    }

    def new_input(tensor):
        layer = layers.get(id(tensor))
        return keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=tensor.name if layer is None else layer.name,
            optional=layer is not None and layer.optional,
        )

    return new_input


def _has_inputs(model):
    try:
        return bool(model.inputs)
    except (AttributeError, ValueError):
        return False


def _kind(layer):
    return "Model" if isinstance(layer, keras.Model) else "Layer"


def _copy_tables(layer, copy):
    """Copies what a preprocessing layer learnt and keeps beside weights."""
    if isinstance(layer, keras.layers.Normalization):
        copy.finalize_state()
    if callable(getattr(layer, "save_assets", None)):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
    for inner, twin in zip(sublayers(layer), sublayers(copy), strict=False):
        if type(inner) is type(twin):
            _copy_tables(inner, twin)
