#!/bin/sh
# Installs the Reeve agent on this machine and joins it to a coordinator.
#
# The coordinator serves this file with its own address and the pin of its certificate authority
# filled in. Whoever runs it has to know that it came whole: `reeve tokens create` prints a line
# that compares its SHA-256 before it runs. From then on nothing is trusted that does not fit:
# the coordinator's authority has to have the pin, every download comes over TLS verified against
# that authority, its SHA-256 has to be the listed one, and the join token is given only to the
# agent, which checks the pin once more before it sends it.
#
# A coordinator whose certificate comes from a public authority has no pin; then this machine's own
# trusted authorities decide.
#
# Everything is in functions and starts on the last line, so a half-downloaded file does nothing.

set -u

default_url='@URL@'
default_pin='@CA_PIN@'
# What stands for the coordinator whatever address it is reached by; always in its certificate.
internal_name=reeve-coordinator.internal

usage() {
    cat <<USAGE
Usage: sh install.sh [options]

Installs reeve-agent, its systemd unit and a first policy file, and joins this machine.
Running it again upgrades; where all is as it should be, it changes nothing.

  --token-file FILE   read the join token from FILE
  --token-stdin       read the join token from standard input
                      (or set REEVE_JOIN_TOKEN; on a terminal it is asked for)
  --name NAME         the machine's name; else the token's, else the host name
  --check             only look: reaches the coordinator, compares, says what would change
  --root DIR          install below DIR instead of /; no service is started then
  --no-start          do not enable or start the service
  --uninstall         stop the agent and remove program and unit; identity and policy stay
  --purge             the same, and remove identity and policy too
  --url URL           coordinator's address   [$default_url]
  --ca-pin PIN        SHA-256 of its authority's public key, 64 hexadecimal digits
  -h, --help          this text
USAGE
}

say() { printf '%s\n' "$*"; }
warn() { printf 'install.sh: %s\n' "$*" >&2; }
fail() {
    warn "$*"
    exit 1
}

clean_up() {
    [ -z "${work:-}" ] || rm -rf "$work"
}

