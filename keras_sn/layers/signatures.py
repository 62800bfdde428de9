"""Signatures: a wrapper that takes the call arguments of the layer inside."""

import inspect
import types

import keras


def take_signatures(wrapper: keras.layers.Layer, layer: object) -> None:
    """Gives `call` and `build` of a wrapper the signatures of the layer inside.

    Keras reads from them which inputs and masks to pass and which shapes to
    build with.
    """
    if not isinstance(layer, keras.layers.Layer):
        return  # Wrapper.__init__ raises

    def call(self, *args, **kwargs):
        return type(self).call(self, *args, **kwargs)

    signature = with_training(inspect.signature(layer.call))
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()]
    )
    # A method, so that a copy of the wrapper calls itself.
    wrapper.call = types.MethodType(call, wrapper)
    wrapper.build.__signature__ = inspect.signature(layer.build)


def with_training(signature: inspect.Signature) -> inspect.Signature:
    """The signature with a `training` argument, for the wrapper's own use."""
    parameters = list(signature.parameters.values())
    if "training" in signature.parameters:
        return signature
    training = inspect.Parameter(
        "training", inspect.Parameter.KEYWORD_ONLY, default=None
    )
    has_var_keyword = (
        bool(parameters)
        and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    )
    parameters.insert(len(parameters) - has_var_keyword, training)
    return signature.replace(parameters=parameters)


def takes_training(layer: keras.layers.Layer) -> bool:
    """Whether a layer's `call` has an argument `training`."""
    return "training" in inspect.signature(layer.call).parameters


def is_cell(layer: object) -> bool:
    """Whether a layer is an RNN cell, to be run in a loop."""
    return (
        isinstance(layer, keras.layers.Layer)
        and hasattr(layer, "state_size")
        and "states" in inspect.signature(layer.call).parameters
    )
