#!/bin/sh
# Runs the fuzz targets of tests/fuzz, each for so many seconds:
#     fuzz.sh SECONDS [TARGET...]     what is found is kept in target/fuzz/corpus
#     fuzz.sh smoke                   all of them within a minute, as `make test` does
#     fuzz.sh keep [TARGET...]        puts what reaches something new into tests/fuzz/corpus
# A crash ends it, with the bytes that make it in target/fuzz/artifacts.
set -eu

cd "$(dirname "$0")/../.."
target=$(pwd)/target
target=${CARGO_TARGET_DIR:-$target}/fuzz
how=${1:-60}
[ $# -eq 0 ] || shift

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "The fuzz targets were not run: they need the nightly compiler (rustup toolchain install nightly)."
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "The fuzz targets were not run: they need cargo-fuzz (cargo install cargo-fuzz --locked)."
    exit 0
fi

# No sanitizer: what is fuzzed has no `unsafe`, and without one three times as much is tried.
# Sums that overflow are found all the same (tests/fuzz/Cargo.toml).
(cd tests/fuzz && cargo +nightly fuzz build --fuzz-dir . --sanitizer none --target-dir "$target")
programs=$(find "$target" -type d -path '*-linux-*/release' -prune | head -n 1)

all=$(cd tests/fuzz/fuzz_targets && ls ./*.rs | sed 's,^\./,,; s,\.rs$,,')
[ $# -gt 0 ] && all=$*
count=$(echo "$all" | wc -w)
seconds=$how
luck=
# The smoke begins with what is kept and always goes the same way: a test that fails by luck tells
# nobody what broke. Who wants luck has `make fuzz`.
[ "$how" = smoke ] && seconds=$((60 / count)) && luck="-seed=1 -runs=50000"

# Seconds for one input, megabytes for all of a run, bytes of one input.
limits="-timeout=10 -rss_limit_mb=2048 -max_len=16384 -len_control=20"
for name in $all; do
    found=$target/corpus/$name
    [ "$how" != smoke ] || { found=$target/smoke/$name && rm -rf "$found"; }
    kept=tests/fuzz/corpus/$name
    mkdir -p "$found" "$kept" "$target/artifacts"
    if [ "$how" = keep ]; then
        # What is small, only: the corpus is for finding the way, not for weight.
        "$programs/$name" -merge=1 -max_len=2048 -timeout=10 "$kept" "$found" >/dev/null 2>&1
        continue
    fi
    log=$target/$name.log
    # shellcheck disable=SC2086 # a list of words
    if ! "$programs/$name" "$found" "$kept" -max_total_time="$seconds" $limits $luck \
        -artifact_prefix="$target/artifacts/$name-" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz: $name failed; the bytes are in $target/artifacts" >&2
        exit 1
    fi
    grep -E '^(Done|stat::number_of_executed)' "$log" | sed "s/^/fuzz: $name: /" | tail -n 1
done
