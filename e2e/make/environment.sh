#!/bin/sh
# Says in one sentence what this machine lacks to build and test, or installs it where that is possible: Debian packages, as root.
#
#   environment.sh          what `make test` needs
#   environment.sh demo     what the demo and the benchmark need
set -eu

missing() {
    echo "environment: $1" >&2
    exit 1
}

command -v cargo >/dev/null ||
    missing "needs Rust: install rustup (https://rustup.rs); rust-toolchain.toml then picks the version."
if command -v go >/dev/null; then
    # "go version go1.26.8 linux/amd64"; read without a network, hence GOTOOLCHAIN=local.
    version=$(GOTOOLCHAIN=local go env GOVERSION)
    minor=$(echo "$version" | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 26 ] || missing "needs Go 1.26 or newer to build Kubernetes from source (https://go.dev/dl), and found $version."
else
    missing "needs Go 1.26 or newer to build Kubernetes from source: https://go.dev/dl."
fi

# program:package. What the cluster in a box needs beside these it installs itself.
needed="cc:gcc git:git python3:python3"
# Tests of the operator and of the server talk to real ones.
[ "${1:-}" = demo ] || needed="$needed redis-server:redis-server prometheus:prometheus"
packages=""
for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null || packages="$packages ${pair##*:}"
done
# Debian's gcc only recommends the headers and start files that linking needs.
[ -e /usr/include/features.h ] || packages="$packages libc6-dev"
python3 -m pip --version >/dev/null 2>&1 || packages="$packages python3-pip"
if [ -n "$packages" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        missing "these packages are missing:$packages. Install them, on Debian with \`apt-get install$packages\` as root."
    fi
    echo "environment: installing$packages …" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    # Debian would start servers of its own, on ports that tests want to see free.
    # shellcheck disable=SC2086 # a list of words
    RUNLEVEL=1 apt-get install --yes --no-install-recommends -qq $packages >&2
fi
