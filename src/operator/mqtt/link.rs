//! The connection to the broker: kept, sought again when it is lost, and ended with a word.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS, StateError,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};

use super::discovery::Abilities;
use super::known::{self, Known};
use super::look;
use super::pictures::Pictures;
use super::publisher::{Message, Publisher, status};
use super::topics::{self, Topics};
use crate::config::{Broker, MqttSettings};
use crate::episode::Episode;
use crate::operator::board::Board;
use crate::operator::host::Stopping;
use crate::operator::lines::{Line, Offer, Subscribe, Subscriber, WAITING};
use crate::operator::messages::{Fate, Output};
use crate::operator::sandbox;
use crate::operator::seconds::Seconds;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A connection must stand, and a message must be taken, in so many seconds.
const PATIENCE_S: u64 = 10;
/// The first pause after a connection was lost; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A connection that held so long was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// So long the last words may take.
const FAREWELL: Duration = Duration::from_millis(700);
/// Messages on their way to the broker; more are dropped.
const QUEUE: usize = 512;
/// The longest message to the broker: a picture. Those from it are commands.
const MAX_OUTGOING: usize = 1 << 20;
const MAX_INCOMING: usize = 16 << 10;

/// The user's name and password.
pub type Login = (Option<String>, Option<String>);

/// Subscribes to the decisions.
pub fn decisions(subscribe: &Subscribe) -> mpsc::Receiver<Arc<Line>> {
    let (near, far) = mpsc::channel(WAITING);
    // Where nobody takes subscriptions the run is over.
    let _ = subscribe.send(Box::new(near));
    far
}

impl Subscriber for mpsc::Sender<Arc<Line>> {
    fn output(&self) -> Output {
        Output::Mqtt
    }

    fn offer(&self, line: &Arc<Line>) -> Offer {
        match self.try_send(Arc::clone(line)) {
            Ok(()) => Offer::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => Offer::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Offer::Gone,
        }
    }
}

/// All that lives longer than a connection.
pub struct Link {
    board: Arc<Board>,
    broker: Broker,
    login: Login,
    topics: Topics,
    control: bool,
    publisher: Publisher,
    sights: look::Sights,
    pictures: Option<Pictures>,
    decisions: Option<mpsc::Receiver<Arc<Line>>>,
    /// Devices that were announced at some time and perhaps not taken back; on disk where there is a path.
    known: (Known, Option<PathBuf>),
    failing: Episode,
}

/// What comes from the broker.
enum Arrival {
    Connected,
    Acknowledged,
    Message(Publish),
}

/// How a connection ended.
enum End {
    Stopped,
    /// For whatever reason, after it held for so long; `None` where it never stood.
    Lost(ConnectionError, Option<Duration>),
}

impl Link {
    /// Shows `board` at the broker.
    pub fn new(
        board: Arc<Board>,
        (broker, login): (Broker, Login),
        (settings, topics): (&MqttSettings, Topics),
        folder: Option<PathBuf>,
        decisions: Option<mpsc::Receiver<Arc<Line>>>,
    ) -> Self {
        let path = folder.map(|folder| folder.join(known::FILE));
        let known = path.as_deref().map(known::read).transpose().unwrap_or_else(|error| {
            log::warn!("MQTT: {error}; devices that are gone may stay in Home Assistant");
            None
        });
        let abilities = Abilities {
            control: settings.control,
            images: settings.images,
            energy: false,
            expire_s: (3.0 * settings.heartbeat_s).ceil() as u64,
        };
        let heartbeat = Duration::from_secs_f64(settings.heartbeat_s);
        let publisher = Publisher::new(topics.clone(), &board.facts.labels, abilities, heartbeat);
        let sights = look::Sights::new(Duration::from_secs_f64(settings.stats_s));
        let pictures = settings.images.then(Pictures::default);
        let known = (known.unwrap_or_default(), path);
        let (control, failing) = (settings.control, Episode::default());
        Self { board, broker, login, topics, control, publisher, sights, pictures, decisions, known, failing }
    }

    /// Keeps a connection until it is `stopping`.
    pub async fn run(mut self, mut stopping: Stopping) {
        log::info!("MQTT: {}, topics below {}", self.broker, self.topics.root());
        let mut pause = FIRST_PAUSE;
        while let End::Lost(error, held) = self.connection(&mut stopping).await {
            if held.is_some_and(|held| held >= GOOD) {
                pause = FIRST_PAUSE;
            }
            if self.failing.fails() {
                log::warn!("MQTT: {}: {}; trying again, frames go on", self.broker, explained(&error));
            }
            tokio::select! {
                () = stopping.wait() => return,
                () = sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
            }
        }
    }

