"""A float32 graph in fewer bits: int8, whose activations are quantized as they come, and 4-bit weights in blocks.

By onnxruntime's own quantizers. They take a matrix that the embeddings and the MLM head share for two: here both read
one again, which of a compact model saves a third.
"""

import contextlib
import copy
import logging
from pathlib import Path
import tempfile

import numpy as np

BLOCK = 32  # weights that share a scale and a zero: of 64 their squared error is a quarter larger


def float32(model):
    """A copy of the ModelProto `model` in which what is tied is there once, however it was exported."""
    made, twins = _spelled_out(model)
    for first, second in twins.items():
        _turn(made, first, second)
    return made


def int8(model):
    """A copy of the ModelProto `model`: products in 8 bits (unsigned both: no sum saturates on AVX2), embeddings too.

    Activations have a scale of their own in each call ("dynamic"); a weight matrix has one scale.
    """
    import onnx
    from onnxruntime import quantization

    spelled, twins = _spelled_out(model)
    with tempfile.TemporaryDirectory() as directory, _quiet():
        source, out = Path(directory) / "float.onnx", Path(directory) / "int8.onnx"
        onnx.save(spelled, source)
        quantization.quantize_dynamic(source, out, weight_type=quantization.QuantType.QUInt8)
        made = onnx.load(out)
    for first, second in twins.items():
        _turn(made, f"{first}_quantized", f"{second}_quantized")
    onnx.checker.check_model(made)
    return made


def four_bits(model):
    """A copy of the ModelProto `model` whose matrices have 4 bits a weight, a scale and a zero for each BLOCK of a row.

    onnxruntime's MatMulNBits and GatherBlockQuantized compute in float32 from them.
    """
    from onnxruntime.quantization import matmul_nbits_quantizer

    spelled, twins = _spelled_out(model)
    rule = matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=False, op_types_to_quantize=("MatMul", "Gather")
    )
    with _quiet(), np.errstate(invalid="ignore"):  # a block of zeros: nought by nought is taken for nought there
        quantizer = matmul_nbits_quantizer.MatMulNBitsQuantizer(spelled, algo_config=rule)
        quantizer.process()
    made = quantizer.model.model
    for first, second in twins.items():
        _share_blocks(made, first, second)
    return made


def _spelled_out(model):
    """(a copy without transposed initializers, as the quantizers look for weights; matrix -> its transpose beside it).

    The second is what an exporter made of tied weights, as long as they are float.
    """
    import onnx

    made = copy.deepcopy(model)
    held = {each.name: onnx.numpy_helper.to_array(each) for each in made.graph.initializer}
    for node in [node for node in made.graph.node if node.op_type == "Transpose" and node.input[0] in held]:
        held[node.output[0]] = np.ascontiguousarray(held[node.input[0]].T)
        made.graph.initializer.append(onnx.numpy_helper.from_array(held[node.output[0]], node.output[0]))
        made.graph.node.remove(node)
    read = {name for node in made.graph.node for name in node.input}
    _drop(made, *(held.keys() - read))
    gathered = {node.input[0] for node in made.graph.node if node.op_type == "Gather"} & held.keys()
    multiplied = {node.input[1] for node in made.graph.node if node.op_type == "MatMul"} & held.keys()
    twins = {
        first: second for first in gathered for second in multiplied if np.array_equal(held[first], held[second].T)
    }
    return made, twins


def _turn(made, first, second):
    """The initializer `second` is computed as the transpose of `first`; onnxruntime does so once, as it loads."""
    import onnx

    _drop(made, second)
    made.graph.node.insert(0, onnx.helper.make_node("Transpose", [first], [second], perm=[1, 0]))


def _share_blocks(made, first, second):
    """The gather of `first` reads the bytes of the product with `second`, its transpose: the same blocks.

    The gather takes them as [rows, bytes], the product as [rows, blocks, bytes], which onnxruntime makes of it once,
    as it loads.
    """
    import onnx

    held = {each.name: each for each in made.graph.initializer}
    packed = onnx.numpy_helper.to_array(held[f"{second}_Q4"])
    shape = onnx.numpy_helper.from_array(np.asarray(packed.shape, np.int64), f"{second}_shape")
    flat = onnx.numpy_helper.from_array(packed.reshape(len(packed), -1), f"{first}_bytes")
    for node in made.graph.node:
        if node.op_type == "GatherBlockQuantized" and node.input[0] == f"{first}_Q4":
            node.input[0], node.input[2], node.input[3] = flat.name, f"{second}_scales", f"{second}_zero_points"
            node.attribute.append(onnx.helper.make_attribute("bits", 4))
    _drop(made, f"{first}_Q4", f"{first}_scales", f"{first}_zero_points", f"{second}_Q4")
    made.graph.initializer.extend([flat, shape])
    made.graph.node.insert(0, onnx.helper.make_node("Reshape", [flat.name, shape.name], [f"{second}_Q4"]))


def _drop(made, *names):
    for each in [each for each in made.graph.initializer if each.name in names]:
        made.graph.initializer.remove(each)


@contextlib.contextmanager
def _quiet():
    """Without the quantizers' remarks on every tensor."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
