//! MQTT as the broker's other clients see it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::broker::Broker;
use super::service::{CAMERA, Service, cfvit, photographs, until};

/// What a busy machine may add to any time.
const SLOW: Duration = Duration::from_secs(3);
/// A clean end, its goodbye to everything else included.
const AT_ONCE: Duration = Duration::from_secs(5);
/// A broker must notice a client that is gone, and everything must be there again after it was away.
const WILL: Duration = Duration::from_secs(45);
const BACK: Duration = Duration::from_secs(10);

#[test]
fn a_fresh_subscriber_finds_everything_and_learns_of_a_clean_end_and_of_a_sudden_one() {
    let Some(broker) = Broker::start() else { return };
    let service = Service::start(&format!("{CAMERA}{}stats_s = 1\n", broker.section()));
    broker.listen().wait("/door/stats", |message| !message.payload.is_empty());
    let fresh = broker.listen();
    for (end, qos) in [("/status", 1), ("/door/status", 1), ("/door/state", 0), ("/door/stats", 0), ("_door/config", 1)]
    {
        let message = fresh.wait(end, |_| true);
        assert_eq!((message.retained, message.qos), (true, qos), "{message:?}");
    }
    let config = fresh.heard("_door/config")[0].clone();
    let id = config.topic.strip_prefix("homeassistant/device/cfvit_").unwrap().strip_suffix("_door/config").unwrap();
    assert!(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let root = format!("cfvit/{id}");
    assert_eq!(config.json()["state_topic"], format!("{root}/door/state"));
    let state = fresh.wait(&format!("{root}/door/state"), |_| true).json();
    assert_eq!((&state["stage"], &state["threshold"]), (&json!("coarse"), &json!(0.0)));
    assert!(config.json()["components"]["label"]["options"].as_array().unwrap().contains(&state["label"]), "{state}");
    assert!(
        fresh.wait(&format!("{root}/door/stats"), |m| m.json()["fps"].as_f64() > Some(1.0)).json()["latency_ms"]
            .is_number()
    );
    assert_eq!(fresh.wait_for("/door/status", "online").text(), "online");

    let asked = Instant::now();
    let dir = service.stop();
    let offline = fresh.wait_for(&format!("{root}/status"), "offline").at.duration_since(asked);
    assert!(offline < AT_ONCE, "a clean end is told at once: {offline:?}");
    let service = Service::start_in(dir, &format!("{CAMERA}{}", broker.section()));
    fresh.clear();
    fresh.wait_for(&format!("{root}/status"), "online");
    let killed = Instant::now();
    service.signal(Signal::KILL);
    let offline = fresh.wait_for(&format!("{root}/status"), "offline").at.duration_since(killed);
    assert!(offline < WILL, "a sudden end is told by the broker: {offline:?}");
    assert_eq!(broker.listen().wait(&format!("{root}/status"), |_| true).text(), "offline");
}

#[test]
fn a_broker_that_forgot_everything_is_told_everything_again() {
    let Some(mut broker) = Broker::start() else { return };
    let service = Service::start(&format!("{CAMERA}{}stats_s = 1\n", broker.section()));
    broker.listen().wait("/door/stats", |_| true);
    broker.pull();
    service.wait_for_log("trying again, frames go on");
    // Several tries, and still one line.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(service.log().matches("trying again").count(), 1, "{}", service.log());
    broker.plug();
    let fresh = broker.listen();
    let connected = until("connected again", || service.log().contains("connected again").then(Instant::now));
    for end in ["/status", "/door/status", "/door/state", "/door/stats", "_door/config"] {
        let back = fresh.wait(end, |_| true).at.saturating_duration_since(connected);
        assert!(back < BACK, "{end} after {back:?}");
    }
}

#[test]
fn home_assistants_birth_brings_everything_again_unless_it_is_an_old_one() {
    let Some(broker) = Broker::start() else { return };
    broker.publish("homeassistant/status", "online", true);
    let _service = Service::start(&format!("{CAMERA}{}", broker.section()));
    let listener = broker.listen();
    listener.wait_for("/door/status", "online");
    std::thread::sleep(Duration::from_secs(7));
    let told = |end: &str| listener.heard(end).iter().filter(|message| !message.retained).count();
    let before = ["_door/config", "/door/status", "/door/state"].map(told);
    assert_eq!((before[0], before[1]), (1, 1), "a kept birth is from another time");
    broker.publish("homeassistant/status", "offline", false);
    broker.publish("homeassistant/status", "online", false);
    let born = Instant::now();
    for (end, before) in ["_door/config", "/door/status", "/door/state"].into_iter().zip(before) {
        until(end, || (told(end) > before).then_some(()));
    }
    // Not all machines of a house at the same moment, and a second at most for the next look.
    let again = born.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(6) + SLOW).contains(&again), "{again:?}");
}

