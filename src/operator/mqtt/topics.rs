//! What is published where.

/// The topics of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    id: String,
    prefix: Option<String>,
}

impl Topics {
    /// Those of the machine with the digits `id`, whose devices are announced below `prefix`, if anywhere.
    pub fn new(id: &str, prefix: Option<&str>) -> Self {
        Self { id: id.to_owned(), prefix: prefix.map(str::to_owned) }
    }

    /// What this machine is called at the broker.
    pub fn client_id(&self) -> String {
        format!("cfvit-{}", self.id)
    }

    /// What all topics of this machine begin with.
    pub fn root(&self) -> String {
        format!("cfvit/{}", self.id)
    }

    /// Whether this machine is connected.
    pub fn status(&self) -> String {
        format!("cfvit/{}/status", self.id)
    }

    /// The topic `leaf` of `camera`.
    pub fn camera(&self, camera: &str, leaf: &str) -> String {
        format!("cfvit/{}/{camera}/{leaf}", self.id)
    }

    /// What Home Assistant knows `camera` by. Cameras' names have only characters that may stand there.
    pub fn device(&self, camera: &str) -> String {
        format!("cfvit_{}_{camera}", self.id)
    }

    /// Where `camera` is announced.
    pub fn discovery(&self, camera: &str) -> Option<String> {
        Some(format!("{}/device/{}/config", self.prefix.as_ref()?, self.device(camera)))
    }

    /// Where Home Assistant tells that it has started.
    pub fn birth(&self) -> Option<String> {
        Some(format!("{}/status", self.prefix.as_ref()?))
    }

    /// The filter for all commands.
    pub fn commands(&self) -> String {
        self.camera("+", COMMAND)
    }

    /// The camera whose threshold a message at `topic` sets.
    pub fn commanded<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let rest = topic.strip_prefix("cfvit/")?.strip_prefix(&self.id)?.strip_prefix('/')?;
        rest.strip_suffix(COMMAND)?.strip_suffix('/').filter(|camera| !camera.is_empty() && !camera.contains('/'))
    }

    /// A moment between 1 and 4 seconds, in milliseconds, that differs from machine to machine: not all shall speak at once.
    pub fn delay_ms(&self) -> u64 {
        1000 + u64::from_str_radix(self.id.get(..8).unwrap_or_default(), 16).unwrap_or(0) % 3000
    }
}

/// The topic of commands below a camera's.
pub const COMMAND: &str = "threshold/set";

/// The threshold in a command: a number from 0 to 1.
pub fn threshold(payload: &[u8]) -> Option<f32> {
    // The longest number that makes sense; a stranger may send anything.
    let text = (payload.len() <= 32).then(|| std::str::from_utf8(payload).ok())??;
    text.trim().parse().ok().filter(|threshold| (0.0..=1.0).contains(threshold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topics() -> Topics {
        Topics::new("0123456789ab", Some("homeassistant"))
    }

    #[test]
    fn topics_are_those_of_the_documentation() {
        let topics = topics();
        assert_eq!(topics.status(), "cfvit/0123456789ab/status");
        assert_eq!(topics.camera("door", "state"), "cfvit/0123456789ab/door/state");
        let config = "homeassistant/device/cfvit_0123456789ab_door/config";
        assert_eq!(topics.discovery("door").as_deref(), Some(config));
        assert_eq!(topics.birth().as_deref(), Some("homeassistant/status"));
        assert_eq!(topics.commands(), "cfvit/0123456789ab/+/threshold/set");
        let quiet = Topics::new("0123456789ab", None);
        assert_eq!((quiet.discovery("door"), quiet.birth()), (None, None));
        assert!((1000..4000).contains(&topics.delay_ms()) && Topics::new("", None).delay_ms() == 1000);
    }

    #[test]
    fn a_command_is_for_one_camera_of_this_machine() {
        let topics = topics();
        assert_eq!(topics.commanded("cfvit/0123456789ab/door/threshold/set"), Some("door"));
        for other in [
            "cfvit/0123456789ab/threshold/set",
            "cfvit/0123456789ab//threshold/set",
            "cfvit/0123456789ab/a/b/threshold/set",
            "cfvit/0123456789abdoor/threshold/set",
            "cfvit/ffffffffffff/door/threshold/set",
            "cfvit/0123456789ab/door/threshold/get",
            "homeassistant/status",
            "",
        ] {
            assert_eq!(topics.commanded(other), None, "{other}");
        }
    }

    #[test]
    fn a_threshold_is_a_number_from_0_to_1() {
        for (payload, expected) in [
            (&b"0.5"[..], Some(0.5)),
            (b" 1\n", Some(1.0)),
            (b"0", Some(0.0)),
            (b"1.01", None),
            (b"-0.1", None),
            (b"nan", None),
            (b"inf", None),
            (b"", None),
            (b"\xff", None),
            (b"0.5 and more", None),
            (b"0.500000000000000000000000000000000000", None),
        ] {
            assert_eq!(threshold(payload), expected, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_is_a_command_or_none(topic in "\\PC{0,60}", payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = topics().commanded(&topic);
            let value = threshold(&payload);
            prop_assert!(value.is_none_or(|value| (0.0..=1.0).contains(&value)));
        }
    }
}
