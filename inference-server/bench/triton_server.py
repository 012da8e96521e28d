"""Triton as PyPI has it (nvidia-pytriton): its own front end and dynamic batcher, the python backend, one instance on the processor."""

import ctypes.util
import json
import os
import pathlib
import shutil
import sys
import sysconfig
import tempfile

import protocol

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}

CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {batch}
{batching}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
parameters {{ key: "file" value: {{ string_value: "{model}" }} }}
{inputs}
{outputs}
"""


def tensors(kind, nodes, more=""):
    def dimensions(node):
        sizes = [str(size) if isinstance(size, int) else "-1" for size in node.shape[1:]]
        # Triton has no tensor that is a number per item; such a one is a row of one.
        return f"dims: [ {', '.join(sizes)} ]" if sizes else "dims: [ 1 ] reshape: { shape: [ ] }"

    return "\n".join(f'{kind} [ {{ name: "{node.name}" data_type: {TYPES[node.type]} {dimensions(node)} {more} }} ]' for node in nodes)


def main():
    arguments = protocol.arguments()
    if ctypes.util.find_library(f"python{sys.version_info.major}.{sys.version_info.minor}") is None:
        sys.exit("the stub of the python backend needs the system's libpython (Debian: libpython3.11)")
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    triton = packages / "pytriton/tritonserver"
    work = pathlib.Path(tempfile.mkdtemp(prefix="tidewright-triton-"))
    # The stub must lie beside the backend's library; the environment is left as it was installed.
    shutil.copytree(triton / "backends", work / "backends", symlinks=True)
    stubs = triton / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(stubs / "triton_python_backend_stub", work / "backends/python/")
    folder = work / "models" / arguments.name
    (folder / "1").mkdir(parents=True)
    here = pathlib.Path(__file__).resolve().parent
    shutil.copy2(here / "triton_model.py", folder / "1/model.py")
    (folder / "paths.json").write_text(json.dumps([str(packages), str(here)]))
    session = protocol.session(arguments.model)
    outputs = [node for node in session.get_outputs() if node.name in arguments.outputs]
    config = CONFIG.format(
        name=arguments.name,
        batch=protocol.BATCH_MAX,
        batching=f"dynamic_batching {{ max_queue_delay_microseconds: {protocol.WAIT_MICROS} }}" if protocol.BATCH_MAX > 1 else "",
        model=arguments.model,
        # Rows of unequal length may share a batch; the model pads them.
        inputs=tensors("input", session.get_inputs(), "allow_ragged_batch: true"),
        outputs=tensors("output", outputs),
    )
    (folder / "config.pbtxt").write_text(config)
    libraries = f"{packages}/nvidia_pytriton.libs:{triton}/external_libs"
    environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
    flags = {
        "model-repository": work / "models",
        "backend-directory": work / "backends",
        "http-address": arguments.host,
        "http-port": arguments.port,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
        "log-warning": "false",
    }
    command = [str(triton / "bin/tritonserver"), *(f"--{name}={value}" for name, value in flags.items())]
    os.execve(command[0], command, environment)


main()