#[test]
fn a_command_moves_the_gate_unless_it_is_kept_foreign_or_not_allowed() {
    let Some(broker) = Broker::start() else { return };
    let config = |control: bool| format!("{CAMERA}{}control = {control}\ndecisions = true\n", broker.section());
    let service = Service::start(&config(true));
    let listener = broker.listen();
    let state = listener.wait("/door/state", |_| true);
    let topic = state.topic.replace("/state", "/threshold/set");
    for nonsense in ["2", "-1", "nan", "", "much", "{\"threshold\": 1}"] {
        broker.publish(&topic, nonsense, false);
    }
    broker.publish(&topic.replace("/door/", "/other/"), "0.2", false);
    broker.publish(&topic, "1", false);
    listener.wait("/door/state", |message| message.json()["threshold"] == 1.0);
    // Every decision is told, and nothing of it is kept.
    let decision = listener.wait("/door/decision", |message| message.json()["exit"] == "fine");
    assert_eq!((decision.retained, &decision.json()["threshold"]), (false, &json!(1.0)));
    assert!(decision.json()["timing_ms"]["fine"].as_f64() > Some(0.0));
    assert!(listener.heard("/door/state").iter().all(|m| [json!(0.0), json!(1.0)].contains(&m.json()["threshold"])));

    // What the broker kept from another time is no command.
    broker.publish(&topic, "0.3", true);
    listener.wait("/door/state", |message| message.json()["threshold"] == 0.3);
    let dir = service.stop();
    for control in [true, false] {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let service = Service::start_in(dir, &config(control));
        listener.clear();
        listener.wait_for("/door/status", "online");
        if !control {
            broker.publish(&topic, "0.4", false);
        }
        // Well after the command would have come.
        let many = listener.wait_count("/door/decision", 40);
        assert!(many.iter().all(|message| message.json()["threshold"] == 0.0), "control = {control}");
        drop(service);
    }
}

#[test]
fn states_keep_their_distance_whatever_the_frames_do() {
    let Some(broker) = Broker::start() else { return };
    let _service = Service::start(&format!("{}{}", photographs(30.0), broker.section()));
    let listener = broker.listen();
    let states = listener.wait_count("/door/state", 6);
    let labels: std::collections::HashSet<String> = states.iter().map(|m| m.json()["label"].to_string()).collect();
    assert!(labels.len() > 1, "they change: {labels:?}");
    let (count, time) = (states.len(), states[states.len() - 1].at.duration_since(states[1].at));
    assert!(time + Duration::from_millis(500) >= Duration::from_secs(count as u64 - 2), "{count} states in {time:?}");
}

/// The same for ten minutes: `cargo test --release --test wiring -- --ignored ten_minutes`.
#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_at_thirty_frames_a_second_make_at_most_a_state_a_second() {
    let Some(broker) = Broker::start() else { return };
    let service = Service::start(&format!("{}{}", photographs(30.0), broker.section()));
    let listener = broker.listen();
    listener.wait("/door/state", |message| !message.retained);
    listener.clear();
    std::thread::sleep(Duration::from_secs(600));
    let states = listener.heard("/door/state");
    let least = states.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).min();
    eprintln!("{} states in ten minutes, the closest {least:?} apart", states.len());
    assert!((60..=601).contains(&states.len()), "{}", states.len());
    service.stop();
}

#[test]
fn a_picture_comes_when_the_label_changes_and_only_where_it_is_wanted() {
    let Some(broker) = Broker::start() else { return };
    let _service = Service::start(&format!("{}{}images = true\n", photographs(0.5), broker.section()));
    let listener = broker.listen();
    let picture = listener.wait("/door/image", |_| true);
    assert!(!picture.retained && picture.payload.starts_with(&[0xff, 0xd8, 0xff]));
    assert!(image::load_from_memory(&picture.payload).unwrap().width() > 100);
    let components = listener.wait("_door/config", |_| true).json()["components"].clone();
    assert_eq!(components["image"]["image_topic"], picture.topic);
    assert!(components.get("threshold").is_none(), "without control");
}

