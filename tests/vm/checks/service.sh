# Signals, a full disk, power cut and boot without a camera, upgrade and removal; and what must be true at the end.
# shellcheck shell=bash

signals() {
    configure vivid usb
    restart
    local before count
    before=$(pid) && count=$(figure 4)
    in_guest 'sleep 3' && M=$(mark)
    in_guest "systemctl kill -s SIGSTOP cfvit"
    wait_for "SIGSTOP: the watchdog restarts it" 120 sh -c "test \$(systemctl show -p NRestarts --value cfvit) -gt $count && systemctl is-active cfvit"
    check "the watchdog did it" in_guest "journalctl -u cfvit --since '-3min' --no-pager | grep -q 'Watchdog timeout'"
    frames_from "frames after it" 60 usb
    count=$(figure 4) && M=$(mark)
    in_guest "systemctl kill -s SIGKILL cfvit"
    wait_for "SIGKILL: it is started again" 60 sh -c "test \$(systemctl show -p NRestarts --value cfvit) -gt $count && systemctl is-active cfvit"
    frames_from "frames after it" 60 usb
    restarts_asked=$((restarts_asked + 2))

    before=$(pid) && M=$(mark)
    THRESHOLD=1.5 configure vivid usb
    in_guest 'systemctl reload cfvit'
    wait_for "SIGHUP, good: the threshold changes (everything is refined)" 40 status 'cam usb: .*fine 100 %'
    check "SIGHUP, good: the same process" [ "$(pid)" = "$before" ]
    M=$(mark)
    in_guest "printf '[gate]\nthreshold = 0.5\nnonsense = 1\n' >/etc/cfvit/cfvit.toml; systemctl reload cfvit"
    said "SIGHUP, bad: refused with its line" 20 'is refused, the old one is in force.*(line 3|:3)'
    wait_for "SIGHUP, bad: the status says so" 20 status 'refused'
    M=$(mark)
    frames_from "SIGHUP, bad: the old configuration decides on" 40 usb
    check "SIGHUP, bad: the same process" [ "$(pid)" = "$before" ]
    configure vivid usb
    in_guest 'systemctl reload cfvit'
    wait_for "SIGHUP, good again: nothing is refused" 20 sh -c '! guest status refused'
    configure usb
    M=$(mark) && in_guest 'systemctl reload cfvit'
    said "SIGHUP: a camera is taken out of service" 30 'vivid is out of service'
    configure vivid usb
    in_guest 'systemctl reload cfvit' && M=$(mark)
    frames_from "SIGHUP: and comes back" 60 vivid
    check "SIGHUP: the same process through all of it" [ "$(pid)" = "$before" ]
}

disk() {
    configure vivid usb
    restart
    local before
    M=$(mark)
    frames_from "frames while there is room" 60 usb
    before=$(pid)
    in_guest 'fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 65536)) /fill; dd if=/dev/zero of=/fill2 bs=4096 2>/dev/null; df / | tail -n 1' | sed 's/^/     /'
    in_guest 'sleep 8'
    wait_for "full disk: the frames go on" 60 status 'cam usb: [1-9][0-9.]* frames/s|cam usb: 0\.[1-9]'
    check "full disk: the same process" [ "$(pid)" = "$before" ]
    in_guest 'rm -f /fill /fill2; sleep 2' && M=$(mark)
    frames_from "room again: records again" 60 usb
    check "room again: every record is whole" in_guest "! grep -av '^{.*}\$' /var/lib/cfvit/records.jsonl | grep -q ."
    check "room again: the same process" [ "$(pid)" = "$before" ]
    M=$(mark) && restart
    said "the records that did not fit are counted" 20 '^records +[0-9]+ written to .*, [1-9][0-9]* dropped'
}

power() {
    local mode
    configure vivid usb
    in_guest 'echo ok >/run/power-tree/mode' && restart
    wait_for "power: watts and millijoules in the status" 60 status 'W, [0-9]+ mJ/frame'
    M=$(mark)
    for mode in zero garbage missing unreadable; do
        in_guest "echo $mode >/run/power-tree/mode"
        wait_for "power, $mode: energy is not measured" 30 status 'energy not measured'
        M=$(mark)
        frames_from "power, $mode: frames go on" 40 usb
        in_guest 'echo ok >/run/power-tree/mode'
        wait_for "power, after $mode: measured again" 40 status 'W, [0-9]+ mJ/frame'
    done
    in_guest 'echo high >/run/power-tree/mode'
    wait_for "power, high: 26 W are told" 30 status '2[5-7]\.[0-9] W'
    M=$(mark) && in_guest 'echo stuck >/run/power-tree/mode'
    said "power, stuck: suspicious after half a minute" 90 'power meter is suspicious: constant'
    frames_from "power, stuck: frames go on" 40 usb
    in_guest 'echo ok >/run/power-tree/mode'
    said "power: values change again" 30 'values change again'
}

