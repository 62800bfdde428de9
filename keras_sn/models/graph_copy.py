"""Copying a model with some of its layers replaced, weights included."""

import dataclasses
import inspect
import tempfile
import warnings
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from keras_sn.keras_access import history
from keras_sn.keras_access import is_graph
from keras_sn.keras_access import sublayers
from keras_sn.linear_maps.wrapped import is_normalizing

Replace = Callable[[Layer], Layer]


@dataclasses.dataclass(frozen=True)
class GraphCopy:
    """A copy of a model or layer, and who stands for whom in it.

    Attributes:
        model: The copy.
        pairs: List of `(layer, its copy)`, each once; of models that were
            opened too.
    """

    model: Layer
    pairs: list[tuple[Layer, Layer]]

    @property
    def leaves(self) -> list[tuple[Layer, Layer]]:
        """The pairs without models that were opened."""
        return [pair for pair in self.pairs if not is_graph(pair[0])]


def copy_graph(model: Layer, replace: Replace) -> GraphCopy:
    """A copy of a model or layer, layer by layer, weights not yet copied.

    Args:
        model: Built Sequential or Functional model, or another layer; models
            inside of it are opened, other layers are not.
        replace: Function that takes a layer and returns the new one, or the
            layer itself, which both then share.

    Returns:
        `GraphCopy`, compiled like the model.

    Raises:
        ValueError: If the model is not built.
    """
    copy = view_graph(model, replace)
    for original, twin in copy.pairs:
        if is_graph(original) and not original.trainable:
            twin.trainable = False
    if is_graph(model):
        _compile_like(copy.model, model)
    return copy


def view_graph(model: Layer, replace: Replace) -> GraphCopy:
    """Like `copy_graph`, to look at: not compiled, all as trainable as it is.

    So nothing happens to layers that both share.
    """
    check_built(model)
    if not is_graph(model):
        copy = replace(model)
        build_like(copy, model)
        return GraphCopy(copy, [(model, copy)])
    made: dict[int, tuple[Layer, Layer]] = {}
    copy = _clone(model, replace, made)
    return GraphCopy(copy, [(model, copy), *made.values()])


def check_built(model: Any) -> None:
    """Raises unless `model` is a built layer or model."""
    if not isinstance(model, Layer):
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


def leaves(model: Layer) -> Iterator[Layer]:
    """Yields the layers of a model and of the models inside, each once."""
    seen: set[int] = set()
    pending = [model]
    while pending:
        layer = pending.pop(0)
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if is_graph(layer):
            pending = list(layer.layers) + pending
        else:
            yield layer


def copy_weights(
    layer: Layer,
    copy: Layer,
    dropped: Collection[keras.Variable] = (),
    added: Collection[keras.Variable] = (),
    values: Mapping[int, np.ndarray] | None = None,
) -> None:
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
    if copy is layer:
        return
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
    _copy_beside_weights(layer, copy)


def _copy_state(wrapper: Layer, copy: Layer) -> None:
    """Copies the state of a wrapper, of which some is not among its weights."""
    for source, target in zip(
        wrapper.state_variables(), copy.state_variables(), strict=True
    ):
        target.assign(keras.ops.convert_to_numpy(source))


def without(
    variables: Collection[keras.Variable],
    left_out: Collection[keras.Variable],
) -> list[keras.Variable]:
    """The variables that are none of those left out."""
    ids = {id(v) for v in left_out}
    return [v for v in variables if id(v) not in ids]


def build_like(copy: Layer, layer: Layer) -> None:
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


def _compile_like(copy: keras.Model, model: keras.Model) -> None:
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


def _clone(
    model: keras.Model,
    replace: Replace,
    made: dict[int, tuple[Layer, Layer]],
) -> keras.Model:
    """The copy of a graph and the graphs inside; `made` holds its layers."""

    def clone(operation: keras.Operation) -> keras.Operation:
        # Operations such as `keras.ops.add` hold no state and serve both.
        if not isinstance(operation, Layer):
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

    if isinstance(model, keras.Sequential):
        copy = keras.Sequential(
            [_input_like(model.inputs[0]), *map(clone, model.layers)],
            name=model.name,
            trainable=model.trainable,
        )
    else:
        copy = _clone_functional(model, clone)
    if type(copy) is not type(model):
        warnings.warn(_other_class(copy, model), stacklevel=6)
    return copy


def _clone_functional(
    model: keras.Model, clone: Callable[[keras.Operation], keras.Operation]
) -> keras.Model:
    # A view that is not compiled: `clone_model` compiles at once, and a
    # custom loss that fails there would be all one sees.
    view = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(
        view,
        # Left to itself, it names inputs after tensors, not layers.
        input_tensors=keras.tree.map_structure(_input_like, model.input),
        clone_function=clone,
    )
    own = type(model)
    if inspect.signature(own.__init__) == inspect.signature(
        type(view).__init__
    ):
        # A subclass with a `train_step` of its own stays what it is.
        return own(copy.input, copy.output, name=model.name)
    return copy


def _other_class(copy: keras.Model, model: keras.Model) -> str:
    return (
        f"Model '{model.name}' is a {type(model).__name__}, which is made from "
        f"other arguments than a graph. Its copy is a {type(copy).__name__}: "
        "the same layers and the same `call`, without the other methods of "
        "the class (a `train_step`, a preprocessor)."
    )


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """A new input like an input tensor of a model."""
    layer, _ = history(tensor)
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=layer.name,
        optional=getattr(layer, "optional", False),
    )


def _has_inputs(model: keras.Model) -> bool:
    try:
        return bool(model.inputs)
    except (AttributeError, ValueError):
        return False


def _kind(layer: Layer) -> str:
    return "Model" if isinstance(layer, keras.Model) else "Layer"


def _copy_beside_weights(layer: Layer, copy: Layer) -> None:
    """Copies what a layer keeps beside its weights."""
    if is_normalizing(layer) and is_normalizing(copy):
        _copy_state(layer, copy)
    if isinstance(layer, keras.layers.Normalization):
        copy.finalize_state()
    if callable(getattr(layer, "save_assets", None)):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
    for inner, twin in zip(sublayers(layer), sublayers(copy), strict=False):
        if type(inner) is type(twin):
            _copy_beside_weights(inner, twin)
