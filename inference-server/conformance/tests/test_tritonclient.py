"""NVIDIA's tritonclient: its HTTP and gRPC clients, blocking and asyncio, tensors as JSON and as bytes, streams, compression, errors."""

import asyncio
import queue

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

import serving
from questions import ANSWER, EVERY_DATATYPE, QUESTION


@pytest.fixture
def http(server):
    with tritonclient.http.InferenceServerClient(server.http) as client:
        yield client


@pytest.fixture
def grpc(server):
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture(params=["http", "grpc"])
def client(request):
    return request.getfixturevalue(request.param)


def module_of(client):
    return tritonclient.http if isinstance(client, tritonclient.http.InferenceServerClient) else tritonclient.grpc


def question(module, values=QUESTION, **how):
    tensor = module.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, **how)
    return tensor


def id_of(result):
    response = result.get_response()
    return response["id"] if isinstance(response, dict) else response.id


def check(result, wanted_id="7"):
    np.testing.assert_array_equal(result.as_numpy("y"), ANSWER)
    assert id_of(result) == wanted_id


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("affine", "1")


def test_readiness_of_an_unknown_model(http, grpc):
    assert not http.is_model_ready("nobody")
    # Triton answers false here, KServe and MLServer NOT_FOUND; so do we, because the name may be a slip.
    with pytest.raises(InferenceServerException, match="NOT_FOUND"):
        grpc.is_model_ready("nobody")


def test_http_metadata(http):
    server = http.get_server_metadata()
    assert server["name"] and {"binary_tensor_data", "statistics"} <= set(server["extensions"])
    model = http.get_model_metadata("affine")
    assert model["name"] == "affine" and model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert [output["shape"] for output in model["outputs"]] == [[-1, 3]]


def test_grpc_metadata(grpc):
    assert {"model_stream_infer", "statistics"} & set(grpc.get_server_metadata().extensions)
    model = grpc.get_model_metadata("affine", as_json=True)
    assert model["name"] == "affine" and model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_http_tensors_as_bytes_and_as_json(http, binary_in, binary_out, named):
    outputs = [tritonclient.http.InferRequestedOutput("y", binary_data=binary_out)] if named else None
    check(http.infer("affine", [question(tritonclient.http, binary_data=binary_in)], outputs=outputs, request_id="7"))


