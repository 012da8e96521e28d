"""What is asked of the models of tests/models, and what they answer."""

import numpy as np

# affine.onnx: what it answers to one question.
QUESTION = np.array([[1, 2, 3, 4]], dtype=np.float32)
ANSWER = np.array([[30, 31, 302]], dtype=np.float32)

# echo.onnx: one input and one output of every datatype, [N, 2]. FP16 and BF16 have no form in JSON.
EVERY_DATATYPE = {
    "bool": np.array([[True, False]]),
    "uint8": np.array([[0, 255]], np.uint8),
    "uint16": np.array([[0, 65535]], np.uint16),
    "uint32": np.array([[0, 2**32 - 1]], np.uint32),
    "uint64": np.array([[0, 2**64 - 1]], np.uint64),
    "int8": np.array([[-128, 127]], np.int8),
    "int16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "int32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "fp16": np.array([[1, np.inf]], np.float16),
    "fp32": np.array([[1, 0.1]], np.float32),
    "fp64": np.array([[1, 0.1]], np.float64),
    "bytes": np.array([["é", ""]], dtype=object),
}
