#!/bin/sh
# Runs cargo-deny over the workspace: advisories from the dated copy in e2e/advisories, bans, licences, sources. No network but for what is not in the
# cache yet: cargo-deny itself (pinned, built once) and the sources of our dependencies; `deny.sh fetch` brings just those.
set -eu
cd "$(dirname "$0")/../.."

version=0.20.2
# cargo-deny derives this name from the address of the database.
database=advisory-db-3157b0e258782691
cache=${TIDEWRIGHT_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME, XDG_CACHE_HOME or TIDEWRIGHT_CACHE}/.cache}/tidewright}
tools=$cache/tools

if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
    echo "deny: building cargo-deny $version once, into $tools …" >&2
    # Its release profile costs minutes of link-time optimisation that a run of seconds does not pay back.
    # Built in a folder of its own (-u): ours would keep what nothing else uses.
    env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked --version "$version" --root "$tools" cargo-deny >&2
fi

if [ "${1:-}" = fetch ]; then
    exec cargo fetch --quiet --locked
fi

set -- e2e/advisories/rustsec-advisory-db-*.tar.gz
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "deny: e2e/advisories must hold exactly one copy of the advisory database" >&2
    exit 1
fi
archive=$1
date=${archive##*-db-}
date=${date%.tar.gz}
TIDEWRIGHT_ADVISORIES=$cache/advisories/$(sha256sum "$archive" | cut -c1-16)
export TIDEWRIGHT_ADVISORIES
if [ ! -f "$TIDEWRIGHT_ADVISORIES/$database/.git/FETCH_HEAD" ]; then
    mkdir -p "$cache/advisories"
    work=$(mktemp -d "$cache/advisories/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/$database"
    tar -xzf "$archive" -C "$work/$database"
    # cargo-deny wants a git repository, and takes the time of FETCH_HEAD for the age of the database.
    git -C "$work/$database" init --quiet --initial-branch=main
    git -C "$work/$database" add --all
    git -C "$work/$database" -c user.name=tidewright -c user.email=tidewright@localhost -c commit.gpgsign=false -c core.hooksPath=/dev/null \
        commit --quiet --message "Snapshot of $date" --date "${date}T00:00:00Z"
    touch -d "${date}T00:00:00Z" "$work/$database/.git/FETCH_HEAD"
    rm -rf "$TIDEWRIGHT_ADVISORIES"
    mv "$work" "$TIDEWRIGHT_ADVISORIES"
fi

# What is offline below must be there already, also the crates that only other targets use.
cargo fetch --quiet --locked
"$tools/bin/cargo-deny" --offline --locked --workspace check --hide-inclusion-graph --show-stats advisories bans licenses sources
echo "deny: checked against the RustSec advisory database of $date"
