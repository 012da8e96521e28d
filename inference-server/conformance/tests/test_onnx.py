"""ONNX's own cases, served: what ONNX Runtime passes when Python calls it, the server must pass over HTTP (bytes and JSON) and over gRPC.

Every case is a model with inputs and the outputs that its authors expect, with tolerances. A case is skipped when ONNX Runtime itself does not pass it,
or when a tensor of it has a datatype that the protocol does not have.
"""

import collections
import pathlib
import re
import warnings

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from serving import CannotServe, Server

Type = onnx.TensorProto.DataType
DATATYPES = {
    Type.BOOL: "BOOL",
    Type.UINT8: "UINT8",
    Type.UINT16: "UINT16",
    Type.UINT32: "UINT32",
    Type.UINT64: "UINT64",
    Type.INT8: "INT8",
    Type.INT16: "INT16",
    Type.INT32: "INT32",
    Type.INT64: "INT64",
    Type.FLOAT16: "FP16",
    Type.BFLOAT16: "BF16",
    Type.FLOAT: "FP32",
    Type.DOUBLE: "FP64",
    Type.STRING: "BYTES",
}
FLOATS = (Type.FLOAT16, Type.BFLOAT16, Type.FLOAT, Type.DOUBLE)
# Cases of one server process, which takes 64 models at most.
ROUND = 64
# Cases whose outputs are random by definition (but for a ratio of zero): only shapes and datatypes are compared.
RANDOM = "node-test_training_dropout"

onnxruntime.set_default_logger_severity(4)
Case = collections.namedtuple("Case", "name model data rtol atol")


def load_cases():
    """Cases whose models are made on the fly (node) or lie in the package; those that would be downloaded (real) are left out."""
    cases = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they overflow and divide by zero on purpose
        for kind in ("node", "simple", "pytorch-converted", "pytorch-operator"):
            for case in load_model_tests(kind=kind):
                folder = case.model_dir and pathlib.Path(case.model_dir)
                model = case.model or onnx.load(folder / "model.onnx")
                data = case.data_sets or [from_files(data_set, model) for data_set in sorted(folder.glob("test_data_set_*"))]
                cases.append(Case(f"{kind}-{case.name}", model, data, case.rtol, case.atol))
    return cases


def is_tensor(value):
    return value.type.WhichOneof("value") == "tensor_type"


def asked(model):
    """The inputs that a caller gives: not those with a value of their own."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def from_files(folder, model):
    def read(direction, values):
        return [onnx.load_tensor(folder / f"{direction}_{index}.pb") if is_tensor(value) else None for index, value in enumerate(values)]

    return read("input", asked(model)), read("output", model.graph.output)


def array(value, given):
    """What a case gives for a tensor, as numpy has it: tensors of protobuf and bare numbers occur too."""
    if isinstance(given, onnx.TensorProto):
        given = numpy_helper.to_array(given)
    kind = value.type.tensor_type.elem_type
    if kind == Type.STRING:
        return np.asarray(given, dtype=object)
    return np.asarray(given).astype(ml_dtypes.bfloat16 if kind == Type.BFLOAT16 else helper.tensor_dtype_to_np_dtype(kind), copy=False)


def not_in_the_protocol(case):
    for value in list(case.model.graph.input) + list(case.model.graph.output):
        if not is_tensor(value):
            return f"the protocol has no {value.type.WhichOneof('value').removesuffix('_type')}s"
        if value.type.tensor_type.elem_type not in DATATYPES:
            return f"the protocol has no datatype {Type.Name(value.type.tensor_type.elem_type)}"
    return None


def compare(case, wanted, got):
    """As ONNX's own runner compares."""
    for value, want, have in zip(case.model.graph.output, wanted, got, strict=True):
        assert want.shape == have.shape, f"output {value.name} has the shape {have.shape}, expected {want.shape}"
        if is_random(case):
            continue
        if want.dtype == object:
            assert [text(item) for item in want.flat] == [text(item) for item in have.flat], f"output {value.name}"
        elif value.type.tensor_type.elem_type in FLOATS:
            np.testing.assert_allclose(have.astype(np.float64), want.astype(np.float64), rtol=case.rtol, atol=case.atol, err_msg=f"output {value.name}")
        else:
            np.testing.assert_array_equal(have, want, err_msg=f"output {value.name}")


