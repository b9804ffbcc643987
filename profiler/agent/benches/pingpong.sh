#!/bin/bash
# What profiling costs a program that does nothing but switch: two threads that hand a futex to each
# other, with a span active. Bare and profiled runs alternate; the figure is the program's own CPU time
# per round trip, profiled over bare, median of ROUNDS.
#
#     cargo build --release -p spanprof-agent -p spanprof-tests
#     sudo profiler/agent/benches/pingpong.sh [ROUNDS]
#
# Limits: our writer 1.20, another's 1.25, an unrelated process 1.05.
set -eu
rounds=${1:-7}
here=$(cd "$(dirname "$0")/../../.." && pwd)
bin=${CARGO_TARGET_DIR:-$here/target}/release
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

per_round() { sed -n 's/.*"cpu_ns_per_round":\([0-9.]*\).*/\1/p' "$1"; }

# run PROGRAM MODE: CPU nanoseconds per round trip. The program is held until the capture has begun.
#   bare      nothing else          profiled  its own capture
#   beside    another program       watched   another program with a capture
run() {
    local program=$1 mode=$2 other= victim= recorder=
    mkfifo "$out/go"
    "$bin/$program" --seconds 3 --hold <"$out/go" >"$out/truth" &
    local target=$!
    exec 9>"$out/go"
    rm "$out/go"
    case $mode in
    profiled) victim=$target ;;
    beside | watched)
        "$bin/truth_threads" --threads 2 --seconds 30 >/dev/null 9>&- &
        other=$!
        [ "$mode" = beside ] || victim=$other
        ;;
    esac
    if [ -n "$victim" ]; then
        "$bin/spanprof" record --pid "$victim" --seconds 30 --out "$out/record" >/dev/null 2>"$out/said" 9>&- &
        recorder=$!
        until grep -q recording "$out/said"; do kill -0 "$recorder"; done
    fi
    echo go >&9
    until [ -s "$out/truth" ] && grep -q cpu_ns_per_round "$out/truth"; do sleep 0.1; done
    exec 9>&-
    wait "$target"
    [ -z "$other" ] || kill "$other"
    [ -z "$recorder" ] || { kill -INT "$recorder" 2>/dev/null || true; wait "$recorder" || true; }
    per_round "$out/truth"
}

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

compare() {
    local name=$1 program=$2 base=$3 variant=$4
    : >"$out/ratios"
    for _ in $(seq "$rounds"); do
        local bare profiled
        bare=$(run "$program" "$base")
        profiled=$(run "$program" "$variant")
        awk -v a="$profiled" -v b="$bare" 'BEGIN { printf "%.4f %.0f\n", a / b, (a - b) / 2 }' >>"$out/ratios"
    done
    printf '%-28s x%s   added per switch: %s ns   (x%s to x%s)\n' "$name" \
        "$(cut -d' ' -f1 "$out/ratios" | median)" "$(cut -d' ' -f2 "$out/ratios" | median)" \
        "$(cut -d' ' -f1 "$out/ratios" | sort -g | head -1)" "$(cut -d' ' -f1 "$out/ratios" | sort -g | tail -1)"
}

compare "our writer" truth_pingpong bare profiled
compare "another's writer" truth_pingpong_foreign bare profiled
compare "no span" truth_unrelated bare profiled
compare "unrelated process" truth_unrelated beside watched
