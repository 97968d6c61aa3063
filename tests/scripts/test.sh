#!/bin/sh
# Everything that has to be true before a change lands. `make test` calls this.
set -eu

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets -- -D warnings

# The end-to-end tests start the real programs, which no test dependency builds.
step "programs"
cargo build --workspace --bins

step "tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast
else
    # prerequisites.sh has said why it is missing. The end-to-end tests share a machine, hence one
    # thread; without nextest each file's tests also share a process.
    echo "cargo-nextest is missing: running the same tests with plain 'cargo test', which is slower."
    cargo test --workspace --no-fail-fast --lib --bins --tests -- --test-threads=1
fi

step "fuzz targets, a minute in all"
sh tests/scripts/fuzz.sh smoke

step "examples in the documentation"
cargo test --workspace --doc
