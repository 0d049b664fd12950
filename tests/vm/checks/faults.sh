# Everything that the cameras can do wrong. After each fault its camera decides again, and the others never stop.
# shellcheck shell=bash

vivid_control() { in_guest "v4l2-ctl -d /dev/cam-vivid -c $1"; }
vivid_driver() { in_guest "echo vivid.0 >/sys/bus/platform/drivers/vivid/$1"; }

faults() {
    local lines
    # Damage can be seen in JPEG only.
    USB_FORMAT='&format=MJPEG' configure vivid photo usb
    M=$(mark)
    restart
    for camera in vivid photo usb; do frames_from "frames from $camera" 90 "$camera"; done
    RESTARTS=$(figure 4) FROM=$M
    vivid_faults
    photo_faults
    usb_faults
    # Fifteen faults, with a line or two each at their begin and end.
    lines=$(guest times "$FROM" 'camera /dev/cam-')
    check "the faults made a line per episode, not per frame: $lines" [ "${lines:-1000}" -lt 80 ]
    check "none of the faults needed a restart" [ "$(figure 4)" = "$RESTARTS" ]
}

vivid_faults() {
    local lines
    M=$(mark) && vivid_control inject_v4l2_buf_flag_error=1
    said "vivid: a flagged buffer is dropped and counted" 30 'cam-vivid.*(damaged)|failed [1-9][0-9]* \([1-9]'
    M=$(mark) && vivid_control percentage_of_dropped_buffers=50
    frames_from "vivid: half of the buffers dropped by the driver: frames go on" 40 vivid
    vivid_control percentage_of_dropped_buffers=0
    M=$(mark) && vivid_control inject_fatal_streaming_error=1
    said "vivid: a fatal streaming error is a lost camera" 30 'cam-vivid lost'
    said "vivid: it comes back by itself" 60 'cam-vivid gives frames'
    M=$(mark) && vivid_control disconnect=1
    said "vivid: the control Disconnect is a lost camera" 30 'cam-vivid lost'
    frames_from "vivid: the other cameras go on" 40 usb
    in_guest 'sleep 1' && vivid_driver unbind && vivid_driver bind
    M=$(mark)
    frames_from "vivid: back after unbind and bind" 60 vivid
    M=$(mark) && vivid_driver unbind
    said "vivid: the driver unbound while it streams is a lost camera" 30 'cam-vivid lost'
    M=$(mark) && vivid_driver bind
    frames_from "vivid: back after bind" 60 vivid
}

photo_faults() {
    local lines
    M=$(mark) && in_guest 'systemctl stop photo-camera'
    said "photo: nobody feeds the loopback device: lost" 30 'cam-photo lost'
    M=$(mark) && feed
    frames_from "photo: fed again: frames" 60 photo
}

usb_faults() {
    local lines
    local mode
    for mode in freeze stall; do
        M=$(mark) && vm usb mode $mode
        said "usb: $mode: lost" 40 'cam-usb lost'
        frames_from "usb: $mode: the other cameras go on" 40 vivid
        vm usb mode ok && M=$(mark)
        frames_from "usb: after $mode: frames" 60 usb
    done
    for mode in corrupt truncate black slow; do
        M=$(mark) && vm usb mode $mode
        in_guest 'sleep 4'
        frames_from "usb: $mode: the other cameras go on" 40 vivid
        case $mode in
        truncate) said "usb: truncate: damaged frames are counted" 30 'usb: .*failed [1-9]|cam-usb.*damaged' ;;
        # Not every damaged byte makes a JPEG unreadable.
        corrupt) wait_for "usb: corrupt: damaged frames are counted, readable ones decided" 30 \
            sh -c "guest said $M 'usb: .*failed [1-9]|cam-usb.*damaged' || guest frames usb $M 3" ;;
        *) frames_from "usb: $mode: frames go on" 60 usb ;;
        esac
        vm usb mode ok && M=$(mark)
        frames_from "usb: after $mode: frames" 60 usb
    done
    M=$(mark) && vm usb unplug
    said "usb: the cable pulled: lost" 30 'cam-usb lost'
    vm usb plug && M=$(mark)
    frames_from "usb: plugged again: frames" 60 usb
}
