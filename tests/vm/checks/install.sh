# Installing the package, the service it brings, and what systemd says of it.
# shellcheck shell=bash

# The pictures that the cameras show, each in a folder of its own on this side, and the first one in the machine.
photographs() {
    rm -rf "$WORK/photos" && mkdir -p "$WORK/photos"
    local n=0 file
    for file in tests/data/pictures/*/*.JPEG; do
        mkdir "$WORK/photos/$n" && cp "$file" "$WORK/photos/$n/0.jpg" && n=$((n + 1))
    done
    PHOTOS=$n
    vm photos "$WORK/photos/0" 1
}

install() {
    local pages
    vm push "$DEB" /root/cfvit.deb
    in_guest 'dpkg -i /root/cfvit.deb' >"$WORK/install.log" 2>&1
    check "the package installs" grep -q 'Setting up cfvit' "$WORK/install.log"
    check "the user cfvit is in video and render" in_guest 'id -nG cfvit | grep -w video | grep -qw render'
    check "the service is enabled" in_guest 'systemctl is-enabled --quiet cfvit'
    check "the configuration as shipped is valid" in_guest 'cfvit config check /etc/cfvit/cfvit.toml >/dev/null'
    wait_for "it starts by itself and is ready" 120 systemctl is-active --quiet cfvit
    check "no engine is built where there is no GPU" in_guest 'test "$(systemctl show -p ConditionResult --value cfvit-build)" = no'
    check "systemd-analyze security is at most 2.0" in_guest 'systemd-analyze security --threshold=20 cfvit.service >/dev/null'
    pages=$(dpkg-deb -c "$DEB" | grep -c 'man1/cfvit.*\.gz')
    check "the manual came with it: $pages pages" in_guest "test $pages -gt 10 && dpkg -L cfvit | grep -c 'man1/cfvit.*\.gz' | grep -qx $pages"

    # From here on the machine's power tree stands for /sys/class/hwmon, and the watchdog is as patient as emulation needs.
    rm -rf "$WORK/fast"
    seq 20 | sed 's/.*/class&\tclass &/' >"$WORK/labels.txt"
    target/release/cfvit import --heads 2 --labels "$WORK/labels.txt" --out "$WORK/fast" tests/data/golden/deit-7/checkpoint.pth >/dev/null || exit 1
    vm push "$WORK/fast" /root/
    in_guest "cp -r /root/fast $FAST && chown -R cfvit: $FAST
        mkdir -p /etc/systemd/system/cfvit.service.d
        printf '[Unit]\nAfter=power-tree.service\n[Service]\nWatchdogSec=40\nBindReadOnlyPaths=/run/power-tree/class/hwmon:/sys/class/hwmon\n' >/etc/systemd/system/cfvit.service.d/power-tree.conf
        echo RATE=5 >/etc/default/photo-camera
        systemctl daemon-reload"
    feed
}