@pytest.mark.parametrize("named", [True, False])
def test_grpc_requested_outputs(grpc, named):
    outputs = [tritonclient.grpc.InferRequestedOutput("y")] if named else None
    check(grpc.infer("affine", [question(tritonclient.grpc)], outputs=outputs, request_id="7", client_timeout=30))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_http_compression(http, coding):
    check(
        http.infer(
            "affine",
            [question(tritonclient.http)],
            request_id="7",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_grpc_compression(grpc, coding):
    check(grpc.infer("affine", [question(tritonclient.grpc)], request_id="7", compression_algorithm=coding))


def test_http_async_infer(http):
    check(http.async_infer("affine", [question(tritonclient.http)], request_id="7").get_result())


def test_grpc_async_infer(grpc):
    done = queue.Queue()
    grpc.async_infer("affine", [question(tritonclient.grpc)], request_id="7", callback=lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=30)
    assert error is None
    check(result)


def test_grpc_stream_answers_in_order(grpc):
    answers = queue.Queue()
    grpc.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(100):
        grpc.async_stream_infer("affine", [question(tritonclient.grpc)], request_id=str(number))
    for number in range(100):
        result, error = answers.get(timeout=30)
        assert error is None
        check(result, str(number))
    grpc.stop_stream()


def test_grpc_stream_goes_on_after_an_error(grpc):
    answers = queue.Queue()
    grpc.start_stream(callback=lambda result, error: answers.put((result, error)))
    for values in (QUESTION, np.zeros((1, 5), np.float32), QUESTION):
        grpc.async_stream_infer("affine", [question(tritonclient.grpc, values)], request_id="7")
    outcomes = [answers.get(timeout=30) for _ in range(3)]
    grpc.stop_stream()
    assert [error is None for _, error in outcomes] == [True, False, True]
    assert "[-1,4]" in str(outcomes[1][1]).replace(" ", "")


@pytest.mark.parametrize("form", ["http binary", "http json", "grpc"])
def test_every_datatype(form, request):
    client = request.getfixturevalue(form.split()[0])
    module = module_of(client)
    inputs, outputs = [], []
    for name, values in EVERY_DATATYPE.items():
        tensor = module.InferInput(f"in_{name}", [1, 2], name.upper())
        # The protocol has no JSON form of FP16.
        how = {"binary_data": form == "http binary" or name == "fp16"} if module is tritonclient.http else {}
        tensor.set_data_from_numpy(values, **how)
        inputs.append(tensor)
        outputs.append(module.InferRequestedOutput(f"out_{name}", **how))
    result = client.infer("echo", inputs, outputs=outputs)
    for name, values in EVERY_DATATYPE.items():
        got = result.as_numpy(f"out_{name}")
        if name == "bytes":
            got = np.array([[item.decode() if isinstance(item, bytes) else item for item in row] for row in got], dtype=object)
        np.testing.assert_array_equal(got, values, err_msg=name)
        assert got.dtype == values.dtype, name


def test_bf16(client):
    module = module_of(client)
    # numpy does not know it by itself.
    values = np.array([[1, -np.inf]], ml_dtypes.bfloat16)
    tensor = module.InferInput("in_bf16", [1, 2], "BF16")
    tensor.set_data_from_numpy(values)
    got = client.infer("bf16", [tensor]).as_numpy("out_bf16")
    np.testing.assert_array_equal(got.astype(np.float32), values.astype(np.float32))


def test_priority_and_timeout(client):
    def infer(**parameters):
        return client.infer("affine", [question(module_of(client))], request_id="7", **parameters)

    for priority in (1, 2, 3):
        check(infer(priority=priority, timeout=10_000_000))
    with pytest.raises(InferenceServerException, match="priority"):
        infer(priority=4)
    # A microsecond is over before the request has been read.
    with pytest.raises(InferenceServerException, match="deadline") as caught:
        infer(timeout=1)
    assert caught.value.status() in ("504", "StatusCode.DEADLINE_EXCEEDED")


def test_errors_name_the_input_and_both_shapes(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("affine", [question(module_of(client), np.zeros((1, 5), np.float32))])
    text = str(caught.value).replace(" ", "")
    assert "x" in text and "[-1,4]" in text and "[1,5]" in text


def test_unknown_models_are_not_found(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nobody", [question(module_of(client))])
    assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")
    assert "affine" in str(caught.value)


def test_statistics_count_what_was_served(client):
    def successes():
        if module_of(client) is tritonclient.http:
            return int(client.get_inference_statistics("affine")["model_stats"][0]["inference_stats"]["success"]["count"])
        return client.get_inference_statistics("affine").model_stats[0].inference_stats.success.count

    before = successes()
    client.infer("affine", [question(module_of(client))])
    assert successes() == before + 1


def test_statistics_of_all_models(client):
    statistics = client.get_inference_statistics()
    if module_of(client) is tritonclient.http:
        names = {model["name"] for model in statistics["model_stats"]}
    else:
        names = {model.name for model in statistics.model_stats}
    assert {"affine", "echo"} <= names


def test_http_asyncio(server):
    module = tritonclient.http.aio

    async def run():
        async with module.InferenceServerClient(server.http) as client:
            assert await client.is_server_ready()
            for binary_in in (True, False):
                for binary_out in (None, True, False):
                    outputs = None if binary_out is None else [module.InferRequestedOutput("y", binary_data=binary_out)]
                    tensor = question(module, binary_data=binary_in)
                    check(await client.infer("affine", [tensor], outputs=outputs, request_id="7"))

    asyncio.run(run())


def test_grpc_asyncio_and_its_stream(server):
    module = tritonclient.grpc.aio

    async def run():
        async with module.InferenceServerClient(server.grpc) as client:
            assert await client.is_server_ready()
            check(await client.infer("affine", [question(module)], request_id="7"))

            async def requests():
                for number in range(5):
                    yield {"model_name": "affine", "inputs": [question(module)], "request_id": str(number)}

            ids = []
            async for result, error in client.stream_infer(requests()):
                assert error is None
                np.testing.assert_array_equal(result.as_numpy("y"), ANSWER)
                ids.append(id_of(result))
            assert ids == [str(number) for number in range(5)]

    asyncio.run(run())


def test_shared_memory(client):
    pytest.skip("the server does not offer the shared memory extensions: clients are on other machines")


def test_model_repository_over_grpc():
    """The extension over gRPC, on the port where it is spoken and on no other; off unless it is enabled."""
    models = {"affine": serving.MODELS / "affine.onnx"}
    with serving.Server(models, "--repository", "true") as server:
        with tritonclient.grpc.InferenceServerClient(server.admin) as admin, tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            assert admin.is_server_ready()
            index = [{"name": "affine", "version": "1", "state": "READY"}]
            assert admin.get_model_repository_index(as_json=True)["models"] == index
            admin.unload_model("affine")
            states = [(model.state, model.reason) for model in admin.get_model_repository_index().models]
            assert states == [("UNAVAILABLE", "unloaded")]
            with pytest.raises(InferenceServerException, match="not loaded"):
                client.infer("affine", [question(tritonclient.grpc)])
            admin.load_model("affine")
            check(client.infer("affine", [question(tritonclient.grpc)], request_id="7"))
            for call, match in [
                (lambda: admin.load_model("affine", config="{}"), "config"),
                (lambda: admin.load_model("nobody"), "nobody"),
                (lambda: admin.infer("affine", [question(tritonclient.grpc)]), "admin port"),
                (lambda: client.get_model_repository_index(), "admin port"),
            ]:
                with pytest.raises(InferenceServerException, match=match):
                    call()
    with serving.Server(models) as server, tritonclient.grpc.InferenceServerClient(server.admin) as admin:
        with pytest.raises(InferenceServerException, match="off"):
            admin.get_model_repository_index()


def test_model_repository():
    """The extension over HTTP, on the port where it is spoken; off unless it is enabled."""
    models = {"affine": serving.MODELS / "affine.onnx"}
    with serving.Server(models, "--repository", "true") as server:
        with tritonclient.http.InferenceServerClient(server.admin) as admin, tritonclient.http.InferenceServerClient(server.http) as client:
            assert "model_repository" in client.get_server_metadata()["extensions"]
            assert admin.get_model_repository_index() == [{"name": "affine", "version": "1", "state": "READY", "reason": ""}]
            admin.unload_model("affine")
            assert [line["state"] for line in admin.get_model_repository_index()] == ["UNAVAILABLE"]
            with pytest.raises(InferenceServerException, match="not loaded"):
                client.infer("affine", [question(tritonclient.http)])
            admin.load_model("affine")
            check(client.infer("affine", [question(tritonclient.http)], request_id="7"))
            with pytest.raises(InferenceServerException, match="config"):
                admin.load_model("affine", config="{}")
    with serving.Server(models) as server, tritonclient.http.InferenceServerClient(server.admin) as admin:
        with pytest.raises(InferenceServerException, match="off"):
            admin.get_model_repository_index()
