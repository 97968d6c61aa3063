#!/bin/sh
# The whole of Reeve on one machine, before your eyes. Everything it makes is in ./demo-data.
#   BIN    where the programs were built            ONCE=1  stop when the tour is over
#   `demo.sh clean` stops what still runs and removes the folder.
set -u

project=$(cd "$(dirname "$0")/../.." && pwd)
demo=$project/demo-data
here=${demo#"$(pwd)/"}
port=${REEVE_DEMO_PORT:-7717}
failures=0

# --- how things look ---------------------------------------------------------------------------

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
else
    bold='' dim='' green='' red='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
good() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
bad() {
    printf '  %s✗ %s%s\n' "$red" "$*" "$plain"
    failures=$((failures + 1))
}
give_up() {
    bad "$*"
    for log in "$demo"/log/*.log; do
        if [ -s "$log" ]; then
            note "--- the end of $log"
            tail -n 15 "$log"
        fi
    done
    exit 1
}

# --- what runs ---------------------------------------------------------------------------------

# Every process of the demo was started with its folder among its arguments or in its environment:
# the coordinator, the agents, their keepers. Commands are their keepers' children.
processes() {
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        [ "$pid" != $$ ] || continue
        if { tr '\0' '\n' <"$folder/cmdline"; tr '\0' '\n' <"$folder/environ"; } 2>/dev/null | grep -qF "$demo/"; then
            # Only programs of ours: a pager or editor somebody opened on the folder is not.
            case $(readlink "$folder/exe" 2>/dev/null) in
            */reeve-coordinator* | */reeve-agent*) echo "$pid" ;;
            esac
        fi
    done
}

# Descendants of the processes given, which are the commands and whatever they started.
below() {
    known=" $* "
    grown=yes
    while [ "$grown" = yes ]; do
        grown=no
        for stat in /proc/[0-9]*/stat; do
            line=$(cat "$stat" 2>/dev/null) || continue
            rest=${line##*) }
            pid=${line%% *}
            parent=$(echo "$rest" | cut -d ' ' -f 2)
            case $known in
            *" $pid "*) ;;
            *" $parent "*)
                known="$known$pid "
                echo "$pid"
                grown=yes
                ;;
            esac
        done
    done
}

cgroups() {
    mount=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
    for pid in "$@"; do
        own=$(sed -n 's/^0:://p' "/proc/$pid/cgroup" 2>/dev/null)
        case $own in
        */reeve-*/agent) echo "$mount${own%/agent}" ;;
        esac
    done | sort -u
}

