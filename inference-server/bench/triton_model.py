"""The model that Triton's python backend loads: all requests that its dynamic batcher hands over are one run."""

import json
import sys

# The backend's own interpreter knows neither -B nor its variable.
sys.dont_write_bytecode = True
# By the launcher: the packages of the environment, and this folder.
sys.path[:0] = json.loads(open(__file__.rsplit("/", 2)[0] + "/paths.json").read())

import protocol  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402


class TritonPythonModel:
    def initialize(self, arguments):
        config = json.loads(arguments["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.session = protocol.session(config["parameters"]["file"]["string_value"])

    def execute(self, requests):
        feeds = [{name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs} for request in requests]
        found = protocol.run_batch(self.session, self.outputs, feeds)
        return [triton.InferenceResponse([triton.Tensor(name, array) for name, array in outputs.items()]) for outputs in found]