read_options() {
    url=$default_url pin=$default_pin
    root='' name='' token_from='' action=install start=yes
    while [ $# -gt 0 ]; do
        case $1 in
        --url | --ca-pin | --root | --name | --token-file)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help"
            ;;
        esac
        case $1 in
        --url) url=$2 && shift ;;
        --ca-pin) pin=$2 && shift ;;
        --root) root=$2 && shift ;;
        --name) name=$2 && shift ;;
        --token-file) token_from=$2 && shift ;;
        --token-stdin) token_from=- ;;
        --check) action=check ;;
        --no-start) start=no ;;
        --uninstall) action=uninstall ;;
        --purge) action=purge ;;
        -h | --help) usage && exit 0 ;;
        *) fail "there is no option '$1'; see --help" ;;
        esac
        shift
    done

    case $root in
    '' | /) root='' ;;
    /*) root=${root%/} ;;
    *) root=$(pwd)/${root%/} ;;
    esac
    program=$root/usr/local/bin/reeve-agent
    unit=$root/etc/systemd/system/reeve-agent.service
    policy=$root/etc/reeve/agent.toml
    state=$root/var/lib/reeve-agent
}

# Whether this run may talk to this machine's systemd.
has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

need_root() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] ||
        fail "installing into / needs root. Run it with sudo, or give --root DIR."
}

need_tools() {
    for tool in curl openssl sha256sum sed awk; do
        command -v "$tool" >/dev/null ||
            fail "'$tool' is missing. Install it (Debian, Ubuntu: apt-get install curl openssl coreutils) and run this again."
    done
}

read_address() {
    case $url in
    https://*) ;;
    *) fail "the coordinator's address has to start with https://, not '$url'. Give it with --url." ;;
    esac
    url=${url%/}
    authority=${url#https://}
    authority=${authority%%/*}
    case $authority in
    \[*\]:*) host=${authority%:*} port=${authority##*:} ;;
    \[*\]) host=$authority port=443 ;;
    *:*) host=${authority%:*} port=${authority##*:} ;;
    *) host=$authority port=443 ;;
    esac
    pin=$(printf '%s' "${pin#sha256:}" | tr 'A-F' 'a-f')
    case $pin in
    *[!0-9a-f]*) fail "'$pin' is no CA pin. Give --ca-pin with the 64 hexadecimal digits that the coordinator printed." ;;
    esac
    [ ${#pin} = 64 ] || [ -z "$pin" ] || fail "a CA pin has 64 hexadecimal digits, this one ${#pin}: '$pin'"
}

find_architecture() {
    [ "$(uname -s)" = Linux ] || fail "the agent runs on Linux; this is $(uname -s)."
    case $(uname -m) in
    x86_64 | amd64) architecture=x86_64 ;;
    aarch64 | arm64) architecture=aarch64 ;;
    armv7l | armv6l) architecture=armv7l ;;
    *) architecture=$(uname -m) ;;
    esac
}

# Leaves in $work/ca.pem the certificate that has the pin, or ends. Nothing was sent by then but a
# TLS greeting.
find_authority() {
    [ -n "$pin" ] || return 0
    case $host in
    \[* | *[!0-9.]*) greeting="-servername $host" ;;
    *) greeting=-noservername ;;
    esac
    case $host in \[*) greeting=-noservername ;; esac
    # shellcheck disable=SC2086 # two words, or one
    openssl s_client -connect "$host:$port" $greeting -showcerts </dev/null >"$work/chain" 2>"$work/tls"
    awk -v to="$work/certificate" '
        /-----BEGIN CERTIFICATE-----/ { n++; inside = 1 }
        inside { print > (to "." n) }
        /-----END CERTIFICATE-----/ { inside = 0; close(to "." n) }
    ' "$work/chain"
    [ -f "$work/certificate.1" ] || {
        sed 's/^/    /' "$work/tls" | head -n 3 >&2
        fail "no TLS answer from $host port $port. Is the address right, does the name resolve, is the port open?"
    }
    for certificate in "$work"/certificate.*; do
        found=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null |
            openssl pkey -pubin -outform DER 2>/dev/null | openssl dgst -sha256 -r | cut -d ' ' -f 1)
        if [ "$found" = "$pin" ]; then
            mv "$certificate" "$work/ca.pem"
            return
        fi
    done
    fail "$host port $port is not the coordinator this was made for: no certificate it shows has the CA pin
    $pin
Something stands in between, or the coordinator was set up anew. Nothing was sent and nothing changed.
Get a new line from 'reeve tokens create'."
}

# The address as dialled has to be in the certificate; else the fixed name, which always is.
choose_name() {
    base=$url
    by_name=''
    if fetch healthz "$work/health" 2>"$work/curl"; then return; fi
    if [ -z "$pin" ]; then
        sed 's/^/    /' "$work/curl" >&2
        fail "the coordinator at $url cannot be reached, or its certificate does not verify. If it has an authority of its own, give its pin with --ca-pin."
    fi
    base=https://$internal_name:$port
    by_name="$internal_name:$port:$host:$port"
    if fetch healthz "$work/health" 2>>"$work/curl"; then return; fi
    sed 's/^/    /' "$work/curl" >&2
    fail "the coordinator at $url has the right CA but its certificate does not verify. Is this machine's clock right? ($(date -u))"
}

fetch() { # path below the address, file to write
    set -- "$base/$1" -o "$2"
    [ -z "$pin" ] || set -- "$@" --cacert "$work/ca.pem"
    [ -z "$by_name" ] || set -- "$@" --connect-to "$by_name"
    curl -fsS --proto =https --max-time 300 --retry 2 "$@"
}

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }

listed_sum() { # name in the manifest
    awk -v name="$1" '$2 == name || $2 == "*" name { print $1; exit }' "$work/SHA256SUMS"
}

fetch_manifest() {
    fetch dist/SHA256SUMS "$work/SHA256SUMS" ||
        fail "the coordinator serves no dist/SHA256SUMS. Make the folder with 'make dist' and name it with 'dist' in coordinator.toml."
    agent=reeve-agent-linux-$architecture
    [ -n "$(listed_sum "$agent")" ] ||
        fail "the coordinator has no agent for $architecture. Its dist folder lists: $(awk '{ printf "%s ", $2 }' "$work/SHA256SUMS")"
}

fetch_verified() { # name in dist, file to write
    expected=$(listed_sum "$1")
    [ -n "$expected" ] || fail "dist/SHA256SUMS does not list $1; nothing was changed"
    fetch "dist/$1" "$2" || fail "dist/$1 could not be downloaded; nothing was changed"
    found=$(sum_of "$2")
    [ "$found" = "$expected" ] || fail "dist/$1 is not what dist/SHA256SUMS lists; nothing was changed
    listed   $expected
    received $found"
}

is_current() { # name in dist, file on this machine
    [ -f "$2" ] && [ "$(sum_of "$2")" = "$(listed_sum "$1")" ]
}

# Written beside its place and moved: whoever reads it sees the old one or the new one.
put() { # mode, from, to
    mkdir -p "$(dirname "$3")" && cp "$2" "$3.new" && chmod "$1" "$3.new" && mv -f "$3.new" "$3" ||
        fail "could not write $3"
    say "  wrote $3"
    changed=yes
}

joined() { [ -s "$state/identity.json" ]; }

# Leaves the token in $work/token, which only this user can read.
read_token() {
    if [ -n "$token_from" ] && [ "$token_from" != - ]; then
        [ -r "$token_from" ] || fail "cannot read the token file $token_from"
        cat "$token_from" >"$work/token"
    elif [ "$token_from" = - ]; then
        cat >"$work/token"
    elif [ -n "${REEVE_JOIN_TOKEN:-}" ]; then
        printf '%s\n' "$REEVE_JOIN_TOKEN" >"$work/token"
    elif [ -t 0 ]; then
        printf 'Join token (from "reeve tokens create"; it is not shown): '
        stty -echo 2>/dev/null
        read -r line
        stty echo 2>/dev/null
        printf '\n'
        printf '%s\n' "$line" >"$work/token"
    else
        fail "this machine has not joined yet and there is no token. Give --token-file FILE, --token-stdin or REEVE_JOIN_TOKEN."
    fi
    grep -q '^[[:space:]]*rv_join_' "$work/token" ||
        fail "that is no join token: it has to start with rv_join_. Make one with 'reeve tokens create'."
    [ -z "$pin" ] || grep -q "_${pin}_" "$work/token" ||
        fail "this token is for another coordinator: its CA pin is not $pin. Nothing was changed."
}

join_coordinator() {
    set -- enroll "$url" --token-file "$work/token" --state "$state"
    [ -z "$name" ] || set -- "$@" --name "$name"
    "$program" "$@" || fail "the machine did not join (see above). Program and unit are in place; run this again with a good token."
    changed=yes
}

start_service() {
    if ! has_systemd; then
        [ -n "$root" ] || say "No systemd here. Start the agent with: $program run"
        return
    fi
    [ "$start" = yes ] || return
    if [ "$changed" = yes ]; then
        systemctl daemon-reload
        systemctl enable reeve-agent.service >/dev/null 2>&1 || fail "systemctl enable reeve-agent failed"
        systemctl restart reeve-agent.service ||
            fail "the agent did not start. See: journalctl -u reeve-agent -n 50"
        say "  started reeve-agent.service"
    elif ! systemctl is-active --quiet reeve-agent.service; then
        systemctl enable --now reeve-agent.service || fail "systemctl enable --now reeve-agent failed"
        say "  started reeve-agent.service"
        changed=yes
    fi
}

connect() {
    need_tools
    read_address
    find_architecture
    umask 077
    work=$(mktemp -d) || fail "no temporary folder could be made"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    find_authority
    choose_name
    fetch_manifest
}

check() {
    connect
    if [ -n "$pin" ]; then
        say "Coordinator: $url answers, and its CA has the pin."
    else
        say "Coordinator: $url answers, and this machine trusts its certificate."
    fi
    [ -z "$by_name" ] || say "  (verified as $internal_name: the address is not in its certificate)"
    if is_current "$agent" "$program"; then say "Program:     up to date"; else say "Program:     would be written to $program"; fi
    if is_current reeve-agent.service "$unit"; then say "Unit:        up to date"; else say "Unit:        would be written to $unit"; fi
    if [ -f "$policy" ]; then say "Policy:      $policy stays as it is"; else say "Policy:      a first one would be written to $policy"; fi
    if joined; then say "Identity:    this machine has joined"; else say "Identity:    would join with a token"; fi
    if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then say "Rights:      installing into / needs root"; fi
}

install_agent() {
    need_root
    connect
    joined || read_token
    changed=no
    is_current "$agent" "$program" || new_program=yes
    is_current reeve-agent.service "$unit" || new_unit=yes
    # Download and compare all of it before the first change.
    [ -z "${new_program:-}" ] || fetch_verified "$agent" "$work/agent"
    [ -z "${new_unit:-}" ] || fetch_verified reeve-agent.service "$work/unit"
    [ -f "$policy" ] || fetch_verified agent.toml "$work/policy"

    say "Reeve agent for $url"
    umask 022
    [ -z "${new_program:-}" ] || put 0755 "$work/agent" "$program"
    [ -z "${new_unit:-}" ] || put 0644 "$work/unit" "$unit"
    [ -f "$policy" ] || put 0644 "$work/policy" "$policy"
    umask 077
    [ -d "$state" ] || mkdir -p "$state" || fail "could not make $state"
    joined || join_coordinator
    start_service
    if [ "$changed" = yes ]; then say "Done."; else say "Everything is up to date; nothing was changed."; fi
}

uninstall_agent() {
    need_root
    changed=no
    if has_systemd && [ -f "$unit" ]; then
        systemctl disable --now reeve-agent.service >/dev/null 2>&1 ||
            warn "systemctl disable --now reeve-agent failed; going on"
    fi
    set -- "$program" "$unit"
    [ "$action" = uninstall ] || set -- "$@" "$policy" "$state"
    for path in "$@"; do
        [ -e "$path" ] || continue
        rm -rf "$path" || fail "could not remove $path"
        say "  removed $path"
        changed=yes
    done
    if has_systemd; then systemctl daemon-reload; fi
    if [ "$action" = purge ]; then rmdir "$root/etc/reeve" 2>/dev/null; fi
    if [ "$changed" = no ]; then
        say "There was nothing to remove."
    elif [ "$action" = purge ]; then
        say "Removed. The coordinator still knows the machine: 'reeve machines remove NAME' forgets it."
    else
        say "Removed. Identity ($state) and policy ($policy) stay; --purge removes them too."
    fi
    say "Commands that were running go on to their end."
}

main() {
    read_options "$@"
    case $action in
    install) install_agent ;;
    check) check ;;
    uninstall | purge) uninstall_agent ;;
    esac
}

main "$@"