#[test]
fn a_camera_that_is_removed_is_taken_back_in_a_run_and_after_a_restart() {
    let Some(broker) = Broker::start() else { return };
    let rear = "[[camera]]\nname = \"rear\"\nsource = \"pattern://?size=32x32&fps=5\"\n";
    let (one, two) = (format!("{CAMERA}{}", broker.section()), format!("{CAMERA}{rear}{}", broker.section()));
    let service = Service::start(&two);
    let listener = broker.listen();
    listener.wait("_rear/config", |message| !message.payload.is_empty());
    listener.wait("/rear/state", |message| !message.payload.is_empty());
    service.configure(&one);
    for end in ["_rear/config", "/rear/status", "/rear/state"] {
        listener.wait(end, |message| message.payload.is_empty());
    }
    service.configure(&two);
    listener.clear();
    listener.wait("_rear/config", |message| !message.payload.is_empty());
    let file = service.path("mqtt-devices.json");
    until("it is noted", || std::fs::read_to_string(&file).ok().filter(|text| text.contains("\"rear\"")));
    let dir = service.stop();
    listener.clear();
    let service = Service::start_in(dir, &one);
    listener.wait("_rear/config", |message| message.payload.is_empty());
    until("it is forgotten", || std::fs::read_to_string(&file).ok().filter(|text| !text.contains("\"rear\"")));
    let fresh = broker.listen();
    fresh.wait("_door/config", |_| true);
    assert!(fresh.heard("_rear/config").is_empty() && fresh.heard("/rear/status").is_empty());
    drop(service);
}

#[test]
fn a_broker_with_a_lock_takes_the_right_password_only() {
    let Some(broker) = Broker::locked("cam", "a b") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let config = format!("{CAMERA}{}user = \"cam\"\npassword_file = {file:?}\n", broker.section());
    std::fs::write(&file, "wrong\n").unwrap();
    let service = Service::start(&config);
    service.wait_for_log("mqtt.password_file");
    assert!(service.log().contains("refused: "), "{}", service.log());
    drop(service);
    std::fs::write(&file, "a b\n").unwrap();
    let service = Service::start(&config);
    service.wait_for_log("connected");
    drop(service);
    std::fs::remove_file(&file).unwrap();
    let mut service = Service::start(&config);
    let status = until("the end", || service.child.try_wait().unwrap());
    assert!(status.code() == Some(2) && service.log().contains("mqtt.password_file"), "{}", service.log());
}

/// Where nobody listens, and where there is no network at all.
#[test]
fn without_a_broker_frames_go_on_and_one_line_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cfvit.toml");
    let text = "[gate]\nthreshold = 0\n[[camera]]\nname = \"door\"\nsource = \"pattern://?size=64x64&fps=20\"\n[web]\nenabled = false\n";
    std::fs::write(&config, format!("{text}[mqtt]\nbroker = \"127.0.0.1:1\"\n")).unwrap();
    for (sandboxed, hint) in [(false, "mqtt.broker says where"), (true, "/usr/share/cfvit/network.conf")] {
        let mut command = cfvit();
        command.args(["run", "--frames", "60", "--config"]).arg(&config);
        if sandboxed {
            forbid_network(&mut command);
        }
        let begun = Instant::now();
        let output =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && begun.elapsed() < super::service::PATIENCE, "{log}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("decided    60"), "{log}");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("trying again")).collect();
        assert!(lines.len() == 1 && lines[0].contains(hint), "{log}");
    }
}

/// As the service's sandbox does it: sockets of the families IPv4 and IPv6 cannot be made. A filter of system calls for this machine's kind.
fn forbid_network(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let jump = |value: u32, yes: u8, no: u8| libc::sock_filter { code: 0x15, jt: yes, jf: no, k: value };
    let load = |at: u32| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: at };
    let answer = |value: u32| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: value };
    let mut filter = [
        // The number of the call, then its first argument.
        load(0),
        jump(libc::SYS_socket as u32, 0, 4),
        load(16),
        jump(libc::AF_INET as u32, 1, 0),
        jump(libc::AF_INET6 as u32, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: between fork and exec only two system calls are made, with a filter that lives on this function's copied stack.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}
