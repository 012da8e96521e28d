#!/usr/bin/env python3
"""Writes the small ONNX models that the tests serve. The files are committed; run this only to change them.

    python3 -m pip install onnx==1.23.2
    python3 inference-server/tests/models/generate.py

affine.onnx    x FP32 [N,4] -> y FP32 [N,3]: y[j] = x[0] + 2 x[1] + 3 x[2] + 4 x[3] + j, and 10 times the sum for j = 2
echo.onnx      thirteen inputs in_<datatype> [N,2] -> out_<datatype>, the same values
bf16.onnx      in_bf16 BF16 [N,2] -> out_bf16, the same values: by itself, because not every client knows this datatype
fixed.onnx     x FP32 [2,3] -> y FP32 [2]: sums of the rows; the first dimension is fixed, so requests are never put together
tokens.onnx    ids INT64 [N,L], mask INT64 [N,L] -> total INT64 [N]: sum of ids where mask is 1; L differs from request to request
picky.onnx     i INT64 [N,1] -> y FP32 [N,1]: table look-up of 4 entries; another index makes the run fail
external.onnx  x FP32 [N,2] -> y FP32 [N,2]: y = x w, where w lies in weights.bin (16 bytes, not committed: the tests write it, or something else)
exported.onnx  x FP32 [N,4] -> y FP32 [N,3] like affine, with the name that PyTorch's exporter gives to an output's first dimension
first.onnx    x FP32 [N,4] -> y FP32 [1,4], the first row, with such a name too: it promises what it does not keep
layers.onnx    x FP32 [N,64] -> y FP32 [N,16]: dense layers and a convolution with random weights, large enough to be shared between sessions
slow.onnx      x FP32 [N,1] -> y FP32 [N,1]: y = 2 x after a fixed amount of work per item (about 60 ms on one 3 GHz core with AVX2)

Models that must be refused:

unknown.onnx   needs an operator of the default domain that does not exist
endless.onnx   x FP32 [N] -> y FP32 [N]: a Loop of 2^62 turns, so that the first run does not end
huge.onnx      x FP32 [N] -> y FP32 [N]: adds the maximum of a constant of 2^38 bytes, which every run would make
"""

import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = os.path.dirname(os.path.abspath(__file__))
OPSET = 17


def save(name, nodes, inputs, outputs, initializers=(), check=True, change=lambda model: None):
    graph = h.make_graph(nodes, name, inputs, outputs, [nh.from_array(v, k) for k, v in initializers])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", OPSET)], producer_name="tidewright-tests")
    model.ir_version = 8
    change(model)
    if check:
        onnx.checker.check_model(model, full_check=True)
    path = os.path.join(HERE, name + ".onnx")
    onnx.save(model, path)
    print(f"{path}: {os.path.getsize(path)} bytes")


def value(name, datatype, shape):
    return h.make_tensor_value_info(name, datatype, shape)


