#!/usr/bin/env bash
# Runs clients and test suites of others against the server, each in pinned packages of its own, which are kept in the cache.
#
#   conformance.sh [SUITE…]      default all; see inference-server/conformance/conformance.py
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --locked --release -p tidewright-server
ORT_DYLIB_PATH=$(inference-server/fetch-onnxruntime.sh)
# The library reports to its makers unless it is told not to.
export ORT_DYLIB_PATH PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
python3 inference-server/conformance/conformance.py --server "$target/release/inference-server" --out "$target/conformance" "$@"
