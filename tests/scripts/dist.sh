#!/bin/sh
# Lays out the folder that a coordinator serves at /dist/ (its config key `dist`): the agent for
# this architecture, its unit, a first policy, and the checksums that install.sh compares.
# BIN: where reeve-agent was built. DIST: the folder to make.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
: "${BIN:?where reeve-agent was built}" "${DIST:?the folder to make}"

mkdir -p "$DIST"
install -m 0755 "$BIN/reeve-agent" "$DIST/reeve-agent-linux-$(uname -m)"
install -m 0644 "$root/systemd/reeve-agent.service" "$DIST/reeve-agent.service"
install -m 0644 "$root/installer/agent.toml" "$DIST/agent.toml"
cd "$DIST"
# The list is replaced in one step: nobody reads half of it.
find . -maxdepth 1 -type f ! -name 'SHA256SUMS*' -printf '%f\n' | sort | xargs sha256sum >SHA256SUMS.new
mv SHA256SUMS.new SHA256SUMS
echo "Made $DIST:"
ls -l
