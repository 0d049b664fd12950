//! The camera as a source that is never given up: looked for until it is there, and again whenever it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::live::{Live, Settings, Taken, probe};
use super::mode::Wish;
use super::retry::Retry;
use super::trouble::{Cause, Trouble};
use super::watch::NodeWatch;
use crate::capture::status::State;
use crate::capture::uri::CameraRequest;
use crate::capture::{Damage, Event, Options, Pace, Source, Status, Wait};
use crate::clock::Stop;
use crate::episode::Episode;
use crate::error::Result;
use crate::frame::Frame;

/// So long without a damaged frame ends an episode of them: a cable that spoils every tenth frame is one episode.
const SOUND: Duration = Duration::from_secs(5);

/// A Video4Linux camera.
pub struct Camera {
    request: CameraRequest,
    wish: Wish,
    name: String,
    described: String,
    status: Arc<Status>,
    live: Option<Live>,
    retry: Retry,
    watch: NodeWatch,
    outage: Option<Outage>,
    damaged: Episode,
    last_damaged: Instant,
    settings: Option<Settings>,
}

/// The time without frames, from when it was noticed to the next good frame.
struct Outage {
    since: Instant,
    /// Reasons that were logged; each is, once.
    told: Vec<Cause>,
}

impl Camera {
    /// The camera that `request` names. One that is away or in use is no error: it is waited for.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] when `options` contradict the request or the node is no camera that can be used as asked;
    /// [`crate::error::Kind::Source`] when this user may not use it.
    pub fn open(request: CameraRequest, options: &Options) -> Result<Self> {
        options.refuse_repeat("a camera")?;
        let wish = Wish {
            size: request.size,
            fps: options.agreed_fps(request.fps)?,
            format: request.format,
            side: options.wanted_side.unwrap_or(Options::WANTED_SIDE),
        };
        let name = request.node.display().to_string();
        let now = Instant::now();
        let (described, outage) = match probe(&request.node, &wish) {
            Ok((device, mode)) => {
                let (card, driver) = (device.card(), device.driver());
                (format!("camera {name} ({card}, {driver}), {mode}"), None)
            }
            Err(trouble) if trouble.is_lasting() => return Err(trouble.error),
            Err(trouble) => {
                log::warn!("waiting for camera {name}: {trouble}");
                (format!("camera {name} (waiting for it)"), Some(Outage { since: now, told: vec![trouble.cause] }))
            }
        };
        Ok(Self {
            wish,
            watch: NodeWatch::new(&request.node),
            request,
            name,
            described,
            status: Arc::default(),
            live: None,
            retry: Retry::new(now),
            outage,
            damaged: Episode::default(),
            last_damaged: now,
            settings: None,
        })
    }

    /// Looks for the camera, `until` or the stop at the latest.
    fn seek(&mut self, until: Instant, stop: &Stop) {
        while self.live.is_none() && !stop.is_requested() {
            let now = Instant::now();
            if now >= self.retry.due() {
                self.attempt(now);
            } else if now >= until {
                return;
            } else if self.watch.wait(self.retry.due().min(until)) {
                self.retry.hurry(Instant::now());
            }
            self.status.beat();
        }
    }

    /// Tries to open the camera.
    fn attempt(&mut self, now: Instant) {
        self.retry.begin(now);
        match Live::open(&self.request.node, &self.wish) {
            Ok((live, settings)) => {
                self.live = Some(live);
                if self.settings.as_ref() != Some(&settings) {
                    log::info!("camera {}: {settings}", self.name);
                    self.settings = Some(settings);
                }
            }
            Err(trouble) => {
                self.retry.note_down(Instant::now());
                self.note_trouble(&trouble);
            }
        }
    }

    /// Logs a reason for being without the camera, once per outage. That a lost one is not there needs no word of its own.
    fn note_trouble(&mut self, trouble: &Trouble) {
        let fresh = Outage { since: Instant::now(), told: Vec::new() };
        let outage = self.outage.get_or_insert(fresh);
        let lost = self.status.state() == State::Lost && trouble.cause == Cause::Missing;
        if !lost && !outage.told.contains(&trouble.cause) {
            outage.told.push(trouble.cause);
            log::warn!("still without camera {}: {trouble}", self.name);
        }
    }

    /// Gives everything back to the driver and begins to look for the camera again.
    fn lose(&mut self, why: &str) {
        let now = Instant::now();
        self.live = None;
        self.retry.note_down(now);
        if self.outage.is_none() {
            self.outage = Some(Outage { since: now, told: Vec::new() });
            log::warn!("camera {} lost: {why}; looking for it", self.name);
        } else if let Some(outage) = &mut self.outage
            && !outage.told.contains(&Cause::Failed)
        {
            outage.told.push(Cause::Failed);
            log::warn!("camera {} opens but gives nothing: {why}; trying on", self.name);
        }
        if self.status.state() == State::Up {
            self.status.set_state(State::Lost);
        }
    }

    /// A good frame: whatever was wrong is over.
    fn note_frame(&mut self) {
        if let Some(outage) = self.outage.take() {
            let seconds = outage.since.elapsed().as_secs_f64();
            log::info!("camera {} gives frames after {seconds:.1} s", self.name);
        }
        if self.status.state() != State::Up {
            if self.status.state() == State::Lost {
                self.status.note_reconnect();
            }
            self.status.set_state(State::Up);
            self.retry.note_up(Instant::now());
        }
        if self.damaged.failures() > 0
            && self.last_damaged.elapsed() >= SOUND
            && let Some(frames) = self.damaged.recovers()
        {
            log::info!("camera {}: good frames again after {frames} damaged ones", self.name);
        }
    }

    fn note_damage(&mut self, damage: Damage, why: &str) -> Event {
        self.status.note_damage(damage);
        self.last_damaged = Instant::now();
        if self.damaged.fails() {
            log::warn!(
                "camera {}: a frame is damaged ({why}); it and those like it are dropped and counted",
                self.name
            );
        }
        Event::Failed(damage)
    }
}

impl Source for Camera {
    /// Beats in [`Status`] before and after every wait. The deadline is kept by the system's clock, as drivers know no other; a call into
    /// the driver that hangs holds this thread, which the beat shows.
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event> {
        self.status.beat();
        let left = wait.deadline.saturating_duration_since(wait.clock.now());
        let until = Instant::now() + left.min(Duration::from_secs(3600));
        self.seek(until, wait.stop);
        let Some(live) = &mut self.live else { return Ok(Event::Idle) };
        let taken = live.take(until, wait.stop, &mut frame.picture, &self.status);
        self.status.beat();
        Ok(match taken {
            Taken::Frame(captured) => {
                self.note_frame();
                frame.name.clear();
                frame.name.push_str(&self.name);
                frame.captured = captured;
                Event::Frame
            }
            Taken::Damaged(damage, why) => self.note_damage(damage, &why),
            Taken::Nothing => Event::Idle,
            Taken::Lost(why) => {
                self.lose(&why);
                self.status.beat();
                Event::Idle
            }
        })
    }

    fn pace(&self) -> Pace {
        Pace::Live
    }

    fn describe(&self) -> String {
        self.described.clone()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> Option<Arc<Status>> {
        Some(Arc::clone(&self.status))
    }
}
