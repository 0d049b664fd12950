# All three cameras at once, and whether the labels are those of `cfvit classify`.
# shellcheck shell=bash

cameras() {
    configure vivid photo usb
    M=$(mark)
    restart
    for camera in vivid photo usb; do frames_from "frames from $camera" 90 "$camera"; done
    wait_for "the status line tells frames/s, latency, fine, watts and millijoules" 60 \
        status 'cam usb: [0-9.]+ frames/s, p99 [0-9]+ ms, fine [0-9]+ %.* W, .* mJ/frame'
    check "the cameras' nodes are the only video devices that the sandbox needs" in_guest \
        'systemctl show -p DeviceAllow cfvit | grep -q char-video4linux'
}

# feed: the photo camera's program starts again. The loopback driver (0.12.7) does not notice that a feeder which writes has gone, and
# refuses the next one as soon as somebody asks for the node's capabilities meanwhile: so it is loaded anew.
feed() {
    in_guest 'systemctl stop photo-camera
        for i in $(seq 20); do modprobe -r v4l2loopback && break; sleep 0.5; done 2>/dev/null
        modprobe v4l2loopback && systemctl reset-failed photo-camera; systemctl start photo-camera'
}

# swap N: picture N on the USB camera (unplugged, plugged) and on the photo camera
swap() {
    vm usb unplug
    rm -rf "$EDGE_VM_RUN/photos" "$EDGE_VM_RUN/frames" && mkdir -p "$EDGE_VM_RUN/photos" "$EDGE_VM_RUN/frames"
    cp "$WORK/photos/$1/0.jpg" "$EDGE_VM_RUN/photos/0000.jpg"
    "${EDGE_VM_CACHE:-$HOME/.cache/edge-vm}/tools/photo-camera.host" -o "$EDGE_VM_RUN/frames" -s 640x480 -n 1 "$EDGE_VM_RUN/photos"
    in_guest 'systemctl stop photo-camera; rm -f /var/lib/photos/*' &&
        vm push "$EDGE_VM_RUN/photos/0000.jpg" /var/lib/photos/ && feed && vm usb plug
}

# Twenty times the cable is pulled and plugged in again, with another picture each time; the bundled model decides.
cycles() {
    local n restarts first last agree_usb=0 agree_photo=0 compared=0 back=0 truth
    MODEL=bundled THRESHOLD='"model"' configure photo usb
    restart
    restarts=$(figure 4)
    for n in $(seq 1 20); do
        swap $((n % PHOTOS)) || failed "cycle $n: the cameras of the machine" 0
        M=$(mark)
        EDGE_VM_TIMEOUT=400 guest until 60 frames usb "$M" 2 && back=$((back + 1))
        [ "$n" != 5 ] || first=$(guest figures)
        if [ "$n" -le 10 ]; then
            guest until 60 frames photo "$M" 2
            truth=$(target/release/cfvit classify --json "$EDGE_VM_RUN/frames/0000.jpg" 2>/dev/null | sed -n 's/.*"label":\([0-9]*\).*/\1/p' | head -n 1)
            compared=$((compared + 1))
            [ "$(guest labels usb "$M" | tail -n 1)" = "$truth" ] && agree_usb=$((agree_usb + 1))
            [ "$(guest labels photo "$M" | tail -n 1)" = "$truth" ] && agree_photo=$((agree_photo + 1))
        fi
    done
    last=$(guest figures)
    check "20 times unplugged and plugged: frames again each time ($back)" [ "$back" = 20 ]
    check "the USB camera's labels are those of classify: $agree_usb of $compared" [ "$agree_usb" -ge 9 ]
    check "the photo camera's labels are those of classify: $agree_photo of $compared" [ "$agree_photo" -ge 9 ]
    check "no restart meanwhile" [ "${last##* }" = "$restarts" ]
    # shellcheck disable=SC2086
    flat $first $last
}

# flat PID RSS FILES RESTARTS PID RSS FILES RESTARTS: of the same process, early and late
flat() {
    check "open files are flat over the cycles: $3, then $7" [ "$1:$3" = "$5:$7" ]
    check "RSS is flat over the cycles: $2 KiB, then $6 KiB (at most 1 MiB more)" [ "$6" -le $(($2 + 1024)) ]
}
