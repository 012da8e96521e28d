"""What every peer does between bytes and bytes: Open Inference Protocol v2 as JSON, one session of ONNX Runtime on one thread, the same model file."""

import argparse

import numpy as np
import onnxruntime
import orjson

ROUTE = "/v2/models/digits/infer"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="HOST:PORT")
    parser.add_argument("--model", required=True)
    parsed = parser.parse_args()
    host, port = parsed.address.rsplit(":", 1)
    return host, int(port), parsed.model


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A thread that spins takes the core from the server's other threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(body):
    """The images of a request, [N, 64]."""
    tensor = orjson.loads(body)["inputs"][0]
    return np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


def write(labels, probabilities):
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": list(labels.shape), "data": labels},
        {"name": "probabilities", "datatype": "FP32", "shape": list(probabilities.shape), "data": probabilities.ravel()},
    ]
    return orjson.dumps({"model_name": "digits", "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
