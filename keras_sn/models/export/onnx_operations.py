"""Operations that tf2onnx does not know and Keras's layers need."""

from typing import Any

import numpy as np


def register_operations() -> None:
    """Teaches tf2onnx the operations, unless it has learnt them by itself."""
    from tf2onnx.handler import tf_op

    domains = tf_op.get_opsets().values()
    if not any("Erfc" in opset for opsets in domains for opset in opsets):
        tf_op("Erfc")(_Erfc)


class _Erfc:
    """`1 - erf(x)`, which the exact GELU is made of in TensorFlow."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
        """From opset 9 on, where ONNX has Erf."""
        from tf2onnx import utils

        del kwargs
        kind = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
        inputs, outputs = list(node.input), list(node.output)
        one = np.ones((), utils.map_onnx_to_numpy_type(kind["dtypes"][0]))
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", inputs, **kind)
        left = ctx.make_const(utils.make_name(f"{node.name}_one"), one)
        ctx.make_node(
            "Sub",
            [left.output[0], erf.output[0]],
            name=node.name,
            outputs=outputs,
            **kind,
        )
