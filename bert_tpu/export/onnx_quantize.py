"""Quantizes a float32 graph: int8 with activations quantized in each call, or 4-bit weights in blocks.

onnxruntime's own quantizers do the work. They split the matrix that the embeddings and the MLM head share into two.
Here both read one matrix again, which saves a third of a compact model.
"""

from collections.abc import Iterator
import contextlib
import copy
import logging
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

BLOCK = 32  # weights that share a scale and a zero point; with 64 the squared error is a quarter larger


def float32(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Returns a copy of `model` in which tied weights are there once, however it was exported."""
    copied, twins = _without_transposes(model)
    for first, second in twins.items():
        _replace_by_transpose(copied, first, second)
    return copied


def int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Returns a copy of `model` with products and embeddings in 8 bits.

    Both factors are unsigned, so that no sum saturates on AVX2. Activations get a new scale in each call ("dynamic");
    a weight matrix has one scale.
    """
    import onnx
    from onnxruntime import quantization

    copied, twins = _without_transposes(model)
    with tempfile.TemporaryDirectory() as directory, _quiet():
        source, out = Path(directory) / "float.onnx", Path(directory) / "int8.onnx"
        onnx.save(copied, source)
        quantization.quantize_dynamic(source, out, weight_type=quantization.QuantType.QUInt8)
        quantized = onnx.load(out)
    for first, second in twins.items():
        _replace_by_transpose(quantized, f"{first}_quantized", f"{second}_quantized")
    onnx.checker.check_model(quantized)
    return quantized


def four_bits(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Returns a copy of `model` with 4 bits a weight, and a scale and a zero point for each BLOCK of a matrix row.

    onnxruntime's MatMulNBits and GatherBlockQuantized compute in float32 from them.
    """
    from onnxruntime.quantization import matmul_nbits_quantizer

    copied, twins = _without_transposes(model)
    rule = matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=False, op_types_to_quantize=("MatMul", "Gather")
    )
    with _quiet(), np.errstate(invalid="ignore"):  # the quantizer takes 0 / 0, a block of zeros, for 0
        quantizer = matmul_nbits_quantizer.MatMulNBitsQuantizer(copied, algo_config=rule)
        quantizer.process()
    quantized = quantizer.model.model
    for first, second in twins.items():
        _share_blocks(quantized, first, second)
    return quantized


def _without_transposes(model: "onnx.ModelProto") -> tuple["onnx.ModelProto", dict[str, str]]:
    """Returns (a copy of `model`, name of a gathered matrix -> name of its transpose that is multiplied).

    The quantizers take only initializers for weights, so a transposed initializer becomes an initializer itself. The
    pairs are the tied weights, which an exporter writes as two matrices.
    """
    import onnx

    copied = copy.deepcopy(model)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in copied.graph.initializer}
    for node in [node for node in copied.graph.node if node.op_type == "Transpose" and node.input[0] in arrays]:
        arrays[node.output[0]] = np.ascontiguousarray(arrays[node.input[0]].T)
        copied.graph.initializer.append(onnx.numpy_helper.from_array(arrays[node.output[0]], node.output[0]))
        copied.graph.node.remove(node)
    used = {name for node in copied.graph.node for name in node.input}
    _drop(copied, *(arrays.keys() - used))
    gathered = {node.input[0] for node in copied.graph.node if node.op_type == "Gather"} & arrays.keys()
    multiplied = {node.input[1] for node in copied.graph.node if node.op_type == "MatMul"} & arrays.keys()
    twins = {
        first: second for first in gathered for second in multiplied if np.array_equal(arrays[first], arrays[second].T)
    }
    return copied, twins


def _replace_by_transpose(model: "onnx.ModelProto", first: str, second: str) -> None:
    """Replaces the initializer `second` by the transpose of `first`. onnxruntime computes it once, when it loads."""
    import onnx

    _drop(model, second)
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", [first], [second], perm=[1, 0]))


def _share_blocks(model: "onnx.ModelProto", first: str, second: str) -> None:
    """Lets the gather of `first` read the bytes of the product with `second`, its transpose: their blocks are equal.

    The gather takes the bytes as [rows, bytes], the product as [rows, blocks, bytes]. onnxruntime reshapes them once,
    when it loads.
    """
    import onnx

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    packed = onnx.numpy_helper.to_array(tensors[f"{second}_Q4"])
    shape = onnx.numpy_helper.from_array(np.asarray(packed.shape, np.int64), f"{second}_shape")
    flat = onnx.numpy_helper.from_array(packed.reshape(len(packed), -1), f"{first}_bytes")
    for node in model.graph.node:
        if node.op_type == "GatherBlockQuantized" and node.input[0] == f"{first}_Q4":
            node.input[0], node.input[2], node.input[3] = flat.name, f"{second}_scales", f"{second}_zero_points"
            node.attribute.append(onnx.helper.make_attribute("bits", 4))
    _drop(model, f"{first}_Q4", f"{first}_scales", f"{first}_zero_points", f"{second}_Q4")
    model.graph.initializer.extend([flat, shape])
    model.graph.node.insert(0, onnx.helper.make_node("Reshape", [flat.name, shape.name], [f"{second}_Q4"]))


def _drop(model: "onnx.ModelProto", *names: str) -> None:
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in names]:
        model.graph.initializer.remove(tensor)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the quantizers' remarks on every tensor."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
