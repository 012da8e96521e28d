"""Runs clients and test suites of others against the real server, and says of each what passed, what was skipped and why.

    conformance.py --server FILE [--out FOLDER] [SUITE…]

Ends with one line per suite, and with 1 when anything failed. Writes what the suites said, and report.md, into the folder.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

import environments
from environments import HERE

sys.path.insert(0, str(HERE / "tests"))
import serving  # noqa: E402


@dataclasses.dataclass
class Result:
    suite: str
    what: str
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)
    # reason to names
    skipped: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    # note to names; they have passed
    notes: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    seconds: float = 0.0
    remark: str = ""

    def line(self):
        skipped = sum(len(names) for names in self.skipped.values())
        remark = f"; {self.remark}" if self.remark else ""
        return f"{self.suite:<14} {self.passed:5} passed {skipped:4} skipped {len(self.failed):4} failed {self.seconds:6.1f} s  {self.what}{remark}"

    def read_junit(self, file):
        for case in xml.etree.ElementTree.parse(file).iter("testcase"):
            name = re.sub(r"^test_case\[(.*)\]$", r"\1", case.get("name"))
            trouble = case.find("failure") if case.find("failure") is not None else case.find("error")
            skip = case.find("skipped")
            if trouble is not None:
                self.failed.append(f"{name}: {(trouble.get('message') or trouble.text or '').strip()}")
            elif skip is not None:
                self.skipped[skip.get("message")].append(name)
            else:
                self.passed += 1
                for note in case.iter("property"):
                    self.notes[note.get("value")].append(name)


class Run:
    def __init__(self, server, out):
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        os.environ.update(INFERENCE_SERVER=str(server), PYTHONDONTWRITEBYTECODE="1")

    def program(self, suite, command, **more):
        """Runs it with its output in a file; returns the exit status and that output."""
        log = self.out / f"{suite}.log"
        with open(log, "w") as file:
            # Some keep files where they are started: never in the checkout.
            status = subprocess.run(
                command, cwd=self.out, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **more}
            ).returncode
        return status, log.read_text()

    def pytest(self, result, requirements, *files):
        junit = self.out / f"{result.suite}.xml"
        junit.unlink(missing_ok=True)
        # -I keeps a PYTHONPATH or a user's own packages from standing in for the pinned ones.
        python = environments.python_of(HERE / "environments" / requirements)
        options = ["-p", "no:cacheprovider", "-q", "--tb=short", "--junitxml", str(junit), "--rootdir", str(HERE / "tests")]
        status, log = self.program(result.suite, [str(python), "-I", "-B", "-m", "pytest", *options, *(str(HERE / "tests" / file) for file in files)])
        if not junit.exists():
            result.failed.append(f"pytest ended with {status}: {log[-2000:]}")
            return
        result.read_junit(junit)
        # The server that ends badly after the last test is an error of no test.
        if status != 0 and not result.failed:
            result.failed.append(f"pytest ended with {status}: {log[-2000:]}")


def tritonclient(run, result):
    run.pytest(result, "clients.txt", "test_tritonclient.py")


def grpc(run, result):
    run.pytest(result, "clients.txt", "test_grpc_services.py")


def kserve(run, result):
    run.pytest(result, "kserve.txt", "test_kserve.py")


def onnx(run, result):
    run.pytest(result, "clients.txt", "test_onnx.py")


def openapi(run, result):
    python = environments.python_of(HERE / "environments/schemathesis.txt")
    junit = run.out / "openapi.xml"
    junit.unlink(missing_ok=True)
    options = ["--max-examples", "50", "--seed", "1", "--generation-database", "none", "--continue-on-failure", "--no-color"]
    # What the schema allows need not fit the model: shapes and datatypes are those of the model, and 400 says so.
    options += ["--exclude-checks", "positive_data_acceptance", "--report", "junit", "--report-junit-path", str(junit)]
    with serving.Server({name: serving.MODELS / f"{name}.onnx" for name in ("affine", "echo")}) as server:
        command = [str(python), "-m", "schemathesis.cli", "--config-file", str(HERE / "tests/schemathesis.toml"), "run", f"http://{server.http}/openapi.json"]
        # Its hooks are found on PYTHONPATH, so without -I.
        status, log = run.program("openapi", command + options, PYTHONPATH=str(HERE / "tests"), PYTHONNOUSERSITE="1", SCHEMATHESIS_HOOKS="schemathesis_hooks")
        if not server.is_alive():
            result.failed.append("the server ended while it was tested")
    if junit.exists():
        result.read_junit(junit)
    if status != 0 and not result.failed:
        result.failed.append(f"schemathesis ended with {status}: {log[-2000:]}")
    drawn = re.search(r"(\d+) generated", log)
    result.remark = f"operations; {drawn.group(1)} requests" if drawn else ""
    result.skipped["check positive_data_acceptance: shapes and datatypes are the model's, which a schema of all models cannot say"].append("all operations")
    result.skipped["answers of the media type application/octet-stream have no schema"].append("infer")


# h2spec sends its faulty frame after a whole head. An endpoint that has answered and closed the stream by then need not treat it as a fault of the stream
# (RFC 9113, 5.1 and 8.1: a complete answer may come before the whole request). Such a case is tried again, and skipped when the answer is always faster.
ANSWERED = "the answer was complete before the frame came (RFC 9113, 8.1)"
# Both ports speak HTTP/1.1, too. The connection is closed, as it must be, but behind an answer that h2spec takes for a broken frame.
IN_HTTP_1 = "what is no preface of HTTP/2 is refused in HTTP/1.1, which h2spec cannot read, and the connection closed"
OVERTAKEN = {
    "http2/3.5/2": IN_HTTP_1,
    "http2/5.1/8": ANSWERED,
    "http2/5.1/9": ANSWERED,
    "http2/6.9.1/3": ANSWERED,
    "http2/8.1/1": ANSWERED,
    "http2/8.1.2.1/3": ANSWERED,
    "http2/8.1.2.6/1": ANSWERED,
    "http2/8.1.2.6/2": ANSWERED,
}
# The head that h2spec sends is no gRPC: it is refused by a head alone, at once.
TRAILERS_ONLY = "gRPC refuses by a head alone, and the case waits for DATA"
NOT_GRPC = {
    **OVERTAKEN,
    "generic/2/2": TRAILERS_ONLY,
    "generic/2/3": TRAILERS_ONLY,
    "http2/5.1.2/1": "streams are refused so fast that 256 are never open at once",
}
TRIES = 5


def h2spec(run, result):
    program, reason = environments.go_program(HERE / "h2spec", "github.com/summerwind/h2spec/cmd/h2spec")
    if program is None:
        result.skipped[reason].append("everything")
        return
    with serving.Server({"affine": serving.MODELS / "affine.onnx"}) as server:
        # Answers long enough that streams stay open for a while.
        ports = [("HTTP", server.http, "/openapi.json", OVERTAKEN), ("gRPC", server.grpc, "/inference.GRPCInferenceService/ModelInfer", NOT_GRPC)]
        for port, address, path, excused in ports:
            host, number = address.rsplit(":", 1)
            command = [str(program), "--host", host, "--port", number, "--path", path]
            junit = run.out / f"h2spec-{port}.xml"
            run.program(f"h2spec-{port}", command + ["--junit-report", str(junit)])
            for case, outcome, text in h2spec_cases(junit):
                tries = 1
                while outcome == "failed" and case in excused and tries < TRIES:
                    again = run.out / "h2spec-again.xml"
                    run.program("h2spec-again", command + [case, "--junit-report", str(again)])
                    ((_, outcome, text),) = h2spec_cases(again)
                    tries += 1
                if outcome == "passed":
                    result.passed += 1
                elif outcome == "skipped":
                    result.skipped["h2spec skips it itself"].append(f"{port} {case}")
                elif case in excused:
                    result.skipped[excused[case]].append(f"{port} {case}")
                else:
                    result.failed.append(f"{port} {case}: {text}")
        if not server.is_alive():
            result.failed.append("the server ended while it was tested")


def h2spec_cases(junit):
    """(case, outcome, text) of every case, named as h2spec's command line names it."""
    number = collections.Counter()
    cases = []
    for case in xml.etree.ElementTree.parse(junit).iter("testcase"):
        section = case.get("package")
        number[section] += 1
        trouble = case.find("failure") if case.find("failure") is not None else case.find("error")
        outcome = "failed" if trouble is not None else "skipped" if case.find("skipped") is not None else "passed"
        cases.append((f"{section}/{number[section]}", outcome, case.get("classname") + ": " + (trouble.text or "" if trouble is not None else "")))
    return cases


