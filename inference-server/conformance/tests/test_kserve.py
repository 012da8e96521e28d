"""The inference clients of KServe's own SDK: REST with the protocols v1 and v2, and gRPC."""

import asyncio

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from questions import ANSWER, EVERY_DATATYPE, QUESTION


def rest(server, protocol, call):
    """Runs `call(client, base)` and closes the client."""

    async def run():
        client = InferenceRESTClient(RESTConfig(protocol=protocol))
        try:
            return await call(client, f"http://{server.http}")
        finally:
            await client.close()

    return asyncio.run(run())


def over_grpc(server, call):
    async def run():
        async with InferenceGRPCClient(server.grpc) as client:
            return await call(client)

    return asyncio.run(run())


def question(binary, outputs=None):
    tensor = InferInput("x", list(QUESTION.shape), "FP32")
    tensor.set_data_from_numpy(QUESTION, binary_data=binary)
    return InferRequest("affine", [tensor], request_id="7", request_outputs=outputs)


def check(answer):
    assert answer.id == "7" and answer.model_name == "affine"
    np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ANSWER)


def test_v1_predict(server):
    answer = rest(server, "v1", lambda client, base: client.infer(base, {"instances": QUESTION.tolist()}, model_name="affine"))
    assert answer["predictions"] == ANSWER.tolist()


def test_v1_model_ready(server):
    assert rest(server, "v1", lambda client, base: client.is_model_ready(base, "affine")) is True


def test_v1_unknown_model(server):
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        rest(server, "v1", lambda client, base: client.is_model_ready(base, "nobody"))


def test_v1_server_live(server):
    pytest.skip("the SDK asks GET /, KServe's page for people; probes of the server are /v2/health/live and, on the admin port, /live")


def test_v1_explain(server):
    pytest.skip("the server has no explainers")


def test_v2_health(server):
    assert rest(server, "v2", lambda client, base: client.is_server_live(base)) is True
    assert rest(server, "v2", lambda client, base: client.is_server_ready(base)) is True
    assert rest(server, "v2", lambda client, base: client.is_model_ready(base, "affine")) is True
    assert rest(server, "v2", lambda client, base: client.is_model_ready(base, "nobody")) is False


@pytest.mark.parametrize("binary_out", [None, True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_v2_infer(server, binary_in, binary_out):
    outputs = None if binary_out is None else [RequestedOutput("y", parameters={"binary_data": binary_out})]
    check(rest(server, "v2", lambda client, base: client.infer(base, question(binary_in, outputs), model_name="affine")))


def test_v2_error(server):
    tensor = InferInput("x", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 5), np.float32), binary_data=True)
    with pytest.raises(httpx.HTTPStatusError, match=r"400") as caught:
        rest(server, "v2", lambda client, base: client.infer(base, InferRequest("affine", [tensor]), model_name="affine"))
    assert "x" in str(caught.value)


def test_grpc_health(server):
    assert over_grpc(server, lambda client: client.is_server_live()) is True
    assert over_grpc(server, lambda client: client.is_server_ready()) is True
    assert over_grpc(server, lambda client: client.is_model_ready("affine")) is True


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_infer(server, raw):
    check(over_grpc(server, lambda client: client.infer(question(raw))))


def test_grpc_unknown_model(server):
    request = question(True)
    request.model_name = "nobody"
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(server, lambda client: client.infer(request))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("form", ["http binary", "grpc"])
def test_every_datatype(server, form):
    inputs = []
    for name, values in EVERY_DATATYPE.items():
        tensor = InferInput(f"in_{name}", [1, 2], name.upper())
        tensor.set_data_from_numpy(values, binary_data=True)
        inputs.append(tensor)
    request = InferRequest("echo", inputs, request_outputs=[RequestedOutput(f"out_{name}", parameters={"binary_data": True}) for name in EVERY_DATATYPE])
    if form == "grpc":
        answer = over_grpc(server, lambda client: client.infer(request))
    else:
        answer = rest(server, "v2", lambda client, base: client.infer(base, request, model_name="echo"))
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    for name, values in EVERY_DATATYPE.items():
        got = outputs[f"out_{name}"]
        if name == "bytes":
            got = np.array([[item.decode() if isinstance(item, bytes) else item for item in row] for row in got], dtype=object)
        np.testing.assert_array_equal(got, values, err_msg=name)
