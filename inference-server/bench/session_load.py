"""Milliseconds in which ONNX Runtime makes a session of a model and runs nothing: the floor of a cold start, without Python's own."""

import time

import protocol

arguments = protocol.arguments()
begun = time.perf_counter()
protocol.session(arguments.model)
print((time.perf_counter() - begun) * 1e3)
