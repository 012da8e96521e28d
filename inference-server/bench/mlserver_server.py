"""MLServer with a runtime of our own, because it has none for ONNX: one process, uvloop, its adaptive batching."""

import asyncio
import logging

import numpy as np
import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse

import protocol

arguments = protocol.arguments()


class Onnx(MLModel):
    async def load(self):
        self.session = protocol.session(arguments.model)
        return True

    async def predict(self, payload):
        feeds = {tensor.name: np.asarray(tensor.data, dtype=protocol.DATATYPES[tensor.datatype]).reshape(tensor.shape) for tensor in payload.inputs}
        found = protocol.run(self.session, arguments.outputs, feeds)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in found.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def serve(settings, model):
    server = MLServer(settings)
    await server.start([model])


if __name__ == "__main__":
    logging.disable(logging.INFO)
    settings = Settings(
        host=arguments.host,
        http_port=arguments.port,
        # Whichever is free: the next one may be a client's.
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
        use_structured_logging=False,
    )
    model = ModelSettings(
        name=arguments.name,
        implementation=Onnx,
        # 0 of each is its default, without batches.
        max_batch_size=protocol.BATCH_MAX if protocol.BATCH_MAX > 1 else 0,
        max_batch_time=protocol.WAIT_MICROS / 1e6,
        parameters=ModelParameters(uri=arguments.model),
    )
    uvloop.install()
    asyncio.run(serve(settings, model))