stop_all() {
    ours=$(processes)
    [ -n "$ours" ] || return 0
    # shellcheck disable=SC2086 # lists of ids
    groups=$(cgroups $ours)
    # shellcheck disable=SC2086
    kill -TERM $ours 2>/dev/null
    waited=0
    # The coordinator says goodbye; keepers of commands that still run do not go by themselves.
    while [ -n "$(processes)" ] && [ $waited -lt 20 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    while :; do
        ours=$(processes)
        [ -n "$ours" ] || break
        # shellcheck disable=SC2086
        kill -KILL $(below $ours) $ours 2>/dev/null
    done
    for group in $groups; do
        if [ -e "$group/cgroup.kill" ]; then
            echo 1 >"$group/cgroup.kill" 2>/dev/null
            tries=0
            while [ -d "$group" ] && [ $tries -lt 50 ]; do
                find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
                [ ! -d "$group" ] || sleep 0.1
                tries=$((tries + 1))
            done
        fi
    done
}

clean() {
    stop_all
    if [ -d "$demo" ]; then
        rm -rf "$demo"
        echo "Removed $demo"
    else
        echo "There is no demo to remove."
    fi
}

# Waits for a condition: seconds, then a command.
await() {
    limit=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        limit=$((limit - 1))
        [ $limit -gt 0 ] || return 1
        sleep 0.05
    done
}

# --- the programs, told to stay inside the folder ----------------------------------------------

reeve() { XDG_CONFIG_HOME="$demo/config" "$BIN/reeve" "$@"; }

show() { # shows the command as typed, runs it
    printf '\n  %s$ reeve' "$bold"
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9@=._/,:%+-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '%s\n' "$plain"
    # Live: what arrives is shown when it arrives.
    {
        reeve "$@" 2>&1
        echo $? >"$demo/tmp/code"
    } | tee "$demo/tmp/out" | sed -u 's/^/    /'
    code=$(cat "$demo/tmp/code")
    note "    exit code $code"
}

expect_code() { if [ "$code" = "$1" ]; then good "$2"; else bad "$2: expected exit code $1, got $code"; fi; }
expect_text() { if grep -qF -- "$1" "$demo/tmp/out"; then good "$2"; else bad "$2: '$1' is missing"; fi; }

start_agent() { # name
    "$BIN/reeve-agent" run --state "$demo/machines/$1" --config "$demo/machines/$1.toml" \
        >>"$demo/log/agent-$1.log" 2>&1 </dev/null &
    echo $! >"$demo/tmp/$1.pid"
}

is_online() { [ "$(reeve machines list -o json 2>/dev/null | grep -c '"state": *"online"')" -ge "$1" ]; }

prepare() {
    [ -z "$(processes)" ] || {
        note "A demo from before still runs; stopping it."
        stop_all
    }
    rm -rf "$demo"
    mkdir -p "$demo/tmp" "$demo/log" "$demo/machines" && chmod 700 "$demo" || exit 1
    (umask 077 && od -An -N12 -tx1 /dev/urandom | tr -d ' \n' >"$demo/password")
}

start_coordinator() {
    "$BIN/reeve-coordinator" --data "$demo/coordinator" --listen "127.0.0.1:$port" \
        --config "$demo/coordinator.toml" >"$demo/log/coordinator.log" 2>&1 </dev/null &
    coordinator=$!
    if await 30 test -s "$demo/coordinator/coordinator.url"; then return; fi
    if ! kill -0 $coordinator 2>/dev/null && [ "$port" != 0 ] && grep -qi 'address already in use\|taken' "$demo/log/coordinator.log"; then
        note "  Port $port is taken on this machine; using a free one."
        port=0
        start_coordinator
        return
    fi
    give_up "the coordinator did not start"
}

tour() {
    title "A coordinator on an embedded SQLite file"
    : >"$demo/coordinator.toml"
    start_coordinator
    url=$(cat "$demo/coordinator/coordinator.url")
    pin=$(cat "$demo/coordinator/ca.pin")
    good "it listens on $url, and has made itself a certificate authority"
    reeve login "$url" --pin "$pin" --code-file "$demo/coordinator/setup-code" \
        --password-file "$demo/password" >"$demo/log/login.log" 2>&1 || give_up "logging in failed: $(cat "$demo/log/login.log")"
    good "logged in with the one-time code of its first start, which is used up now"

    title "Three machines, each joining over TLS with a token that works once"
    for role in web db edge; do
        name=demo-$role
        (umask 077 && reeve tokens create --name "$name" --label "role=$role" -o name >"$demo/tmp/token" 2>"$demo/tmp/err") ||
            give_up "no token for $name: $(cat "$demo/tmp/err")"
        : >"$demo/machines/$name.toml"
        "$BIN/reeve-agent" enroll "$url" --token-file "$demo/tmp/token" --state "$demo/machines/$name" \
            >"$demo/log/enroll-$name.log" 2>&1 || give_up "$name did not join: $(cat "$demo/log/enroll-$name.log")"
        rm -f "$demo/tmp/token"
        start_agent "$name"
        good "$name joined; the token carried the authority's fingerprint and was sent to nobody else"
    done
    await 20 is_online 3 || give_up "not every machine came online"

    title "Which machines are there?"
    show machines list
    expect_code 0 "three machines answer"

    title "One command on all of them"
    show run @all -- uname -a
    expect_code 0 "all answered"
    expect_text "$(uname -r)" "with this machine's kernel, which is theirs"

    title "One that fails: its exit code is the one you get"
    show run demo-db --shell 'echo "disk check failed" >&2; exit 3'
    expect_code 3 "exit code 3 came back"

    title "One that streams: each line is shown when it is written"
    show run 'role=edge' --shell 'for i in 1 2 3 4 5; do echo "step $i of 5"; sleep 0.2; done'
    expect_code 0 "it came line by line"

    title "One whose agent is killed half-way (kill -9), and started again"
    gate=$demo/tmp/go-on
    rm -f "$gate"
    line="seq 1 1000; until [ -e $gate ]; do sleep 0.05; done; seq 1001 2000; exit 7"
    printf "\n  %s\$ reeve run demo-web --shell 'seq 1 1000; …wait…; seq 1001 2000; exit 7'%s\n" "$bold" "$plain"
    reeve run demo-web --shell "$line" >"$demo/tmp/out" 2>"$demo/tmp/err" &
    running=$!
    await 20 grep -qx 1000 "$demo/tmp/out" || give_up "the first half did not arrive"
    note "    1 … 1000"
    kill -9 "$(cat "$demo/tmp/demo-web.pid")"
    wait "$(cat "$demo/tmp/demo-web.pid")" 2>/dev/null
    note "    agent of demo-web: killed with SIGKILL, half-way"
    touch "$gate"
    start_agent demo-web
    note "    agent of demo-web: started again; it finds the command, still running"
    wait $running
    code=$?
    note "    1001 … $(tail -n 1 "$demo/tmp/out")"
    note "    exit code $code"
    seq 1 2000 >"$demo/tmp/expected"
    if cmp -s "$demo/tmp/out" "$demo/tmp/expected"; then
        good "all 2000 lines arrived, each once, in order ($(wc -c <"$demo/tmp/out") bytes compared)"
    else
        bad "the output differs: $(wc -l <"$demo/tmp/out") lines of 2000"
    fi
    expect_code 7 "and its own exit code"

    title "A question in words: planned without any model, run where the kernel lets it change nothing"
    show ask @all 'how full are the disks?'
    expect_code 0 "every step did what was expected"
    expect_text "Plan by builtin" "the plan came from the runbooks inside the coordinator"
    expect_text "Summary" "and was summed up, with quotes that stand where they say"

    title "A change in words: it waits for a yes to its exact bytes"
    mkdir -p "$demo/tmp/etc" && echo 'listen = 80' >"$demo/tmp/etc/app.conf"
    words="make a backup of $demo/tmp/etc/app.conf"
    printf "\n  %s\$ reeve ask demo-db '%s'%s\n" "$bold" "$words" "$plain"
    reeve ask demo-db "$words" --wait >"$demo/tmp/out" 2>"$demo/tmp/err" &
    running=$!
    await 20 is_waiting || give_up "nothing waits for a yes: $(cat "$demo/tmp/out" "$demo/tmp/err")"
    sed 's/^/    /' "$demo/tmp/out"
    if [ "$(ls "$demo/tmp/etc")" = app.conf ]; then good "nothing has been changed yet"; else bad "it ran before the yes"; fi
    task=$(reeve tasks list -o name | head -n 1)
    show tasks approve "$task" --yes
    expect_code 0 "said yes to exactly these bytes, on this machine, once"
    wait $running
    code=$?
    show tasks show "$task"
    expect_text "Summary" "what was done is summed up, and how to take it back"
    if [ "$(ls "$demo/tmp/etc" | wc -l)" = 2 ]; then good "the backup is there: $(ls "$demo/tmp/etc" | grep -v '^app.conf$')"; else bad "there is no backup"; fi

    title "Files: copied, overwritten by mistake, and brought back"
    files=$demo/tmp/srv
    mkdir -p "$files"
    show cp "$demo/tmp/etc/app.conf" "demo-web:$files/"
    expect_code 0 "it is there, compared by BLAKE3 before it got its name"
    echo 'listen = 8080' >"$demo/tmp/etc/app.conf"
    show cp "$demo/tmp/etc/app.conf" "demo-web:$files/"
    expect_code 0 "overwritten; the machine keeps what was there"
    show files diff "demo-web:$files/app.conf"
    expect_text "-listen = 80" "the version before is compared with what is there"
    show files restore --yes "demo-web:$files/app.conf"
    show files cat "demo-web:$files/app.conf"
    if [ "$(cat "$files/app.conf")" = 'listen = 80' ]; then good "it is what it was"; else bad "it was not brought back"; fi

    title "Logs of all machines in one, and how busy they are"
    for number in 1 2 3 4; do
        echo "2026-11-21T09:00:0${number}Z app[7]: ERROR upstream $number timed out after 30 s" >>"$files/app.log"
    done
    show logs @all -f "$files/app.log" --grep upstream --since 2026-11-20
    expect_text "demo-edge" "lines come in the order of time, with the machine's name"
    show logs demo-db -f "$files/app.log" --errors --since 2026-11-20
    show top @all
    expect_code 0 "one look, because this is no terminal; on one it goes on"
}

is_waiting() { reeve tasks list -o json 2>/dev/null | grep -q '"state": *"awaiting_approval"'; }

invite() {
    title "It runs until you press Ctrl-C. In another terminal:"
    cat <<INVITE

  Address   $url
  Log in    export PATH="$(cd "$BIN" && pwd):\$PATH" XDG_CONFIG_HOME="$demo/config"
            (that is logged in already; anywhere else:
             reeve login $url --pin $pin
             as admin, with the password in $here/password)

  Things to try
    reeve run 'role=web' -- df -h /
    reeve run demo-web --shell 'for i in \$(seq 1 2000); do echo \$i; sleep 0.01; done'
        … and meanwhile:  kill -9 \$(pgrep -f 'reeve-agent run.*demo-web')   then start it again:
        reeve-agent run --state $demo/machines/demo-web
    head -c 100M /dev/urandom | reeve run demo-db --stdin -- sha256sum
    reeve run @all --dry-run -- reboot
    reeve ask demo-web 'why is the disk filling up?'
    reeve ask 'role=db' 'what changed since yesterday?'
    reeve shell demo-web          (close it with exit; come back after a cut with --attach)
    reeve top @all
    reeve files edit demo-web:/etc/hosts

  Everything this made is in $here; 'make demo-clean' removes it.
INVITE
}

# --- here it starts ----------------------------------------------------------------------------

if [ "${1:-}" = clean ]; then
    clean
    exit 0
fi
: "${BIN:?where the programs were built; 'make demo' knows}"
case $BIN in /*) ;; *) BIN=$project/$BIN ;; esac
for program in reeve-coordinator reeve-agent reeve; do
    [ -x "$BIN/$program" ] || give_up "$BIN/$program is missing; 'make demo' builds it"
done

note "Everything this makes is in $demo"
prepare
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
tour

if [ -n "${ONCE:-}" ]; then
    stop_all
    left=$(processes)
    title "The end"
    if [ -n "$left" ]; then bad "still running: $left"; else good "everything has stopped; nothing is left running"; fi
    if [ $failures = 0 ]; then good "every step did what it should"; else bad "$failures steps did not do what they should"; fi
    note "Its data is in $here; 'make demo-clean' removes it."
    [ $failures = 0 ]
    exit
fi

invite
[ $failures = 0 ] || bad "$failures steps above did not do what they should"
# Until Ctrl-C, or until the coordinator ends.
wait $coordinator
bad "the coordinator has ended; see $here/log/coordinator.log"
exit 1
