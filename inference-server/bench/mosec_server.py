"""mosec: its front end in Rust, one worker process in Python, which gets several requests at once."""

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
        if protocol.BATCH_MAX == 1:
            return protocol.run(self.session, self.outputs, data)
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
    # Its unit is the millisecond. Without batches a worker gets one request, not a list of one.
    batches = {"max_batch_size": protocol.BATCH_MAX, "max_wait_time": protocol.WAIT_MICROS // 1000} if protocol.BATCH_MAX > 1 else {}
    server.append_worker(Onnx, num=1, route=protocol.route(arguments.name), **batches)
    server.run()
