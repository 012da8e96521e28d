#!/bin/sh
# Removes what is kept between checkouts: programs of the cluster, ONNX Runtime, cargo-deny, images. The next `make test` makes it again.
set -eu
cache=${TIDEWRIGHT_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or TIDEWRIGHT_CACHE}/.cache}/tidewright}
for record in /run/tidewright/*; do
    [ -e "$record" ] || break
    echo "clean-cache: a cluster may be up (see $record): take it down first, \`cargo run --package tidewright-e2e --bin tidewright-box -- down --all\`" >&2
    exit 1
done
# Folders that we make, by name: a wrong TIDEWRIGHT_CACHE must not cost anything else.
for part in advisories bin boxes buildah images models nodes onnxruntime python tools; do
    rm -rf "${cache:?}/$part"
done
echo "clean-cache: removed the contents of $cache"
