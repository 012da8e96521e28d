"""Lets Schemathesis write and read the msgpack documents that the OpenAPI document promises beside JSON."""

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack")
def write(_context, value):
    # JSON's integers have no bounds, those of msgpack have 64 bits.
    return msgpack.packb(value, default=lambda number: float(number) if abs(number) < 1e300 else float("inf"))


@schemathesis.deserializer("application/msgpack")
def read(_context, response):
    return msgpack.unpackb(response.content)
