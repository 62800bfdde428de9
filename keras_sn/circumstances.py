"""The circumstances of a call: traced, mapped, sharded, autocast.

With `fast_ops.py`, the only file that asks for the backend while a layer runs.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_sn.fast_ops import Array


def batch_may_be_sharded() -> bool:
    """Whether one call may see a batch that is spread over devices.

    On JAX, wherever there are several. Elsewhere a replica calls the model on
    a batch of its own.
    """
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.device_count() > 1


def same_for_all(tensor: Array) -> Array:
    """What all samples of a `vmap` agree on, once instead of for each.

    Args:
        tensor: A constant that does not depend on the sample.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _first_of_jax_batch()(tensor)
    if backend == "torch":
        import torch

        if not torch.compiler.is_compiling() and not _has_storage(tensor):
            return _first_of_torch_batch().apply(tensor)
    return tensor


def _has_storage(tensor: Array) -> bool:
    """Whether a PyTorch tensor is itself, not a view of one that is mapped."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


@functools.cache
def _first_of_jax_batch() -> Callable[[Array], Array]:
    from jax.custom_batching import custom_vmap

    @custom_vmap
    def first(tensor):
        return tensor

    @first.def_vmap
    def rule(axis_size, batched, tensor):
        del axis_size
        return (tensor[0] if batched[0] else tensor), False

    return first


@functools.cache
def _first_of_torch_batch() -> Any:
    import torch

    class First(torch.autograd.Function):
        """Identity of a constant; of a batch, its first."""

        @staticmethod
        def forward(tensor):
            return tensor.view_as(tensor)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, tensor):
            if in_dims[0] is not None:
                tensor = tensor.select(in_dims[0], 0)
            return First.apply(tensor), None

    return First


def in_one_call(function: Callable) -> Callable:
    """A function of tensors, compiled where each operation is a call.

    An eager operation costs JAX and TensorFlow as much as a small product.
    While somebody else traces, and on PyTorch, the function runs as it is.

    Args:
        function: Of nested tuples and lists of tensors; without side effects.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(function)

        def is_eager(args: tuple) -> bool:
            leaves = jax.tree_util.tree_leaves(args)
            return not any(isinstance(x, jax.core.Tracer) for x in leaves)

    elif backend == "tensorflow":
        import tensorflow

        # TensorFlow counts tracings by the code of a function, and warns of
        # five: those of as many layers. Of a partial one it has no code.
        compiled = tensorflow.function(
            functools.partial(function), autograph=False
        )

        def is_eager(args: tuple) -> bool:
            return tensorflow.executing_eagerly()

    else:
        return function

    def call(*args: Any) -> Any:
        return compiled(*args) if is_eager(args) else function(*args)

    return call


def known(condition: Array) -> bool | None:
    """The value of a boolean scalar; `None` while it is being traced."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling():
            return None
    try:
        return bool(condition)
    except (TypeError, RuntimeError, NotImplementedError):
        # JAX and TensorFlow raise the first of a traced value, PyTorch the
        # others of one that is mapped or has no data.
        return None


def traces_branches() -> bool:
    """Whether a graph can hold a branch that depends on data.

    Those of PyTorch cannot: `torch.export` and `fullgraph=True` refuse it.
    """
    return keras.backend.backend() != "torch"


def full_precision(tensor: Array) -> contextlib.AbstractContextManager:
    """Context in which products have the precision of their factors.

    `torch.autocast` would round the factors, whatever their dtype.
    """
    if keras.backend.backend() == "torch":
        import torch

        if torch.is_autocast_enabled(tensor.device.type):
            return torch.autocast(tensor.device.type, enabled=False)
    return contextlib.nullcontext()
