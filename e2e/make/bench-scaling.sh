#!/usr/bin/env bash
# Compares the scaling policies on every recorded trace of a folder.
#
#   bench-scaling.sh FOLDER      CSV files of counts (header `second,count`), plain or zstd; two weeks of them take some minutes each
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=${1:-}
if [ -z "$folder" ] || ! compgen -G "$folder/*.csv*" >/dev/null; then
    echo "make bench-scaling TRACES=FOLDER: no traces in '${folder:-}'; a trace is a CSV file with the header second,count, plain or .zst" >&2
    exit 2
fi
out=${CARGO_TARGET_DIR:-target}/bench-scaling
mkdir -p "$out"
cargo build --quiet --locked --release -p tidewright-sim
sim=${CARGO_TARGET_DIR:-target}/release/tidewright-sim

traces=()
for file in "$folder"/*.csv*; do
    case $file in
    *requests*) continue ;; # the same requests as the counts beside it, one by one
    # As the table in operator/sim/docs: what keeps a run of two weeks within minutes, and a sparse tenant sparse.
    *nasa*) traces+=(--trace "$file,to=259200") ;;
    *wc98*) traces+=(--trace "$file,to=129600,thin=0.4") ;;
    *c73*) traces+=(--trace "$file,thin=0.1") ;;
    *c40*) traces+=(--trace "$file,peak-pods=6") ;;
    *) traces+=(--trace "$file") ;;
    esac
done
"$sim" compare "${traces[@]}" --seeds "${SEEDS:-3}" ${SWEEP:+--sweep} --html "$out/pareto.html" | tee "$out/table.md"
echo "plots: $out/pareto.html"
