#!/usr/bin/env bash
# Runs parts of the checks one after the other, stops at the first that fails, and ends with what ran, how long it took, and the summary lines of the
# test runners.
#
#   test.sh all | PART…      the parts: see `all` below
set -uo pipefail
cd "$(dirname "$0")/../.."

all=(environment fmt clippy deny generated unit fetch control-plane images cluster chart)
logs=${CARGO_TARGET_DIR:-target}/test
mkdir -p "$logs"

# Test programs whose names do not start with the name of a tier, in all crates, as arguments of `cargo test`: tests/NAME.rs and tests/NAME/main.rs.
outside_the_tiers() {
    local file
    for file in {operator,operator/api,operator/scaling,operator/sim,inference-server,inference-server/contract,e2e}/tests/{*.rs,*/main.rs}; do
        [ -f "$file" ] || continue
        file=${file%/main.rs}
        file=$(basename "${file%.rs}")
        case $file in box* | control_plane* | cluster* | chart*) ;; *) echo "--test=$file" ;; esac
    done | sort -u
}

box() { cargo run --quiet --locked -p tidewright-e2e --bin tidewright-box -- "$@"; }

cargo_test() { cargo test --workspace --locked "$@"; }

# The operator and the server are started as programs by the tests: they must be there, and be those of this checkout.
programs() { cargo build --workspace --locked --bins; }

run() {
    case $1 in
    environment)
        local -a words=()
        case " ${parts[*]} " in *" unit "* | *" control-plane "*) words+=(tests) ;; esac
        case " ${parts[*]} " in *" control-plane "* | *" images "* | *" cluster "* | *" chart "*) words+=(cluster) ;; esac
        e2e/make/environment.sh "${words[@]}"
        ;;
    fmt) cargo fmt --all --check ;;
    clippy)
        cargo clippy --workspace --all-targets --locked -- -D warnings &&
            # What stands for tracing without its feature is compiled by nothing else.
            cargo clippy -p tidewright-server --lib --no-default-features --locked -- -D warnings
        ;;
    deny) e2e/make/deny.sh ;;
    generated) cargo_test --test crds_are_current --test crd_chart_is_current ;;
    unit)
        ORT_DYLIB_PATH=$(inference-server/fetch-onnxruntime.sh) || return 1
        # The library reports to its makers unless it is told not to, which the server does for itself and tests of its crates do not.
        export ORT_DYLIB_PATH ORT_DISABLE_TELEMETRY=1
        local tests
        mapfile -t tests < <(outside_the_tiers)
        programs && cargo_test --lib --bins "${tests[@]}" && cargo_test --doc &&
            # What stands for tracing without its feature is run by nothing else.
            cargo test -p tidewright-server --lib --no-default-features --locked
        ;;
    fetch) box fetch ;;
    control-plane) programs && cargo_test --test 'box*' --test 'control_plane*' ;;
    images) box images ;;
    cluster) programs && cargo_test --test 'cluster*' ;;
    chart) programs && cargo_test --test chart ;;
    *)
        echo "test.sh: no part is called $1; there are: ${all[*]}" >&2
        return 2
        ;;
    esac
}

if [ $# -eq 0 ] || [ "$1" = all ]; then
    set -- "${all[@]}"
fi
parts=("$@")

declare -a lines=()
status=0
ran=()
begun=$(date +%s)
for part in "$@"; do
    if [ "$status" -ne 0 ]; then
        lines+=("$(printf '%-14s %8s  not run' "$part" -)")
        continue
    fi
    echo "== $part"
    start=$(date +%s.%N)
    run "$part" 2>&1 | tee "$logs/$part.log"
    status=${PIPESTATUS[0]}
    seconds=$(awk -v start="$start" -v end="$(date +%s.%N)" 'BEGIN { printf "%.1f", end - start }')
    ran+=("$part")
    lines+=("$(printf '%-14s %6s s  %s' "$part" "$seconds" "$([ "$status" -eq 0 ] && echo ok || echo "FAILED, exit $status; log: $logs/$part.log")")")
done

echo
echo "== parts"
printf '%s\n' "${lines[@]}"
printf '%-14s %6s s\n' total "$(($(date +%s) - begun))"
echo
echo "== test runners"
for part in "${ran[@]}"; do
    # cargo names the test program on one line and its result on a later one; "Doc-tests" stands for a program.
    awk -v part="$part" '
        /^ *Running / {
            program = $NF
            gsub(/^\(.*\/|-[0-9a-f]+\)$/, "", program)
            if ($2 == "unittests") program = program ", unit tests in " $3
            next
        }
        /^ *Doc-tests / { program = "doc tests of " $2; next }
        /^test result: / { print part ", " program ": " $0 }
    ' "$logs/$part.log"
done
if [ "$status" -eq 0 ]; then echo "all parts passed"; else echo "a part failed"; fi
exit "$status"