def is_random(case):
    return case.name.startswith(RANDOM) and "zero_ratio" not in case.name


def text(item):
    return item.decode() if isinstance(item, bytes) else str(item)


def without_bfloat16(model):
    """The same model with casts at its edges: Python's ONNX Runtime neither takes nor gives bfloat16."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    before, after = [], []
    for value in asked(changed):
        if value.type.tensor_type.elem_type == Type.BFLOAT16:
            before.append(helper.make_node("Cast", [value.name + "_wide"], [value.name], to=Type.BFLOAT16))
            value.name += "_wide"
            value.type.tensor_type.elem_type = Type.FLOAT
    for value in graph.output:
        if value.type.tensor_type.elem_type == Type.BFLOAT16:
            after.append(helper.make_node("Cast", [value.name], [value.name + "_wide"], to=Type.FLOAT))
            value.name += "_wide"
            value.type.tensor_type.elem_type = Type.FLOAT
    nodes = before + list(graph.node) + after
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


class Direct:
    """What ONNX Runtime does when Python calls it: `failure`, or `answers` per data set and whether they are those that ONNX expects."""

    def __init__(self, case):
        self.failure, self.answers, self.is_as_expected = None, [], True
        model = without_bfloat16(case.model)
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            self.failure = f"ONNX Runtime itself does not load it{about(error)}"
            return
        for inputs, outputs in case.data:
            feed = {}
            for value, was, given in zip(asked(model), asked(case.model), inputs, strict=True):
                feed[value.name] = array(was, given) if value.name == was.name else array(was, given).astype(np.float32)
            try:
                got = session.run([value.name for value in model.graph.output], feed)
            except Exception as error:
                self.failure = f"ONNX Runtime itself does not run it{about(error)}"
                return
            got = [array(value, answer) for value, answer in zip(case.model.graph.output, got)]
            self.answers.append(got)
            try:
                compare(case, [array(value, given) for value, given in zip(case.model.graph.output, outputs, strict=True)], got)
            except AssertionError:
                self.is_as_expected = False


def about(error):
    """The kind of an error of ONNX Runtime, so that cases with one reason stand together."""
    # Without the place in the sources that it names.
    text = re.sub(r"/onnxruntime_src/\S+ ", "", " ".join(str(error).split()))
    for pattern, kind in KINDS.items():
        found = re.search(pattern, text)
        if found:
            return kind.format(*found.groups())
    return f": {text[:160]}"


KINDS = {
    r"Could not find an implementation for (\w+)\(\d+\)|Failed to find kernel for (\w+)\(\d+\)": ": it has no kernel for this version of the operator, or these datatypes",
    r"(ai\.onnx\.preview[a-z.]*):\w+\(-1\) is not a registered function/op": ": it has no operators of the domain {}",
}


CASES = load_cases()


class Rounds:
    """Servers with some dozen models each, one at a time, in the order of the cases."""

    def __init__(self, folder):
        self._folder, self._first, self._server, self._refused = folder, None, None, {}

    def server_for(self, index):
        """The server that has the model of this case; why it does not, if it refused it."""
        first = index - index % ROUND
        if first != self._first:
            self.close()
            self._first = first
            self._start([case for case in CASES[first : first + ROUND] if not not_in_the_protocol(case)])
        return self._server, self._refused.get(model_name(CASES[index]))

    def _start(self, cases):
        # What ONNX Runtime does not load, the server need not try: one model that does not load ends it.
        models = {}
        for case in cases:
            if asked(case.model) and Direct(case).failure is None:
                path = self._folder / f"{model_name(case)}.onnx"
                path.write_bytes(case.model.SerializeToString())
                models[model_name(case)] = path
        while models:
            server = Server(models, "--workers", "1", limits={"bodyBytesMax": 64 << 20})
            try:
                self._server = server.__enter__()
                return
            except CannotServe as refusal:
                if refusal.model is None or models.pop(refusal.model, None) is None:
                    raise
                self._refused[refusal.model] = str(refusal)

    def close(self):
        if self._server is not None:
            assert self._server.is_alive(), "the server ended while it was tested"
            self._server.__exit__()
            assert self._server.status == 0, f"the server ended with {self._server.status}"
            self._server = None


def model_name(case):
    return case.name.replace("_", "-")


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    rounds = Rounds(tmp_path_factory.mktemp("models"))
    yield rounds
    rounds.close()


def can_be_json(case, inputs, outputs):
    """JSON has no NaN and no infinity, and the protocol no JSON form of FP16 and BF16."""
    values = asked(case.model) + list(case.model.graph.output)
    if any(value.type.tensor_type.elem_type in (Type.FLOAT16, Type.BFLOAT16) for value in values):
        return False
    return all(given.dtype.kind != "f" or np.isfinite(given).all() for given in inputs + outputs)


def over_http(server, case, inputs, binary):
    module = tritonclient.http
    tensors = []
    for value, given in zip(asked(case.model), inputs, strict=True):
        tensor = module.InferInput(value.name, list(given.shape), DATATYPES[value.type.tensor_type.elem_type])
        tensor.set_data_from_numpy(given, binary_data=binary)
        tensors.append(tensor)
    outputs = [module.InferRequestedOutput(value.name, binary_data=binary) for value in case.model.graph.output]
    with module.InferenceServerClient(server.http) as client:
        return client.infer(model_name(case), tensors, outputs=outputs)


def over_grpc(server, case, inputs):
    module = tritonclient.grpc
    tensors = []
    for value, given in zip(asked(case.model), inputs, strict=True):
        tensor = module.InferInput(value.name, list(given.shape), DATATYPES[value.type.tensor_type.elem_type])
        tensor.set_data_from_numpy(given)
        tensors.append(tensor)
    outputs = [module.InferRequestedOutput(value.name) for value in case.model.graph.output]
    with module.InferenceServerClient(server.grpc) as client:
        return client.infer(model_name(case), tensors, outputs=outputs)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_case(index, rounds, record_property):
    case = CASES[index]
    reason = not_in_the_protocol(case)
    if reason:
        pytest.skip(reason)
    if not asked(case.model):
        pytest.skip("it has no inputs: there is nothing to ask, and the server refuses such a model")
    direct = Direct(case)
    if direct.failure:
        pytest.skip(direct.failure)
    if is_random(case):
        record_property("note", "random by definition: shapes and datatypes are compared")
    server, refusal = rounds.server_for(index)
    assert refusal is None, f"ONNX Runtime loads it, the server refuses it: {refusal}"
    if not direct.is_as_expected:
        record_property("note", "ONNX Runtime answers something else than ONNX expects; compared with what it answers when called directly")
    for (inputs, outputs), answers in zip(case.data, direct.answers, strict=True):
        inputs = [array(value, given) for value, given in zip(asked(case.model), inputs, strict=True)]
        wanted = answers
        if direct.is_as_expected:
            wanted = [array(value, given) for value, given in zip(case.model.graph.output, outputs, strict=True)]
        forms = {"HTTP, bytes": lambda: over_http(server, case, inputs, True), "gRPC": lambda: over_grpc(server, case, inputs)}
        if can_be_json(case, inputs, wanted):
            forms["HTTP, JSON"] = lambda: over_http(server, case, inputs, False)
        for form, call in forms.items():
            try:
                result = call()
                got = [array(value, result.as_numpy(value.name)) for value in case.model.graph.output]
                compare(case, wanted, got)
            except Exception as error:
                raise AssertionError(f"{form}: {error}") from error
