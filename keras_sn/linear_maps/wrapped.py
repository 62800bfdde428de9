"""The layer inside of a normalizing wrapper, and the weights it applies.

A wrapper that says `normalizes_itself` calls its `layer` with other weights
than the layer has; `normalized_weights()` gives them.
"""

from typing import Any


def is_normalizing(layer: Any) -> bool:
    """Whether a layer is such a wrapper."""
    return bool(getattr(layer, "normalizes_itself", False))


def unwrap(layer: Any, overrides: dict | None = None) -> tuple[Any, dict]:
    """The layer inside of normalizing wrappers, and the weights they replace.

    Args:
        layer: Any layer; a wrapper that is not built stays closed.
        overrides: Weights that are replaced already.

    Returns:
        `(layer, overrides)`, the overrides a dict `{weight path: tensor}`.
    """
    overrides = overrides or {}
    while is_normalizing(layer) and layer.built:
        overrides = {**overrides, **layer.normalized_weights()}
        layer = layer.layer
    return layer, overrides
