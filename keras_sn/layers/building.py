"""Building the layer inside of a wrapper."""

import keras

from keras_sn.keras_access import sublayers


def build_inside(layer: keras.layers.Layer, args: tuple, kwargs: dict) -> None:
    """Builds a layer with all its sublayers.

    Args:
        layer: The layer; nothing is done if it is built.
        args: Positional arguments for its `build`.
        kwargs: Keyword arguments for its `build`.
    """
    if type(layer).build is keras.layers.Layer.build and any(
        not part.built for part in sublayers(layer)
    ):
        # No `build` of its own: calling it creates its sublayers' weights.
        shapes = [*args, *kwargs.values()]
        layer.compute_output_spec(*map(_symbolic, shapes))
    if not layer.built:
        layer.build(*args, **kwargs)
        layer.built = True


def builds_by_shape(layer: keras.layers.Layer) -> bool:
    """Whether a layer is built anew by the shapes that it was built for."""
    return not isinstance(layer, keras.Model) and (
        type(layer).build_from_config is keras.layers.Layer.build_from_config
    )


def _symbolic(shapes):
    return keras.tree.map_shape_structure(keras.KerasTensor, shapes)
