"""The clients of gRPC's own services: health v1 and server reflection."""

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha import reflection_pb2_grpc

SERVICE = "inference.GRPCInferenceService"


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_check(channel, service):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_check_of_an_unknown_service(channel):
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=30)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_watch_answers_at_once(channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_lists_and_describes_the_services(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    service = DescriptorPool(database).FindServiceByName(SERVICE)
    assert {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStreamInfer", "ModelStatistics"} <= set(
        service.methods_by_name
    )
    fields = service.methods_by_name["ModelInfer"].input_type.fields_by_name
    assert {"model_name", "model_version", "id", "parameters", "inputs", "outputs", "raw_input_contents"} == set(fields)


def test_a_call_made_from_reflection_alone(channel):
    """As grpcurl does: no generated code, only what the server says of itself."""
    from google.protobuf import json_format, message_factory

    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(SERVICE).methods_by_name["ModelInfer"]
    request = message_factory.GetMessageClass(method.input_type)()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
    json_format.ParseDict({"model_name": "affine", "inputs": [tensor]}, request)
    answer_class = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(f"/{SERVICE}/ModelInfer", lambda message: message.SerializeToString(), answer_class.FromString)
    answer = call(request, timeout=30)
    assert list(answer.outputs[0].contents.fp32_contents) == [30, 31, 302]
