# The page through the sandbox, which has no network, and the way out, which stays shut until somebody opens it.
# shellcheck shell=bash

# The socket's own, unless something listens there on this side: the forwarded port has the same number on both.
PORT=8632
# ask PATH [CURL-ARGUMENTS]: of the machine's page, from here, through the forwarded port
ask() { curl -sS --max-time 60 "${@:2}" "http://127.0.0.1:$PORT$1"; }
code() { ask "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }
# api CURL-ARGUMENTS: in the machine, over the unix socket
api() { in_guest "curl -sS --max-time 60 --unix-socket /run/cfvit/api.sock -H 'X-Cfvit: 1' -H 'Content-Type: application/json' $*"; }

page() {
    local before
    configure vivid usb
    while (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do
        PORT=$((20000 + RANDOM % 10000))
        in_guest "mkdir -p /etc/systemd/system/cfvit.socket.d
            printf '[Socket]\nListenStream=127.0.0.1:%s\n' $PORT >/etc/systemd/system/cfvit.socket.d/port.conf
            systemctl daemon-reload; systemctl stop cfvit"
    done
    M=$(mark)
    restart
    frames_from "page: frames" 60 usb && frames_from "page: frames of the other camera" 60 vivid
    before=$(pid)
    check "page: systemd holds the sockets and started the service with them" in_guest \
        'systemctl is-active --quiet cfvit.socket && systemctl show -p TriggeredBy --value cfvit | grep -q cfvit.socket'
    check "page: PrivateNetwork=yes, and the process has no interface but loopback" in_guest \
        "systemctl show -p PrivateNetwork --value cfvit | grep -qx yes && test \$(nsenter -t $before -n ip -o link | wc -l) = 1"
    vm forward $PORT || failed "page: the port is forwarded" 0
    check "page: it is served" grep -q '<title' <(ask /)
    check "page: nobody else's: a foreign host's name is refused" [ "$(code / -H 'Host: evil.example')" = 421 ]
    check "page: /readyz says ready" [ "$(ask /readyz)" = ready ]
    # A picture comes with the next decision, which emulation may keep waiting longer than the page does.
    ask /cameras/usb/frame.jpg --fail --retry 20 --retry-delay 1 -o "$WORK/frame.jpg" 2>/dev/null
    check "page: a picture of the camera" [ "$(head -c 3 "$WORK/frame.jpg" | od -An -tx1 | tr -d ' ')" = ffd8ff ]
    check "page: an event per decision" grep -qm 1 'event: decision' <(timeout 60 curl -sSN "http://127.0.0.1:$PORT/api/events?camera=usb" 2>/dev/null)
    metrics
    thresholds
    check "page: systemd-analyze security is still at most 2.0" in_guest 'systemd-analyze security --threshold=20 cfvit.service >/dev/null'
    echo "     $(in_guest 'systemd-analyze security --no-pager cfvit.service | tail -n 1')"
    vm usb unplug
    wait_for "page: without its camera /readyz says which" 40 sh -c "curl -s http://127.0.0.1:$PORT/readyz | grep -q 'camera usb'"
    check "page: and answers 503" [ "$(code /readyz)" = 503 ]
    vm usb plug
    check "page: the same process through all of it" [ "$(pid)" = "$before" ]
    # systemd keeps the socket: whoever asks while the service starts anew gets an answer, late.
    in_guest 'systemctl restart --no-block cfvit'
    check "page: asked during a restart, it answers" [ "$(code /healthz)" = 200 ]
    in_guest 'systemctl stop cfvit'
    check "page: a stopped service does not come back because somebody looks" in_guest \
        "! curl -sS --max-time 5 http://127.0.0.1:$PORT/ 2>/dev/null && ! systemctl is-active --quiet cfvit"
    way_out
}

# Counters and a format that Prometheus takes.
metrics() {
    ask /metrics >"$WORK/metrics.txt"
    check "metrics: captured = decided + dropped + failed + in flight, for each camera" awk -F'[{} ]' '
        /^cfvit_(frames_(captured|dropped|failed)|decisions)_total\{/ || /^cfvit_frames_in_flight\{/ {
            match($0, /camera="[^"]*"/); camera = substr($0, RSTART, RLENGTH)
            sum[camera] += ($0 ~ /captured/ ? 1 : -1) * $NF; if ($0 ~ /captured/) cameras++ }
        END { for (camera in sum) bad += sum[camera] != 0; exit (cameras != 2 || bad) }' "$WORK/metrics.txt"
    if command -v promtool >/dev/null; then
        check "metrics: promtool takes them" promtool check metrics <"$WORK/metrics.txt"
    else
        echo "     skipped: no promtool here"
    fi
}

# Who may change something: the unix socket's group, nobody over TCP.
thresholds() {
    check "api: over TCP a threshold cannot be set" [ "$(code /api/cameras/usb/threshold -X PUT -H 'X-Cfvit: 1' \
        -H 'Content-Type: application/json' -d '{"threshold": 1.5}')" = 403 ]
    check "api: a user outside the group cannot open the unix socket" in_guest \
        '! setpriv --reuid=65534 --regid=65534 --clear-groups curl -sS --max-time 5 --unix-socket /run/cfvit/api.sock http://localhost/healthz 2>/dev/null'
    check "api: the unix socket sets a threshold" grep -q '1.5' <(api -X PUT -d "'{\"threshold\": 1.5}'" http://localhost/api/cameras/usb/threshold)
    wait_for "api: it is in force (everything is refined)" 40 status 'cam usb: .*fine 100 %'
    check "api: and takes it back" grep -q '"threshold"' <(api -X DELETE http://localhost/api/cameras/usb/threshold)
    wait_for "api: the configuration's is in force again" 40 status 'cam usb: .*fine 0 %'
}

# MQTT: shut out with a hint, let out by the drop-in that the package brings.
way_out() {
    local broker=$((20000 + RANDOM % 10000)) pid=
    EXTRA=$(printf '[mqtt]\nbroker = "127.0.0.1:%s"\n' $broker) configure vivid usb
    M=$(mark)
    restart
    said "mqtt: without the drop-in it fails, and a hint names the drop-in" 60 'network\.conf says how to open it'
    frames_from "mqtt: without the drop-in the frames go on" 60 usb
    in_guest 'install -D -m 644 /usr/share/cfvit/network.conf /etc/systemd/system/cfvit.service.d/network.conf && systemctl daemon-reload'
    M=$(mark)
    if command -v mosquitto >/dev/null && command -v mosquitto_sub >/dev/null; then
        printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n' $broker >"$WORK/mosquitto.conf"
        mosquitto -c "$WORK/mosquitto.conf" >"$WORK/mosquitto.log" 2>&1 &
        pid=$!
        vm reverse $broker || failed "mqtt: the broker's port is there in the machine" 0
        restart
        check "mqtt: with the drop-in a broker gets the states of both cameras" \
            sh -c "timeout 90 mosquitto_sub -p $broker -t 'cfvit/+/+/state' -C 2 -F '%t' | sort -u | grep -c state | grep -qx 2"
        kill $pid
    else
        echo "     skipped: no mosquitto here; the drop-in is tried without a broker"
        restart
        said "mqtt: with the drop-in it gets as far as the machine's own refusal" 60 'refused'
    fi
    check "mqtt: with the drop-in no hint" in_guest "! guest said $M 'network\.conf'"
    echo "     with the drop-in: $(in_guest 'systemd-analyze security --no-pager cfvit.service | tail -n 1')"
    in_guest 'rm -rf /etc/systemd/system/cfvit.service.d/network.conf /etc/systemd/system/cfvit.socket.d; systemctl daemon-reload'
    configure vivid usb
    restart
}
