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

# show N: picture N on the photo camera, and on the USB camera as soon as that is plugged in
show() {
    rm -rf "$EDGE_VM_RUN/photos" "$EDGE_VM_RUN/frames" && mkdir -p "$EDGE_VM_RUN/photos" "$EDGE_VM_RUN/frames"
    cp "$WORK/photos/$1/0.jpg" "$EDGE_VM_RUN/photos/0000.jpg"
    "${EDGE_VM_CACHE:-$HOME/.cache/edge-vm}/tools/photo-camera.host" -o "$EDGE_VM_RUN/frames" -s 640x480 -n 1 "$EDGE_VM_RUN/photos" &&
        vm push "$EDGE_VM_RUN/photos/0000.jpg" /var/lib/photos/ && feed
}

# Twenty times the cable is pulled and plugged in again, with another picture at each of the first ten; the bundled model decides (its
# coarse stage: a fine pass takes ten seconds under emulation).
cycles() {
    local n restarts first last agree_usb=0 agree_photo=0 back=0 truth found
    MODEL=bundled configure photo usb
    restart
    restarts=$(figure 4)
    for n in $(seq 1 20); do
        vm usb unplug
        [ "$n" -gt 10 ] || show $((n % PHOTOS)) || failed "cycle $n: the machine's cameras" 0
        vm usb plug || failed "cycle $n: the machine's USB camera" 0
        M=$(mark)
        EDGE_VM_TIMEOUT=400 guest until 60 frames usb "$M" 2 && back=$((back + 1))
        [ "$n" != 5 ] || first=$(guest figures)
        [ "$n" -le 10 ] || continue
        truth=$(target/release/cfvit classify --threshold 0 --json "$EDGE_VM_RUN/frames/0000.jpg" 2>/dev/null | grep -o '"label":[0-9]*' | head -n 1 | cut -d: -f2)
        found=$(EDGE_VM_TIMEOUT=400 in_guest "guest until 60 frames photo $M 2; echo usb=\$(guest labels usb $M | tail -n 1) photo=\$(guest labels photo $M | tail -n 1)")
        echo "     cycle $n: classify says $truth, $found"
        case $found in "usb=$truth "*) agree_usb=$((agree_usb + 1)) ;; esac
        case $found in *" photo=$truth") agree_photo=$((agree_photo + 1)) ;; esac
    done
    last=$(guest figures)
    check "20 times unplugged and plugged: frames again each time ($back)" [ "$back" = 20 ]
    check "the USB camera's labels are those of classify: $agree_usb of 10" [ "$agree_usb" -ge 9 ]
    check "the photo camera's labels are those of classify: $agree_photo of 10" [ "$agree_photo" -ge 9 ]
    check "no restart meanwhile" [ "${last##* }" = "$restarts" ]
    # shellcheck disable=SC2086
    flat $first $last
}

# flat PID RSS FILES RESTARTS PID RSS FILES RESTARTS: of the same process, early and late
flat() {
    check "open files are flat over the cycles: $3, then $7" [ "$1:$3" = "$5:$7" ]
    check "RSS is flat over the cycles: $2 KiB, then $6 KiB (at most 1 MiB more)" [ "$6" -le $(($2 + 1024)) ]
}
