"""One server for all tests of a run; it must have survived them, and end with 0."""

import pytest

import serving


@pytest.fixture(scope="session")
def server():
    models = {name: serving.MODELS / f"{name}.onnx" for name in ("affine", "bf16", "echo", "fixed")}
    with serving.Server(models) as running:
        yield running
        assert running.is_alive(), "the server ended while it was tested"
    assert running.status == 0, f"the server ended with {running.status}"
