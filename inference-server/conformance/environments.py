"""Pinned programs of others, made once and kept in the cache outside the checkout."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def cache():
    named = os.environ.get("TIDEWRIGHT_CACHE")
    if named:
        return pathlib.Path(named)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tidewright"


@contextlib.contextmanager
def made_once(folder):
    """Yields whether `folder` is still to be made; a second process that asks waits for the first. A folder half made is made anew."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / ".done"
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            yield False
            return
        shutil.rmtree(folder, ignore_errors=True)
        yield True
        done.touch()


def digest(*files):
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(file.read_bytes())
        hashed.update(b"\0")
    return hashed.hexdigest()[:16]


def python_of(requirements):
    """The Python of a virtual environment with exactly the packages of the file, each checked by its hash.

    Without a pip of its own: Debian's Python can make that without a further package.
    """
    name = f"{requirements.stem}-{sys.implementation.cache_tag}-{digest(requirements)}"
    folder = cache() / "python" / name
    python = folder / "bin/python"
    with made_once(folder) as is_missing:
        if is_missing:
            print(f"installing {requirements.relative_to(HERE.parents[1])} into {folder} …", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
            subprocess.run(pip + ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(requirements)], check=True)
    return python


def go_program(module, package):
    """A program built from a folder with go.mod and go.sum; None with the reason when it cannot be built here."""
    if shutil.which("go") is None:
        return None, "Go is not installed"
    name = package.rsplit("/", 1)[-1]
    folder = cache() / "bin" / f"{name}-{digest(module / 'go.mod', module / 'go.sum')}"
    with made_once(folder) as is_missing:
        if is_missing:
            print(f"building {package} into {folder} …", file=sys.stderr, flush=True)
            folder.mkdir(parents=True)
            # Without GOFLAGS of the user: -mod=mod would let go change the pins.
            environment = dict(os.environ, GOFLAGS="-mod=readonly -buildvcs=false", GOTOOLCHAIN="local", CGO_ENABLED="0")
            built = subprocess.run(["go", "build", "-trimpath", "-o", str(folder) + "/", package], cwd=module, env=environment, stdout=sys.stderr)
            if built.returncode != 0:
                raise SystemExit(f"conformance: {package} cannot be built, exit {built.returncode}")
    return folder / name, None


if __name__ == "__main__":
    # environments.py FILE: the Python of that file's packages, for programs that are not written in Python.
    print(python_of(pathlib.Path(sys.argv[1]).resolve()))
