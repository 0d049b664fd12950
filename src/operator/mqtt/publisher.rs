//! What is to be published now, from what was published before and what is seen of the cameras. Pure: the time is given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rumqttc::QoS;

use super::discovery::{self, Abilities};
use super::known::{Device, Known};
use super::payload::{Answer, Numbers};
use super::topics::Topics;

/// No two states of a camera are published in less time.
const STATE_PERIOD: Duration = Duration::from_secs(1);

/// The two words for whether something is there.
pub const fn status(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// With an acknowledgement or without.
    pub qos: QoS,
    /// Whether the broker keeps it for those who come later.
    pub retain: bool,
}

impl Message {
    /// One that the broker keeps and acknowledges.
    pub fn kept(topic: String, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic, payload: payload.into(), qos: QoS::AtLeastOnce, retain: true }
    }

    fn state(topic: String, payload: &serde_json::Value) -> Self {
        Self { topic, payload: payload.to_string().into_bytes(), qos: QoS::AtMostOnce, retain: true }
    }
}

/// What is seen of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// Its name.
    pub camera: String,
    /// Whether frames come.
    pub online: bool,
    /// The answer that holds, and when its last frame was decided.
    pub answer: Option<(Answer, Instant)>,
    /// The newest numbers, and a mark that differs from that of older ones.
    pub numbers: Option<(Numbers, u64)>,
}

/// What was published of a camera.
#[derive(Debug, Default)]
struct Told {
    announced: Option<Vec<u8>>,
    online: Option<bool>,
    answer: Option<Answer>,
    /// When the answer was published, and when its frame was decided.
    answered: Option<(Instant, Instant)>,
    numbers: Option<u64>,
}

/// Remembers what was published.
#[derive(Debug)]
pub struct Publisher {
    topics: Topics,
    labels: Vec<String>,
    abilities: Abilities,
    heartbeat: Duration,
    told: BTreeMap<String, Told>,
    /// Topics of devices that are gone, emptied already.
    emptied: BTreeSet<String>,
    online: bool,
}

impl Publisher {
    /// Nothing was published yet. `labels` are the classes' names; a state that stays is published again after each `heartbeat`.
    pub fn new(topics: Topics, labels: &[String], abilities: Abilities, heartbeat: Duration) -> Self {
        let (labels, told, emptied) = (labels.to_vec(), BTreeMap::new(), BTreeSet::new());
        Self { topics, labels, abilities, heartbeat, told, emptied, online: false }
    }

    /// Whoever listens knows nothing any more: everything is due again.
    pub fn forget(&mut self) {
        (self.online, self.emptied) = (false, BTreeSet::new());
        for told in self.told.values_mut() {
            // States keep their distance.
            *told = Told { answered: told.answered, ..Told::default() };
        }
    }

    /// From now on energy is announced: it was measured.
    pub fn has_energy(&mut self) {
        self.abilities.energy = true;
    }

    /// The devices that are announced now.
    pub fn announced(&self) -> Known {
        let device = |camera: &String| {
            let components = discovery::platforms(&self.components(camera));
            Some((self.topics.discovery(camera)?, Device { camera: camera.clone(), components }))
        };
        self.told.iter().filter(|(_, told)| told.announced.is_some()).filter_map(|(camera, _)| device(camera)).collect()
    }

    /// Everything that is due `now`, in its order. `sights` are all cameras in service, `known` the devices that were announced at some
    /// time and perhaps not taken back.
    pub fn due(&mut self, sights: &[Sight], known: &Known, now: Instant) -> Vec<Message> {
        let mut messages = self.farewells(sights, known);
        sights.iter().for_each(|sight| messages.extend(self.announce(&sight.camera, known)));
        for sight in sights {
            let told = self.told.entry(sight.camera.clone()).or_default();
            messages.extend(told.say(&self.topics, sight, (now, self.heartbeat)));
        }
        if !std::mem::replace(&mut self.online, true) {
            messages.push(Message::kept(self.topics.status(), status(true)));
        }
        messages
    }

    /// Empties what the broker keeps of cameras that are gone.
    fn farewells(&mut self, sights: &[Sight], known: &Known) -> Vec<Message> {
        let is_here = |camera: &str| sights.iter().any(|sight| sight.camera == camera);
        let mut gone: Vec<String> = Vec::new();
        for (topic, device) in known {
            match is_here(&device.camera) {
                true if self.topics.discovery(&device.camera).as_ref() == Some(topic) => {}
                true => gone.push(topic.clone()),
                false => gone.extend([topic.clone()].into_iter().chain(self.kept(&device.camera))),
            }
        }
        gone.extend(self.told.keys().filter(|camera| !is_here(camera)).flat_map(|camera| self.kept(camera)));
        self.told.retain(|camera, _| is_here(camera));
        let here: BTreeSet<String> = sights.iter().flat_map(|sight| self.kept(&sight.camera)).collect();
        self.emptied.retain(|topic| !here.contains(topic));
        gone.retain(|topic| self.emptied.insert(topic.clone()));
        gone.into_iter().map(|topic| Message::kept(topic, "")).collect()
    }

    /// The topics of `camera` that the broker keeps.
    fn kept(&self, camera: &str) -> impl Iterator<Item = String> {
        let leaves = ["status", "state", "stats"].map(|leaf| self.topics.camera(camera, leaf));
        self.topics.discovery(camera).into_iter().chain(leaves)
    }

    fn announce(&mut self, camera: &str, known: &Known) -> Option<Message> {
        let topic = self.topics.discovery(camera)?;
        let before = known.get(&topic).map(|device| device.components.clone()).unwrap_or_default();
        let payload = discovery::message(&self.topics, camera, &self.components(camera), &before);
        let told = self.told.entry(camera.to_owned()).or_default();
        if told.announced.as_ref() == Some(&payload) {
            return None;
        }
        told.announced = Some(payload.clone());
        Some(Message::kept(topic, payload))
    }

    fn components(&self, camera: &str) -> BTreeMap<&'static str, serde_json::Value> {
        discovery::components(&self.topics, camera, &self.labels, self.abilities)
    }
}

impl Told {
    /// What of `sight` is news, or old enough to be said again.
    fn say(&mut self, topics: &Topics, sight: &Sight, (now, heartbeat): (Instant, Duration)) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.online.replace(sight.online) != Some(sight.online) {
            messages.push(Message::kept(topics.camera(&sight.camera, "status"), status(sight.online)));
        }
        if let Some((answer, decided)) = &sight.answer
            && self.is_due(answer, *decided, (now, heartbeat))
        {
            messages.push(Message::state(topics.camera(&sight.camera, "state"), &answer.json()));
            (self.answer, self.answered) = (Some(answer.clone()), Some((now, *decided)));
        }
        if let Some((numbers, mark)) = &sight.numbers
            && self.numbers.replace(*mark) != Some(*mark)
        {
            messages.push(Message::state(topics.camera(&sight.camera, "stats"), &numbers.json()));
        }
        messages
    }

    /// News after a second; what is no news after the heartbeat, if a frame was decided meanwhile.
    fn is_due(&self, answer: &Answer, decided: Instant, (now, heartbeat): (Instant, Duration)) -> bool {
        let Some((sent, frame)) = self.answered else { return true };
        let age = now.saturating_duration_since(sent);
        let is_news = self.answer.as_ref().is_none_or(|old| answer.is_news_after(old));
        age >= STATE_PERIOD && (is_news || (age >= heartbeat && decided > frame))
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
