//! What is published when, with a time that is given.

use super::*;
use crate::frame::Stage;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn topics() -> Topics {
    Topics::new("0123456789ab", Some("homeassistant"))
}

fn publisher() -> Publisher {
    let labels = ["church".to_owned(), "tench".to_owned()];
    let abilities = Abilities { expire_s: 180, ..Abilities::default() };
    Publisher::new(topics(), &labels, abilities, 60 * SECOND)
}

fn sight(camera: &str, label: &str, decided: Instant) -> Sight {
    let answer = Answer { label: label.to_owned(), confidence: 80, stage: Stage::Coarse, threshold: 0.5 };
    Sight { camera: camera.to_owned(), online: true, answer: Some((answer, decided)), numbers: None }
}

/// Topics without what all begin with, and the payloads that are short.
fn short(messages: &[Message]) -> Vec<String> {
    let topic = |topic: &str| {
        topic.replace("cfvit/0123456789ab/", "").replace("homeassistant/device/cfvit_0123456789ab_", "ha/")
    };
    let payload = |payload: &[u8]| match payload.len() {
        0..=10 => format!("={}", String::from_utf8_lossy(payload)),
        _ => String::new(),
    };
    messages.iter().map(|message| topic(&message.topic) + &payload(&message.payload)).collect()
}

#[test]
fn a_connection_begins_with_everything_and_online_comes_last() {
    let (mut publisher, now) = (publisher(), Instant::now());
    let mut sights = [sight("a", "church", now), sight("b", "church", now)];
    sights[0].numbers = Some((Numbers::default(), 1));
    sights[1].online = false;
    let all = [
        "ha/a/config",
        "ha/b/config",
        "a/status=online",
        "a/state",
        "a/stats",
        "b/status=offline",
        "b/state",
        "status=online",
    ];
    let messages = publisher.due(&sights, &Known::new(), now);
    assert_eq!(short(&messages), all);
    for message in &messages {
        let is_state = message.topic.ends_with("/state") || message.topic.ends_with("/stats");
        assert_eq!((message.retain, message.qos == QoS::AtMostOnce), (true, is_state), "{}", message.topic);
    }
    assert_eq!(publisher.due(&sights, &publisher.announced(), now + SECOND), []);
    publisher.forget();
    assert_eq!(short(&publisher.due(&sights, &publisher.announced(), now + 2 * SECOND)), all);
}

#[test]
fn without_discovery_nothing_is_announced_and_what_was_is_taken_back() {
    let quiet = Topics::new("0123456789ab", None);
    let mut publisher = Publisher::new(quiet, &[], Abilities::default(), SECOND);
    let now = Instant::now();
    let known =
        Known::from([(topics().discovery("a").unwrap(), Device { camera: "a".to_owned(), ..Device::default() })]);
    let messages = publisher.due(&[sight("a", "church", now)], &known, now);
    assert_eq!(short(&messages), ["ha/a/config=", "a/status=online", "a/state", "status=online"]);
    assert!(publisher.announced().is_empty());
}

#[test]
fn a_heartbeat_needs_a_new_frame_and_news_do_not_wait_for_it() {
    let (mut publisher, start) = (publisher(), Instant::now());
    let mut due = |label: &str, decided: Duration, now: Duration| {
        let messages = publisher.due(&[sight("a", label, start + decided)], &Known::new(), start + now);
        messages.iter().filter(|message| message.topic.ends_with("/state")).count()
    };
    assert_eq!(due("church", SECOND, SECOND), 1);
    assert_eq!(due("church", 60 * SECOND, 60 * SECOND), 0);
    assert_eq!(due("church", 61 * SECOND, 61 * SECOND), 1);
    assert_eq!(due("church", 61 * SECOND, 300 * SECOND), 0, "an old answer is no sign of life");
    assert_eq!(due("tench", 301 * SECOND, 301 * SECOND), 1);
    assert_eq!(due("church", 301 * SECOND, 301 * SECOND + SECOND / 2), 0);
    assert_eq!(due("church", 301 * SECOND, 302 * SECOND), 1);
}

#[test]
fn a_camera_that_is_gone_is_taken_back_once_also_after_a_restart() {
    let (mut first, now) = (publisher(), Instant::now());
    first.due(&[sight("a", "church", now), sight("b", "church", now)], &Known::new(), now);
    let known = first.announced();
    let gone = ["ha/b/config=", "b/status=", "b/state=", "b/stats="];
    assert_eq!(short(&first.due(&[sight("a", "church", now)], &known, now)), gone);
    assert!(first.due(&[sight("a", "church", now)], &known, now).is_empty());
    assert_eq!(first.announced().len(), 1);
    let mut second = publisher();
    assert_eq!(short(&second.due(&[sight("a", "church", now)], &known, now))[..4], gone);
    // It comes back, and goes again.
    let both = [sight("a", "church", now), sight("b", "church", now)];
    assert!(short(&second.due(&both, &second.announced(), now)).contains(&"ha/b/config".to_owned()));
    assert_eq!(short(&second.due(&both[..1], &second.announced(), now)), gone);
}

#[test]
fn another_prefix_takes_the_devices_with_it() {
    let (mut old, now) = (publisher(), Instant::now());
    old.due(&[sight("a", "church", now)], &Known::new(), now);
    let mut new = Publisher::new(Topics::new("0123456789ab", Some("ha2")), &[], Abilities::default(), SECOND);
    let messages = new.due(&[sight("a", "church", now)], &old.announced(), now);
    let expected =
        ["ha/a/config=", "ha2/device/cfvit_0123456789ab_a/config", "a/status=online", "a/state", "status=online"];
    assert_eq!(short(&messages), expected);
}

#[test]
fn a_component_that_is_no_more_is_taken_back_once_and_then_absent() {
    let now = Instant::now();
    let mut with = publisher();
    with.has_energy();
    with.due(&[sight("a", "church", now)], &Known::new(), now);
    let known = with.announced();
    let mut without = publisher();
    let mut announcement = |known: &Known| {
        let messages = without.due(&[sight("a", "church", now)], known, now);
        let message = messages.iter().find(|message| message.topic.ends_with("/config"))?;
        Some((String::from_utf8(message.payload.clone()).unwrap(), without.announced()))
    };
    let (text, acknowledged) = announcement(&known).unwrap();
    assert!(text.contains("\"power\":{\"platform\":\"sensor\"}"), "{text}");
    let (text, _) = announcement(&acknowledged).unwrap();
    assert!(!text.contains("\"power\""), "{text}");
    assert!(announcement(&acknowledged).is_none());
}

proptest! {
    /// Whatever the labels do, and whatever comes between.
    #[test]
    fn no_camera_has_more_than_one_state_in_a_second(steps in prop::collection::vec((0u64..700, 0usize..3, 0u8..20), 1..300)) {
        let (mut publisher, start) = (publisher(), Instant::now());
        let (mut now, mut last) = (start, None);
        for (ms, label, event) in steps {
            now += Duration::from_millis(ms);
            if event == 0 {
                publisher.forget();
            }
            let sights = [sight("a", ["church", "tench", "parachute"][label], now)];
            let states = publisher.due(&sights, &Known::new(), now).iter().filter(|m| m.topic.ends_with("/state")).count();
            prop_assert!(states <= 1);
            if states == 1 {
                prop_assert!(last.is_none_or(|last| now - last >= SECOND));
                last = Some(now);
            }
        }
    }
}
