# Sourced by tests/vm/run: checks, and what they are made of.
# shellcheck shell=bash

pass=0 fail=0
vm() { "$EDGE_VM/edge-vm" "$@"; }
guest() { vm ssh "guest $(printf '%q ' "$@")"; }
in_guest() { vm ssh "$1"; }
mark() { guest mark; }

passed() { printf 'PASS %-78s %4d s\n' "$1" "$2"; pass=$((pass + 1)); }
failed() {
    printf 'FAIL %-78s %4d s\n' "$1" "$2"
    fail=$((fail + 1))
    in_guest "systemctl show -p ActiveState,SubState,NRestarts,StatusText cfvit; journalctl -u cfvit -n 15 --no-pager -o short-precise" | sed 's/^/     /'
}
# check NAME COMMAND…: here, now
check() {
    local name=$1 start=$SECONDS
    shift
    if "$@"; then passed "$name" $((SECONDS - start)); else failed "$name" $((SECONDS - start)); fi
}
# wait_for NAME SECONDS COMMAND…: in the guest, by the guest's clock
wait_for() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    if EDGE_VM_TIMEOUT=$((limit * 3 + 60)) guest until "$limit" "$@"; then passed "$name" $((SECONDS - start)); else failed "$name" $((SECONDS - start)); fi
}
frames_from() { wait_for "$1" "$2" frames "$3" "$M" "${4:-3}"; }
said() { wait_for "$1" "$2" said "$M" "$3"; }

# figure N: column N of `guest figures`
figure() { guest figures | cut -d' ' -f"$1"; }
pid() { figure 1; }
# How often a check made systemd start the service again.
restarts_asked=0

# configure CAMERA…: the configuration for the cameras (of vivid, photo, usb). Environment: MODEL ("bundled", or a path in the guest;
# default a small one that is fast under emulation), THRESHOLD, USB_FORMAT ("&format=MJPEG"), EXTRA (more of the file). Emulation is slow: five
# frames a second, coarse answers only, a report every three seconds
configure() {
    local camera options
    {
        printf '[model]\npath = "%s"\n[gate]\nthreshold = %s\n' "${MODEL:-$FAST}" "${THRESHOLD:-0}"
        for camera; do
            options=
            [ "$camera" = photo ] || options='?fps=5'
            [ "$camera" != usb ] || options="$options${USB_FORMAT:-}"
            printf '[[camera]]\nname = "%s"\nsource = "v4l2:///dev/cam-%s%s"\n' "$camera" "$camera" "$options"
        done
        printf '[report]\ninterval_s = 3\n[records]\npath = "/var/lib/cfvit/records.jsonl"\n[power]\nidle_s = 2\n%s\n' "${EXTRA:-}"
    } >"$WORK/cfvit.toml"
    vm push "$WORK/cfvit.toml" /etc/cfvit/cfvit.toml
}
# restart: by us, so it counts for nothing
restart() { in_guest 'systemctl restart cfvit'; }
