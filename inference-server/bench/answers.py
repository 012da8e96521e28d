"""What ONNX Runtime itself answers: reads requests as JSON, one a line, and writes the answers likewise, each from a run of its own."""

import sys

import protocol

arguments = protocol.arguments()
session = protocol.session(arguments.model)
for line in sys.stdin.buffer.read().splitlines():
    answer = protocol.write(arguments.name, protocol.run(session, arguments.outputs, protocol.read(line)))
    sys.stdout.buffer.write(answer + b"\n")