def affine():
    weights = np.array([[1, 1, 10], [2, 2, 20], [3, 3, 30], [4, 4, 40]], dtype=np.float32)
    bias = np.array([0, 1, 2], dtype=np.float32)
    save(
        "affine",
        [h.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [value("x", T.FLOAT, ["N", 4])],
        [value("y", T.FLOAT, ["N", 3])],
        [("w", weights), ("b", bias)],
    )


def echo():
    datatypes = {
        "bool": T.BOOL, "uint8": T.UINT8, "uint16": T.UINT16, "uint32": T.UINT32, "uint64": T.UINT64,
        "int8": T.INT8, "int16": T.INT16, "int32": T.INT32, "int64": T.INT64,
        "fp16": T.FLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE, "bytes": T.STRING,
    }
    save(
        "echo",
        [h.make_node("Identity", [f"in_{k}"], [f"out_{k}"]) for k in datatypes],
        [value(f"in_{k}", v, ["N", 2]) for k, v in datatypes.items()],
        [value(f"out_{k}", v, ["N", 2]) for k, v in datatypes.items()],
    )


def bf16():
    save(
        "bf16",
        [h.make_node("Identity", ["in_bf16"], ["out_bf16"])],
        [value("in_bf16", T.BFLOAT16, ["N", 2])],
        [value("out_bf16", T.BFLOAT16, ["N", 2])],
    )


def fixed():
    save(
        "fixed",
        [h.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [value("x", T.FLOAT, [2, 3])],
        [value("y", T.FLOAT, [2])],
        [("axes", np.array([1], dtype=np.int64))],
    )


def tokens():
    save(
        "tokens",
        [h.make_node("Mul", ["ids", "mask"], ["kept"]), h.make_node("ReduceSum", ["kept", "axes"], ["total"], keepdims=0)],
        [value("ids", T.INT64, ["N", "L"]), value("mask", T.INT64, ["N", "L"])],
        [value("total", T.INT64, ["N"])],
        [("axes", np.array([1], dtype=np.int64))],
    )


def picky():
    save(
        "picky",
        [h.make_node("Gather", ["table", "i"], ["y"])],
        [value("i", T.INT64, ["N", 1])],
        [value("y", T.FLOAT, ["N", 1])],
        [("table", np.array([0.5, 1.5, 2.5, 3.5], dtype=np.float32))],
    )


def slow():
    """A Loop of N * 180 products of 256 x 256 matrices: the time is proportional to the items, however they are grouped."""
    body = h.make_graph(
        [h.make_node("MatMul", ["state_in", "w"], ["state_out"]), h.make_node("Identity", ["cond_in"], ["cond_out"])],
        "turn",
        [value("turn", T.INT64, []), value("cond_in", T.BOOL, []), value("state_in", T.FLOAT, [256, 256])],
        [value("cond_out", T.BOOL, []), value("state_out", T.FLOAT, [256, 256])],
    )
    save(
        "slow",
        [
            # Every entry 1/256: the product of any matrix with it holds the means of its rows, so that the state stays bounded.
            h.make_node("ConstantOfShape", ["size"], ["w"], value=h.make_tensor("v", T.FLOAT, [1], [1.0 / 256.0])),
            h.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
            h.make_node("Expand", ["mean", "size"], ["start"]),
            h.make_node("Shape", ["x"], ["rows"], start=0, end=1),
            h.make_node("Mul", ["rows", "turns_per_item"], ["turns_1d"]),
            h.make_node("Squeeze", ["turns_1d"], ["turns"]),
            h.make_node("Loop", ["turns", "", "start"], ["state"], body=body),
            h.make_node("ReduceMean", ["state"], ["final"], keepdims=0),
            h.make_node("Mul", ["final", "zero"], ["nothing"]),
            h.make_node("Mul", ["x", "two"], ["doubled"]),
            h.make_node("Add", ["doubled", "nothing"], ["y"]),
        ],
        [value("x", T.FLOAT, ["N", 1])],
        [value("y", T.FLOAT, ["N", 1])],
        [
            ("size", np.array([256, 256], dtype=np.int64)),
            ("turns_per_item", np.array([180], dtype=np.int64)),
            ("zero", np.array(0, dtype=np.float32)),
            ("two", np.array(2, dtype=np.float32)),
        ],
    )


def exported():
    save(
        "exported",
        [h.make_node("Gemm", ["x", "w"], ["y"])],
        [value("x", T.FLOAT, ["N", 4])],
        [value("y", T.FLOAT, ["Gemmy_dim_0", 3])],
        [("w", np.array([[1, 1, 10], [2, 2, 20], [3, 3, 30], [4, 4, 40]], dtype=np.float32))],
    )


def first():
    save(
        "first",
        [h.make_node("Slice", ["x", "start", "end"], ["y"])],
        [value("x", T.FLOAT, ["N", 4])],
        [value("y", T.FLOAT, ["Slicey_dim_0", 4])],
        [("start", np.array([0], dtype=np.int64)), ("end", np.array([1], dtype=np.int64))],
    )


def layers():
    random = np.random.default_rng(7)
    weights = lambda *shape: random.standard_normal(shape, dtype=np.float32) * np.float32(0.2)
    save(
        "layers",
        [
            h.make_node("MatMul", ["x", "w1"], ["a"]),
            h.make_node("Add", ["a", "b1"], ["b"]),
            h.make_node("Relu", ["b"], ["c"]),
            h.make_node("Gemm", ["c", "w2", "b2"], ["d"]),
            h.make_node("Reshape", ["d", "square"], ["e"]),
            h.make_node("Conv", ["e", "w3"], ["f"], pads=[1, 1, 1, 1]),
            h.make_node("Relu", ["f"], ["g"]),
            h.make_node("GlobalAveragePool", ["g"], ["i"]),
            h.make_node("Flatten", ["i"], ["y"]),
        ],
        [value("x", T.FLOAT, ["N", 64])],
        [value("y", T.FLOAT, ["N", 16])],
        [
            ("w1", weights(64, 64)), ("b1", weights(64)), ("w2", weights(64, 32)), ("b2", weights(32)),
            ("square", np.array([-1, 2, 4, 4], dtype=np.int64)), ("w3", weights(16, 2, 3, 3)),
        ],
    )


def external():
    def outside(model):
        (tensor,) = model.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = T.EXTERNAL
        for key, text in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text

    save(
        "external",
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", T.FLOAT, ["N", 2])],
        [value("y", T.FLOAT, ["N", 2])],
        [("w", np.zeros((2, 2), dtype=np.float32))],
        check=False,
        change=outside,
    )


def unknown():
    save(
        "unknown",
        [h.make_node("Nonsense", ["x"], ["y"])],
        [value("x", T.FLOAT, ["N"])],
        [value("y", T.FLOAT, ["N"])],
        check=False,
    )


def endless():
    body = h.make_graph(
        [h.make_node("Cos", ["state_in"], ["state_out"]), h.make_node("Identity", ["cond_in"], ["cond_out"])],
        "turn",
        [value("turn", T.INT64, []), value("cond_in", T.BOOL, []), value("state_in", T.FLOAT, ["N"])],
        [value("cond_out", T.BOOL, []), value("state_out", T.FLOAT, ["N"])],
    )
    save(
        "endless",
        [h.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        [value("x", T.FLOAT, ["N"])],
        [value("y", T.FLOAT, ["N"])],
        [("turns", np.array(2**62, dtype=np.int64))],
    )


def huge():
    save(
        "huge",
        [
            h.make_node("ConstantOfShape", ["size"], ["constant"], value=h.make_tensor("v", T.FLOAT, [1], [1.0])),
            h.make_node("ReduceMax", ["constant"], ["maximum"], keepdims=0),
            h.make_node("Add", ["x", "maximum"], ["y"]),
        ],
        [value("x", T.FLOAT, ["N"])],
        [value("y", T.FLOAT, ["N"])],
        [("size", np.array([2**36], dtype=np.int64))],
    )


for make in (affine, echo, bf16, fixed, tokens, picky, exported, first, layers, external, slow, unknown, endless, huge):
    make()
