"""mosec: its front end in Rust, one worker process in Python, which gets up to 32 requests at once after at most a millisecond."""

import os
import sys

import numpy as np
from mosec import Server, Worker

import classifier


class Digits(Worker):
    def __init__(self):
        super().__init__()
        self.session = classifier.session(os.environ["MODEL"])

    def deserialize(self, data):
        return classifier.read(data)

    def forward(self, data):
        labels, probabilities = self.session.run(["label", "probabilities"], {"pixels": np.concatenate(data)})
        ends = np.cumsum([len(images) for images in data])[:-1]
        return list(zip(np.split(labels, ends), np.split(probabilities, ends)))

    def serialize(self, data):
        return classifier.write(*data)


if __name__ == "__main__":
    # The worker is another process, which inherits the environment.
    host, port, os.environ["MODEL"] = classifier.arguments()
    # mosec reads the command line itself, in words of its own. Its default of 1024 waiting requests is kept.
    sys.argv[1:] = ["--address", host, "--port", str(port), "--log-level", "error"]
    server = Server()
    server.append_worker(Digits, num=1, max_batch_size=32, max_wait_time=1, route=classifier.ROUTE)
    server.run()
