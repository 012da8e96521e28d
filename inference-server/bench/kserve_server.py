"""KServe's Python server: one process, no access log. It has no batcher of its own: KServe's is an agent beside the server."""

import logging

import kserve

import protocol

arguments = protocol.arguments()
# A line for each request costs, and the others write none.
logging.disable(logging.INFO)


class Onnx(kserve.Model):
    def load(self):
        self.session = protocol.session(arguments.model)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        feeds = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        found = protocol.run(self.session, arguments.outputs, feeds)
        outputs = []
        for name, array in found.items():
            output = kserve.InferOutput(name, list(array.shape), protocol.NAMES[array.dtype])
            output.set_data_from_numpy(array, binary_data=False)
            outputs.append(output)
        return kserve.InferResponse(payload.id or "", arguments.name, outputs)


model = Onnx(arguments.name)
model.load()
kserve.ModelServer(http_port=arguments.port, enable_grpc=False, workers=1, access_log_format=None, enable_latency_logging=False).start([model])
