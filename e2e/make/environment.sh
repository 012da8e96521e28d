#!/bin/sh
# Says in one sentence what this machine lacks to build and test, or installs it where that is possible: Debian packages, as root.
#
#   environment.sh                  what everything needs
#   environment.sh tests            and what the tests of the operator and of the server need
#   environment.sh [tests] cluster  and what the cluster in a box needs
set -eu

missing() {
    echo "environment: $1" >&2
    exit 1
}

# The newest that one of the pinned modules asks for.
go_wanted=$(sed -n 's/^go //p' "$(dirname "$0")"/../cluster/*/go.mod | sort -V | tail -n 1)

# The cluster in a box needs namespaces and mounts. Said now, not after builds of many minutes.
case " $* " in *" cluster "*)
    [ -n "${TIDEWRIGHT_E2E_USE_EXISTING_CLUSTER:-}" ] || [ "$(id -u)" = 0 ] ||
        missing "needs root, for namespaces and mounts of the cluster that it starts: run it as root, or in a virtual machine of yours."
    ;;
esac

command -v cargo >/dev/null ||
    missing "needs Rust: install rustup (https://rustup.rs); rust-toolchain.toml then picks the version."
if command -v go >/dev/null; then
    # Read without a network, hence GOTOOLCHAIN=local.
    version=$(GOTOOLCHAIN=local go env GOVERSION)
    # With any other setting than local, Go fetches the version that a module asks for.
    [ "$(go env GOTOOLCHAIN)" = local ] || go_wanted=1.26
    oldest=$(printf '%s\n' "${version#go}" "$go_wanted" | sort -V | head -n 1)
    [ "$oldest" = "$go_wanted" ] ||
        missing "needs Go $go_wanted or newer to build Kubernetes from source (https://go.dev/dl), and found $version."
else
    missing "needs Go $go_wanted or newer to build Kubernetes from source: https://go.dev/dl."
fi

# program:package. What the cluster in a box needs beside these it installs itself.
needed="cc:gcc git:git python3:python3"
# Tests of the operator and of the server talk to real ones; those of the READMEs run their examples.
case " $* " in *" tests "*) needed="$needed redis-server:redis-server prometheus:prometheus curl:curl" ;; esac
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