    /// One connection, from its beginning to its end. What was not yet sent when it is lost is forgotten: the next one begins with the newest
    /// of everything.
    async fn connection(&mut self, stopping: &mut Stopping) -> End {
        let (client, mut events) = AsyncClient::new(self.options(), QUEUE);
        let mut network = events.network_options();
        network.set_connection_timeout(PATIENCE_S);
        events.set_network_options(network);
        let (arrivals, arrived) = mpsc::channel(64);
        let pump = pump(events, arrivals);
        tokio::pin!(pump);
        let mut talk =
            Talk { link: self, client, connected: None, unacknowledged: 0, birth: None, commands: BTreeMap::new() };
        tokio::select! {
            error = &mut pump => match error {
                Some(error) => End::Lost(error, talk.connected.map(|since| since.elapsed())),
                None => End::Stopped,
            },
            () = talk.run(arrived, stopping) => {
                if talk.connected.is_some() {
                    // Whoever does not take the last words in time gets the will.
                    let _ = timeout(FAREWELL, &mut pump).await;
                }
                End::Stopped
            }
        }
    }

    fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(self.topics.client_id(), self.broker.host.clone(), self.broker.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(MAX_INCOMING, MAX_OUTGOING);
        options.set_last_will(LastWill::new(self.topics.status(), status(false), QoS::AtLeastOnce, true));
        if let (Some(user), password) = &self.login {
            options.set_credentials(user.clone(), password.clone().unwrap_or_default());
        }
        options
    }

    /// Notes on disk which devices are announced.
    fn remember(&mut self, known: Known) {
        let (old, path) = &mut self.known;
        if *old == known {
            return;
        }
        *old = known;
        if let Some(Err(error)) = path.as_deref().map(|path| known::write(path, old)) {
            log::warn!("MQTT: {error}; devices that are removed later may stay in Home Assistant");
        }
    }
}

/// What is wrong, and what to do about it.
fn explained(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => {
            format!("refused: {code:?} (mqtt.user and mqtt.password_file say who we are)")
        }
        ConnectionError::Io(cause) => match sandbox::hint(Some(cause)) {
            Some(hint) => format!("{cause}: {hint}"),
            None => format!("{cause} (is a broker there? mqtt.broker says where)"),
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            "the broker has closed the connection (does another cfvit of this machine use it?)".to_owned()
        }
        error => error.to_string(),
    }
}

/// Moves messages until the connection is lost (the error) or was ended by us (`None`).
async fn pump(mut events: EventLoop, arrivals: mpsc::Sender<Arrival>) -> Option<ConnectionError> {
    loop {
        let arrival = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Arrival::Connected,
            Ok(Event::Incoming(Packet::PubAck(_))) => Arrival::Acknowledged,
            Ok(Event::Incoming(Packet::Publish(message))) => Arrival::Message(message),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return None,
            Ok(_) => continue,
            Err(error) => return Some(error),
        };
        // Nobody reads any more once the last words were said.
        let _ = arrivals.send(arrival).await;
    }
}

/// What is said on one connection.
struct Talk<'a> {
    link: &'a mut Link,
    client: AsyncClient,
    connected: Option<Instant>,
    unacknowledged: usize,
    /// When to say everything again, because Home Assistant has started.
    birth: Option<tokio::time::Instant>,
    /// The newest command of each camera.
    commands: BTreeMap<String, f32>,
}

