"""mosec: its front end in Rust, one worker process in Python, which gets up to 32 requests at once after at most a millisecond."""

import os
import sys

from mosec import Server, Worker

import protocol


class Onnx(Worker):
    def __init__(self):
        super().__init__()
        self.name, self.outputs = os.environ["NAME"], os.environ["OUTPUTS"].split(",")
        self.session = protocol.session(os.environ["MODEL"])

    def deserialize(self, data):
        return protocol.read(data)

    def forward(self, data):
        return protocol.run_batch(self.session, self.outputs, data)

    def serialize(self, data):
        return protocol.write(self.name, data)


if __name__ == "__main__":
    arguments = protocol.arguments()
    # The worker is another process, which inherits the environment.
    os.environ.update(NAME=arguments.name, MODEL=arguments.model, OUTPUTS=",".join(arguments.outputs))
    # mosec reads the command line itself, in words of its own. Its default of 1024 waiting requests is kept.
    sys.argv[1:] = ["--address", arguments.host, "--port", str(arguments.port), "--log-level", "error"]
    server = Server()
    server.append_worker(
        Onnx, num=1, max_batch_size=protocol.BATCH_MAX, max_wait_time=protocol.WAIT_MILLIS, route=protocol.route(arguments.name)
    )
    server.run()
