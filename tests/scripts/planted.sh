#!/bin/sh
# Plants one fault after the other in a scratch copy of the committed sources, and runs the tests
# that are there to notice it. Says which of them did; fails when none does.
#   sh tests/scripts/planted.sh [PATCH…]
# PLANTED_TARGET names a target folder to build in, so that not everything is built anew.
set -eu

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
scratch=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$scratch/tree" 2>/dev/null; rm -rf "$scratch"' EXIT
git -C "$root" worktree add --quiet --detach "$scratch/tree" HEAD
CARGO_TARGET_DIR=${PLANTED_TARGET:-$scratch/target}
export CARGO_TARGET_DIR
[ $# -gt 0 ] || set -- "$root"/tests/planted/*.patch

unnoticed=0
for patch in "$@"; do
    name=$(basename "$patch" .patch)
    git -C "$scratch/tree" checkout --quiet -- .
    git -C "$scratch/tree" apply "$patch"
    # What a patch says about itself stands before its first file: `Noticed-by: BINARY TEST`.
    tests=$(sed -n 's/^Noticed-by: //p' "$patch")
    log="$scratch/$name.log"
    (cd "$scratch/tree" && cargo build --quiet --workspace --bins)
    caught=""
    while read -r binary test; do
        (cd "$scratch/tree" && cargo test --quiet -p reeve-tests --test "$binary" --no-run)
        if ! (cd "$scratch/tree" && cargo test -p reeve-tests --test "$binary" "$test") >"$log" 2>&1; then
            failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | sort -u | tr '\n' ' ')
            [ -z "$failed" ] || caught="$caught $binary: $failed"
        fi
    done <<EOF
$tests
EOF
    if [ -n "$caught" ]; then
        echo "$name: noticed by$caught"
    else
        echo "$name: NOT NOTICED by $tests"
        cat "$log"
        unnoticed=1
    fi
done
exit $unnoticed
