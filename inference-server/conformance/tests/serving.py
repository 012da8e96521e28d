"""The real server as a process on free ports, for the length of a `with` block."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

MODELS = pathlib.Path(__file__).resolve().parents[2] / "tests/models"


class CannotServe(Exception):
    """The server ended before it was ready; `model` is the one it could not load, if it was one."""

    def __init__(self, reason, message, model):
        super().__init__(f"{reason}: {message}")
        self.reason, self.message, self.model = reason, message, model


class Server:
    """`http`, `grpc` and `admin` are `host:port`."""

    def __init__(self, models, *arguments, limits=None):
        """`models`: name to path of an ONNX file; `limits`: of the config file."""
        self._models, self._arguments, self._limits = models, arguments, limits or {}

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-")
        last_words = os.path.join(self._folder.name, "last-words")
        # The server writes into the file that Kubernetes has made, and makes none.
        open(last_words, "w").close()
        config = os.path.join(self._folder.name, "server.json")
        with open(config, "w") as file:
            models = [{"name": name, "path": str(path)} for name, path in self._models.items()]
            json.dump({"models": models, "limits": self._limits, "terminationLogPath": last_words}, file)
        self._log = open(os.path.join(self._folder.name, "log"), "w+")
        # Only what is said here configures it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEWRIGHT_")}
        self._process = subprocess.Popen(
            [os.environ["INFERENCE_SERVER"], "serve", "--config", config, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
            + list(self._arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        ready = self._process.stdout.readline()
        if not ready:
            self._process.wait()
            with open(last_words) as file:
                words = json.loads(file.read() or "{}")
            log = self._read_log()
            self.__exit__()
            raise CannotServe(words.get("reason", "no reason"), words.get("message", log), words.get("model"))
        self.http, self.admin, self.grpc = re.search(r"ready: http://(\S+) \(.*http://(\S+)\), gRPC on ([^,\s]+),", ready).groups()
        return self

    def _read_log(self):
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def is_alive(self):
        return self._process.poll() is None

    def __exit__(self, *_):
        # SIGTERM: the server ends when everything that it accepted has been answered.
        if self.is_alive():
            self._process.terminate()
        try:
            status = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()
        self.status = status
