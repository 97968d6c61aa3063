#!/bin/sh
# Installs what the tests need and the machine lacks. Says what and why, changes nothing when all
# is there, and ends with the exact command to type where it may not install.
set -eu

missing=""
why=""

need() { # package, reason, then the command that shows whether it is there
    package=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing="$missing $package"
        why="$why
  $package: $reason"
    fi
}

have() { command -v "$1"; }
has_faketime() { ls /usr/lib/*/faketime/libfaketimeMT.so.1; }
has_postgres() { have initdb || ls /usr/lib/postgresql/*/bin/initdb; }

need postgresql "every story about the database runs on a throw-away PostgreSQL server too" has_postgres
need curl "installer/install.sh downloads with it, and its test runs it" have curl
need openssl "installer/install.sh checks the coordinator's CA pin with it" have openssl
need busybox "installer/install.sh has to work in BusyBox's shell" have busybox
need dash "installer/install.sh has to work in dash" have dash
need util-linux "tests take the cgroups away from an agent with unshare(1)" have unshare
need gcc "some crates build C, and so are the attacks on inspect mode" have cc
need dbus "inspect mode's way to the system bus is tried on a real bus" have dbus-daemon
need systemd "a real client, busctl, speaks on that bus; journalctl has to be able to look" have busctl
need systemd-journal-remote "it makes real journals of test entries, which logs are read from" test -x /lib/systemd/systemd-journal-remote
need xz-utils "older logs that were packed are read, too" have xz
need zstd "and those that were packed with zstd" have zstd
need iproute2 "inspect mode has to let ip and ss look, and stories make networks with it" have ss
need faketime "some stories run programs whose clock is wrong" has_faketime
need procps "inspect mode has to let ps and free look" have ps
need openssh-server "tunnels lead to a real sshd, and it is what the benchmark measures against" test -x /usr/sbin/sshd
need openssh-client "ssh, scp and ssh-keygen go through tunnels" have ssh-keygen
need rsync "so does rsync" have rsync
need lsof "inspect mode has to let lsof look" have lsof

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "This machine has no apt-get. Install these by its own means, then run make again:$missing" >&2
        return 1
    fi
    as_root=""
    if [ "$(id -u)" != 0 ]; then
        if sudo -n true 2>/dev/null; then
            as_root="sudo"
        else
            echo "Installing needs root, and sudo asks for a password here. Run this, then make again:" >&2
            echo "    sudo apt-get update && sudo apt-get install --no-install-recommends -y$missing" >&2
            return 1
        fi
    fi
    apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@"; }
    # Package lists may never have been fetched, or be too old to be true: fetch them once.
    first=${missing# }
    first=${first%% *}
    if ! apt-cache show "$first" >/dev/null 2>&1; then
        apt update
    fi
    case " $missing " in
    *" postgresql "*)
        # Debian would make and start a server of its own. The tests start theirs, so tell it not to;
        # the setting has to be there before the server's package is.
        apt install --no-install-recommends postgresql-common || { apt update && apt install --no-install-recommends postgresql-common; }
        $as_root sed -i 's/^#\{0,1\} *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
        ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    apt install --no-install-recommends $missing || { apt update && apt install --no-install-recommends $missing; }
}

if [ -n "$missing" ]; then
    echo "The tests need what this machine lacks:$why"
    install_packages
fi

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "cargo-nextest is missing; it runs each test in a process of its own, so that one test's"
    echo "leftovers cannot touch another. Installing it from crates.io takes some minutes, once."
    if ! cargo install cargo-nextest --locked; then
        echo "cargo-nextest could not be installed (see above). The tests will run with plain 'cargo test'." >&2
    fi
fi

# Not installed unasked: it needs another compiler, and building the targets takes minutes.
if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
    echo "Optional: a nightly compiler (rustup toolchain install nightly) and cargo-fuzz (cargo install"
    echo "cargo-fuzz --locked) try what reads others' bytes with nonsense; without them that step is left out."
fi

echo "Prerequisites: all there."
