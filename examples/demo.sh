#!/usr/bin/env bash
# A first lesson: a small service is started, asked, scaled, reloaded under load, shown and stopped.
#
#     examples/demo.sh
#
# Everything happens in a temporary directory, on a free port of 127.0.0.1, and nothing of it is
# left, also after Ctrl-C. It needs bash and Rust. With PF_BIN=DIR it uses the programs of that
# directory and builds nothing.
set -euo pipefail

package=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -z "${PF_BIN:-}" ] || PF_BIN=$(cd "$PF_BIN" && pwd)
work=

# However this script ends, its background processes end with it, and the directory is removed.
clean_up() {
    code=$?
    trap '' INT TERM HUP PIPE
    for process in $(jobs -pr); do
        kill -TERM "$process" || true
    done
    wait
    case $code in
    0 | 129 | 130 | 141 | 143) ;;
    *) [ ! -s "$work/log" ] || { echo 'What pf-master said:' && tail -n 20 "$work/log"; } >&2 ;;
    esac
    cd / && rm -rf "$work"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
work=$(mktemp -d)

step() { printf '\n==> %s\n' "$*"; }
run() { printf '    $ %s\n' "$*" && "$@"; }

# Builds the programs and the worker examples/hello.rs.
build() {
    step 'Building; the first time takes a minute or two'
    cd "$package"
    cargo build --bins --examples >"$work/build" 2>&1 || { cat "$work/build" >&2 && exit 1; }
    PF_BIN=$(cargo metadata --no-deps --format-version 1 |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug
}

# One request on a new connection: a line sent, a line received.
ask() {
    {
        printf '%s\n' "$1" >&3
        IFS= read -r -t 10 answer <&3
    } 3<>"/dev/tcp/127.0.0.1/$port"
}

# Asks until the file `enough` exists. Each answer becomes a line with its generation, each failure
# the line `failed`.
keep_asking() {
    trap '' PIPE
    until [ -e enough ]; do
        if ask "client $1" &&
            [[ $answer =~ ^"hello client $1, from slot "[0-9]+", generation "([0-9]+), ]]; then
            echo "generation ${BASH_REMATCH[1]}"
        else
            echo failed
        fi
    done >"answers.$1" 2>"trouble.$1"
}

[ -n "${PF_BIN:-}" ] || build
export PATH="$PF_BIN:$PF_BIN/examples:$PATH"
cd "$work"

step 'Start: each program does one thing to the process and then becomes the next'
echo '    pf-listen binds a port, pf-master forks the workers, and hello is a worker,'
echo '    which accepts on the inherited socket:'
cat <<'END'
    $ pf-listen --port-file ports web=tcp:127.0.0.1:0 -- \
          pf-master -n 2 --pid app.pid -- hello &
END
pf-listen --port-file ports web=tcp:127.0.0.1:0 -- pf-master -n 2 --pid app.pid -- hello >log 2>&1 &
run pf-ctl wait app.pid --ready --timeout 30s
read -r name address <ports
port=${address##*:}
echo "    The listener '$name' is at $address, and every worker is ready."

step 'Ask: whichever worker is free answers'
for _ in 1 2 3; do
    ask world
    echo "    $answer"
done

step 'Scale: four workers instead of two'
run pf-ctl scale app.pid 4

step 'Reload three times, while three clients ask without a break'
clients=()
for client in 1 2 3; do
    keep_asking "$client" &
    clients+=("$!")
done
for _ in 1 2 3; do
    sleep 0.2
    run pf-ctl reload app.pid
done
sleep 0.2
touch enough
wait "${clients[@]}"
echo '    Answers, by the generation of the worker that gave them:'
sort answers.* | uniq -c
if grep -q failed answers.*; then
    sort trouble.* | uniq -c >&2
    exit 1
fi
echo '    0 requests failed.'

step 'Look: a table for people, an exit code for scripts (--json for programs)'
run pf-status app.pid
run pf-status app.pid -q && echo '    exit code 0: every slot has a ready worker'

step 'Stop: workers finish what they have accepted'
run pf-ctl stop app.pid
wait

printf '\nThat is all. Go on with README.md, and with pf-master --help.\n'
