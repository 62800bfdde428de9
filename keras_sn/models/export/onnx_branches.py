"""Branches of an ONNX file that are decided, since weights are constants."""

import pathlib
from collections.abc import Iterator
from typing import Any


def take_decided_branches(path: pathlib.Path) -> None:
    """Puts the branch that is taken in place of an `If` on a constant.

    A wrapper at inference asks whether its weights were replaced, and then
    searches in a loop. In a file they never are: with the branch goes the
    `Loop`, which some engines do not know.

    Args:
        path: ONNX file, rewritten if it has such a branch.
    """
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    decided = {
        tensor.name: bool(onnx.numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.BOOL and not tensor.dims
    }
    if not any(_is_decided(node, decided) for node in graph.node):
        return
    nodes = [
        part for node in graph.node for part in _flattened(graph, node, decided)
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _is_decided(node: Any, decided: dict[str, bool]) -> bool:
    return node.op_type == "If" and node.input[0] in decided


def _flattened(
    graph: Any, node: Any, decided: dict[str, bool]
) -> Iterator[Any]:
    """Yields the node, or what the branch that it takes is made of."""
    import onnx

    if not _is_decided(node, decided):
        yield node
        return
    name = "then_branch" if decided[node.input[0]] else "else_branch"
    (branch,) = [a.g for a in node.attribute if a.name == name]
    graph.initializer.extend(branch.initializer)
    # Names are unique in the whole file, so that nothing clashes.
    for part in branch.node:
        yield from _flattened(graph, part, decided)
    for inner, outer in zip(branch.output, node.output, strict=True):
        yield onnx.helper.make_node("Identity", [inner.name], [outer])
