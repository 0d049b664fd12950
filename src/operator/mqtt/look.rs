//! What is seen of the cameras at one moment, read from the board.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::payload::{Answer, Numbers};
use super::publisher::Sight;
use crate::machine;
use crate::operator::board::Board;
use crate::operator::history::Row;
use crate::operator::presence::Presence;
use crate::operator::sampler::Sampler;
use crate::pipeline::CameraView;

/// The first numbers are of so much time: nobody waits a minute to see whether it works.
const FIRST_NUMBERS: Duration = Duration::from_secs(5);

/// Looks again and again.
#[derive(Debug)]
pub struct Sights {
    period: Duration,
    sampler: Sampler,
    next: Instant,
    row: Option<Row>,
    has_energy: bool,
    presence: Presence,
}

impl Sights {
    /// Takes numbers over each `period`.
    pub fn new(period: Duration) -> Self {
        let now = Instant::now();
        let (sampler, next, presence) = (Sampler::new(now), now + FIRST_NUMBERS.min(period), Presence::default());
        Self { period, sampler, next, row: None, has_energy: false, presence }
    }

    /// Whether energy was ever measured in this run.
    pub fn has_energy(&self) -> bool {
        self.has_energy
    }

    /// All cameras in service; `None` before the run has begun.
    pub fn look(&mut self, board: &Arc<Board>, now: Instant) -> Option<Vec<Sight>> {
        let view = board.view()?;
        if now >= self.next {
            self.next = now + self.period;
            let machine = machine::State::read(Path::new("/"));
            self.row = Some(self.sampler.sample(now, board, &machine));
        }
        let energy = view.energy();
        self.has_energy |= energy.is_some();
        let sight = |camera: &CameraView| Sight {
            camera: camera.name.clone(),
            online: self.presence.is_there(&camera.name, camera.state, now),
            answer: answer(board, &camera.name),
            numbers: self.row.as_ref().map(|row| (Numbers::new(&camera.name, row, energy), row.unix_ms)),
        };
        // A run has at least one camera; where there is none, it has not quite begun.
        Some(view.cameras().iter().map(sight).collect()).filter(|sights: &Vec<Sight>| !sights.is_empty())
    }
}

/// The answer that holds for `camera`, and when its last frame was decided.
fn answer(board: &Board, camera: &str) -> Option<(Answer, Instant)> {
    let newest = board.find(camera)?.newest()?;
    Some((Answer::new(board.label(newest.smooth.label), &newest), newest.decided))
}
