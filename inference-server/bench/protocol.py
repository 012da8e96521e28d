"""What every peer does between bytes and bytes: Open Inference Protocol v2 as JSON, one session of ONNX Runtime on one thread, the same file."""

import argparse
import os

import numpy as np
import onnxruntime

DATATYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}
# A batch is at most so many items (1: none is made), and is waited for at most so long. The benchmark tries what suits each peer best.
BATCH_MAX = int(os.environ.get("BATCH_MAX", "32"))
WAIT_MICROS = int(os.environ.get("WAIT_MICROS", "1000"))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True, help="HOST:PORT")
    parser.add_argument("--name", required=True, help="of the model, in the route")
    parser.add_argument("--model", required=True, help="ONNX file")
    parser.add_argument("--outputs", required=True, help="names with commas between them; no other output is computed")
    parsed = parser.parse_args()
    parsed.host, port = parsed.address.rsplit(":", 1)
    parsed.port = int(port)
    parsed.outputs = parsed.outputs.split(",")
    return parsed


def route(name):
    return f"/v2/models/{name}/infer"


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A thread that spins takes the core from the server's other threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(body):
    """The tensors of a request by name."""
    import orjson  # not in every peer's environment: some read the body themselves

    inputs = orjson.loads(body)["inputs"]
    return {tensor["name"]: np.asarray(tensor["data"], dtype=DATATYPES[tensor["datatype"]]).reshape(tensor["shape"]) for tensor in inputs}


def write(name, outputs):
    """The answer with arrays by output name."""
    import orjson

    tensors = [{"name": key, "datatype": NAMES[array.dtype], "shape": list(array.shape), "data": array.ravel()} for key, array in outputs.items()]
    return orjson.dumps({"model_name": name, "outputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


def run(session, outputs, feeds):
    """One run for one request."""
    return dict(zip(outputs, session.run(outputs, feeds)))


def run_batch(session, outputs, requests):
    """One run for all requests, in the order in which they came; rows of unequal length are padded with zeros to the longest."""
    if len(requests) == 1:
        return [run(session, outputs, requests[0])]
    feeds = {name: np.concatenate(padded([request[name] for request in requests])) for name in requests[0]}
    rows = [len(next(iter(request.values()))) for request in requests]
    ends = np.cumsum(rows)[:-1]
    found = {name: np.split(array, ends) for name, array in run(session, outputs, feeds).items()}
    return [{name: arrays[index] for name, arrays in found.items()} for index in range(len(requests))]


def padded(arrays):
    if arrays[0].ndim != 2 or len({array.shape[1] for array in arrays}) == 1:
        return arrays
    width = max(array.shape[1] for array in arrays)
    return [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]