SUITES = {
    "tritonclient": (tritonclient, "tritonclient {tritonclient}: HTTP, gRPC and asyncio clients"),
    "grpc": (grpc, "grpcio-health-checking and -reflection {grpcio-reflection}"),
    "kserve": (kserve, "kserve {kserve}: REST v1 and v2, gRPC"),
    "openapi": (openapi, "schemathesis {schemathesis} on /openapi.json"),
    "h2spec": (h2spec, "h2spec {h2spec} on both ports"),
    "onnx": (onnx, "backend cases of onnx {onnx} against onnxruntime {onnxruntime}"),
}


def versions():
    """Name to version of everything that is pinned."""
    found = {}
    for file in sorted((HERE / "environments").glob("*.txt")):
        found.update(re.findall(r"^([a-z0-9-]+)==(\S+)", file.read_text(), re.MULTILINE))
    found["h2spec"] = re.search(r"summerwind/h2spec v(\S+?)(?:\+| |$)", (HERE / "h2spec/go.mod").read_text()).group(1)
    return found


def report(results):
    lines = ["| suite | what | passed | skipped | failed | s |", "|---|---|---:|---:|---:|---:|"]
    for result in results:
        skipped = sum(len(names) for names in result.skipped.values())
        lines.append(f"| {result.suite} | {result.what} | {result.passed} | {skipped} | {len(result.failed)} | {result.seconds:.0f} |")
    for result in results:
        for title, groups in (("Skipped", result.skipped), ("Passed, with a note", result.notes), ("Failed", {"": result.failed} if result.failed else {})):
            if groups:
                lines += ["", f"### {result.suite}: {title.lower()}", "", "| reason | number | cases |", "|---|---:|---|"]
                for reason, names in sorted(groups.items(), key=lambda item: -len(item[1])):
                    lines.append(f"| {cell(reason)} | {len(names)} | {cell(', '.join(names))} |")
    return "\n".join(lines) + "\n"


def cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the binary inference-server; ORT_DYLIB_PATH names ONNX Runtime")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/conformance"))
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default all")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(SUITES)
    if unknown:
        parser.error(f"no suite is called {', '.join(sorted(unknown))}")
    run = Run(arguments.server.resolve(), arguments.out.resolve())
    pinned = collections.defaultdict(lambda: "?", versions())
    results = []
    for name in arguments.suites or SUITES:
        suite, what = SUITES[name]
        result = Result(name, what.format_map(pinned))
        print(f"== {name}", flush=True)
        started = time.monotonic()
        suite(run, result)
        result.seconds = time.monotonic() - started
        for reason, names in sorted(result.skipped.items(), key=lambda item: -len(item[1])):
            print(f"   skipped {len(names):4}: {reason}")
        for failure in result.failed:
            print(f"   FAILED {failure}")
        if not result.passed and not result.skipped and not result.failed:
            result.failed.append("nothing ran")
        results.append(result)
    (run.out / "report.md").write_text(report(results))
    print("\n== suites")
    for result in results:
        print(result.line())
    failed = any(result.failed for result in results)
    print("a suite failed" if failed else "all suites passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
