#!/bin/sh
# Puts ONNX Runtime's shared library into the cache, if it is not there, and prints its path.
#
# The library is the one inside the PyPI wheel: the only public build that needs no compiler. The wheel is pinned by sha256, and pip checks it
# (--require-hashes); the library inside is pinned too, so that a damaged cache is noticed and repaired.
#
#   ORT_DYLIB_PATH=$(inference-server/fetch-onnxruntime.sh)
#
# Needs: python3 with pip (only when the library is not in the cache), sha256sum. Honours TIDEWRIGHT_CACHE, XDG_CACHE_HOME and pip's settings.
set -eu

version=1.32.0
case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    platform=manylinux_2_28_x86_64
    wheel_sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d
    library_sha256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f
    ;;
Linux-aarch64)
    platform=manylinux_2_28_aarch64
    wheel_sha256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c
    library_sha256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a
    ;;
*)
    echo "fetch-onnxruntime: no pinned build for $(uname -s) on $(uname -m); set ORT_DYLIB_PATH to a libonnxruntime $version of your own" >&2
    exit 1
    ;;
esac

cache=${TIDEWRIGHT_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or TIDEWRIGHT_CACHE}/.cache}/tidewright}
folder=$cache/onnxruntime/$version-$platform
library=$folder/libonnxruntime.so.$version

is_right() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$library_sha256" ]
}

if is_right "$library"; then
    echo "$library"
    exit 0
fi

if ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
    echo "fetch-onnxruntime: needs python3 with pip to download the wheel onnxruntime $version (Debian: apt-get install python3-pip)" >&2
    exit 1
fi

# Several of us may run at once: each works in a folder of its own, and the last step is a rename.
mkdir -p "$folder"
work=$(mktemp -d "$folder/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "onnxruntime==$version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.11 --implementation cp --abi cp311 --platform "$platform" \
    --dest "$work" --requirement "$work/requirements.txt" >&2

python3 - "$work" "$version" <<'PYTHON'
import glob, os, shutil, sys, zipfile

work, version = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    with archive.open(f"onnxruntime/capi/libonnxruntime.so.{version}") as source, open(os.path.join(work, "library"), "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON

if ! is_right "$work/library"; then
    echo "fetch-onnxruntime: the library in the wheel does not have the pinned sha256 $library_sha256" >&2
    exit 1
fi
chmod 0644 "$work/library"
mv -f "$work/library" "$library"
echo "$library"