boot() {
    configure vivid usb
    restart
    in_guest 'sleep 3; sync'
    vm usb unplug
    # No camera at all: the modules are not loaded at boot, so not even the kind of device exists.
    in_guest 'mv /etc/modules-load.d/cameras.conf /root/; systemctl disable -q photo-camera; sync'
    vm reset | sed 's/^/     /'
    vm push tests/vm/guest /usr/local/bin/
    wait_for "power cut: the service is active again" 120 systemctl is-active --quiet cfvit
    wait_for "no camera at boot: it waits" 60 status 'waiting for camera'
    check "no camera at boot: no restart" [ "$(figure 4)" = 0 ]
    check "power cut: both boots are in the journal" in_guest 'test $(journalctl --list-boots --no-pager | wc -l) -ge 2'
    check "power cut: every record before it is whole" in_guest "! grep -av '^{.*}\$' /var/lib/cfvit/records.jsonl | grep -q ."
    M=$(mark)
    vm usb plug
    frames_from "no camera at boot: plugged in later, frames" 60 usb
    in_guest 'modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0 vid_cap_nr=0 multiplanar=1' && M=$(mark)
    frames_from "no camera at boot: a driver that is loaded later, frames" 60 vivid
    in_guest 'mv /root/cameras.conf /etc/modules-load.d/'
}

upgrade() {
    local new=$WORK/new before version
    in_guest 'echo "# mine" >>/etc/cfvit/cfvit.toml; install -d -o cfvit -g cfvit /var/lib/cfvit/engines/mine; touch /var/lib/cfvit/engines/mine/coarse.plan'
    rm -rf "$new" && dpkg-deb -R "$DEB" "$new"
    version=$(sed -n 's/^Version: //p' "$new/DEBIAN/control")+next
    sed -i "s/^Version: .*/Version: $version/" "$new/DEBIAN/control"
    # The configuration as shipped changes too: the administrator's must stay.
    echo '# Of the next version.' >>"$new/etc/cfvit/cfvit.toml"
    (cd "$new" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Zgzip -b "$new" "$WORK/new.deb" >/dev/null
    vm push "$WORK/new.deb" /root/
    before=$(pid) && M=$(mark)
    in_guest 'dpkg --force-confdef --force-confold -i /root/new.deb' >"$WORK/upgrade.log" 2>&1
    check "upgrade: installed" in_guest "dpkg-query -W -f '\${Version}' cfvit | grep -qF '$version'"
    wait_for "upgrade: the service runs again" 60 systemctl is-active --quiet cfvit
    frames_from "upgrade: frames" 60 usb
    check "upgrade: another process" [ "$(pid)" != "$before" ]
    check "upgrade: configuration and engines are kept" in_guest 'grep -qx "# mine" /etc/cfvit/cfvit.toml && test -e /var/lib/cfvit/engines/mine/coarse.plan'
    in_guest 'dpkg -r cfvit' >>"$WORK/upgrade.log" 2>&1
    check "removal: the service is stopped" in_guest '! systemctl is-active --quiet cfvit && ! pgrep -x cfvit'
    check "removal: configuration and state stay" in_guest 'test -e /etc/cfvit/cfvit.toml && test -d /var/lib/cfvit/engines'
    in_guest 'rm -r /etc/systemd/system/cfvit.service.d; dpkg -P cfvit' >>"$WORK/upgrade.log" 2>&1
    check "purge: nothing is left" in_guest '! test -e /etc/cfvit && ! test -e /var/lib/cfvit && ! getent passwd cfvit && ! systemctl list-unit-files --no-legend | grep -q cfvit'
}

# After everything.
closing() {
    check "captured = decided + dropped + failed + in flight, in every summary" guest add-up
    check "no restart but those that were asked for" in_guest \
        "test \$(journalctl -u cfvit --no-pager -o cat | grep -c 'Scheduled restart job') = $restarts_asked"
    check "no panic, no thread left behind" in_guest "! journalctl -u cfvit --no-pager -o cat | grep -Eq 'panicked|left behind'"
}