impl Talk<'_> {
    /// Until the stop, which it answers with the last words.
    async fn run(&mut self, mut arrived: mpsc::Receiver<Arrival>, stopping: &mut Stopping) {
        let mut seconds = Seconds::new();
        loop {
            let birth = self.birth;
            tokio::select! {
                () = stopping.wait() => return self.farewell(),
                Some(arrival) = arrived.recv() => {
                    if self.arrived(arrival) {
                        self.tick();
                    }
                }
                () = seconds.next(), if self.connected.is_some() => self.tick(),
                () = sleep_until(birth.unwrap_or_else(tokio::time::Instant::now)), if birth.is_some() => {
                    self.birth = None;
                    self.link.publisher.forget();
                }
                Some(line) = next(&mut self.link.decisions), if self.connected.is_some() => self.decision(&line),
            }
        }
    }

    /// Takes note; true if the connection stands now.
    fn arrived(&mut self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Connected => {
                self.connected = Some(Instant::now());
                let again = self.link.failing.recovers().map_or("", |_| " again");
                log::info!("MQTT: {}: connected{again}", self.link.broker);
                self.begin();
                return true;
            }
            Arrival::Acknowledged => {
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
                if self.unacknowledged == 0 {
                    let announced = self.link.publisher.announced();
                    self.link.remember(announced);
                }
            }
            Arrival::Message(message) => self.message(&message),
        }
        false
    }

    fn begin(&mut self) {
        self.link.publisher.forget();
        // What was decided before is no news.
        while self.link.decisions.as_mut().is_some_and(|decisions| decisions.try_recv().is_ok()) {}
        let topics = &self.link.topics;
        let commands = self.link.control.then(|| topics.commands());
        for topic in topics.birth().into_iter().chain(commands) {
            // The queue is empty, so there is room.
            let _ = self.client.try_subscribe(topic, QoS::AtLeastOnce);
        }
    }

    /// A command, or Home Assistant's birth. What the broker has kept from another time is neither.
    fn message(&mut self, message: &Publish) {
        let topics = &self.link.topics;
        if message.retain {
            return;
        }
        if Some(&message.topic) == topics.birth().as_ref() {
            if &message.payload[..] == b"online" && self.birth.is_none() {
                self.birth = Some(tokio::time::Instant::now() + Duration::from_millis(topics.delay_ms()));
            }
        } else if let Some(camera) = topics.commanded(&message.topic)
            && let Some(threshold) = topics::threshold(&message.payload)
            && self.link.control
            && self.link.board.find(camera).is_some()
        {
            self.commands.insert(camera.to_owned(), threshold);
        }
    }

    /// Looks what is due, once a second.
    fn tick(&mut self) {
        let now = Instant::now();
        for (camera, threshold) in std::mem::take(&mut self.commands) {
            if let Some(channel) = self.link.board.find(&camera) {
                log::info!("MQTT: the threshold of {camera} is set to {threshold}");
                channel.set_threshold(Some(threshold));
            }
        }
        let link = &mut *self.link;
        let Some(sights) = link.sights.look(&link.board, now) else { return };
        if link.sights.has_energy() {
            link.publisher.has_energy();
        }
        let messages = link.publisher.due(&sights, &link.known.0, now);
        // Should this be the last that is ever done, nothing that was announced is forgotten.
        let mut known = link.known.0.clone();
        for (topic, device) in link.publisher.announced() {
            let old = known.entry(topic).or_default();
            old.camera = device.camera;
            old.components.extend(device.components);
        }
        link.remember(known);
        messages.into_iter().for_each(|message| self.publish(message));
        for sight in &sights {
            let Some((answer, _)) = &sight.answer else { continue };
            let link = &mut *self.link;
            let picture = link.pictures.as_mut().and_then(|p| p.due(&link.board, &sight.camera, &answer.label, now));
            if let Some(picture) = picture {
                let topic = link.topics.camera(&sight.camera, "image");
                self.publish(Message { topic, payload: picture.to_vec(), qos: QoS::AtMostOnce, retain: false });
            }
        }
    }

    fn decision(&mut self, line: &Line) {
        if line.camera.is_empty() {
            return;
        }
        let topic = self.link.topics.camera(&line.camera, "decision");
        let payload = line.json.strip_suffix(b"\n").unwrap_or(&line.json).to_vec();
        self.publish(Message { topic, payload, qos: QoS::AtMostOnce, retain: false });
    }

    fn publish(&mut self, Message { topic, payload, qos, retain }: Message) {
        let acknowledged = qos != QoS::AtMostOnce;
        let fate = match self.client.try_publish(topic, qos, retain, payload) {
            Ok(()) => {
                self.unacknowledged += usize::from(acknowledged);
                Fate::Sent
            }
            Err(_) => Fate::Dropped,
        };
        self.link.board.messages.count(Output::Mqtt, fate, 1);
    }

    /// A clean end tells that we are gone: the will is only for others.
    fn farewell(&mut self) {
        if self.connected.is_some() {
            self.publish(Message::kept(self.link.topics.status(), status(false)));
            let _ = self.client.try_disconnect();
        }
    }
}

/// The next line; never where there are none.
async fn next(decisions: &mut Option<mpsc::Receiver<Arc<Line>>>) -> Option<Arc<Line>> {
    match decisions {
        Some(decisions) => decisions.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
