//! The last five minutes second by second, and the last day minute by minute, in bounded memory.

use std::collections::{HashMap, VecDeque};
use std::time::{Instant, SystemTime};

use super::board::{Board, unix_ms};
use super::histogram::Counted;
use crate::machine;
use crate::power::Energy;
use crate::report::Tally;

/// Rows a second apart that are kept: five minutes.
pub const SECONDS: usize = 300;
/// Rows a minute apart that are kept: a day.
pub const MINUTES: usize = 24 * 60;
/// So many seconds are one row of the second kind.
const MINUTE: usize = 60;

/// The values of a camera in a row, in this order. NaN where there is none.
pub const CAMERA_COLUMNS: [&str; 7] =
    ["confidence", "threshold", "fine_share", "age_p50_ms", "age_p99_ms", "frames_per_s", "dropped_per_s"];
/// The values of the machine in a row, in this order. NaN where it was not measured.
pub const MACHINE_COLUMNS: [&str; 4] = ["power_w", "energy_mj_per_frame", "temperature_celsius", "limited"];

/// One moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Milliseconds of Unix time.
    pub unix_ms: u64,
    /// By [`MACHINE_COLUMNS`].
    pub machine: [f32; MACHINE_COLUMNS.len()],
    /// By [`CAMERA_COLUMNS`], of every camera in service.
    pub cameras: Vec<(String, [f32; CAMERA_COLUMNS.len()])>,
}

/// Rows of both kinds.
#[derive(Clone, Debug, Default)]
pub struct History {
    seconds: VecDeque<Row>,
    minutes: VecDeque<Row>,
    since_minute: usize,
}

impl History {
    /// Adds a row; each sixtieth also completes a minute.
    pub fn push(&mut self, row: Row) {
        keep(&mut self.seconds, row, SECONDS);
        self.since_minute += 1;
        if self.since_minute == MINUTE {
            self.since_minute = 0;
            let last: Vec<&Row> = self.seconds.iter().rev().take(MINUTE).collect();
            if let Some(minute) = mean(&last) {
                keep(&mut self.minutes, minute, MINUTES);
            }
        }
    }

    /// The last five minutes, oldest first.
    pub fn seconds(&self) -> impl Iterator<Item = &Row> {
        self.seconds.iter()
    }

    /// The last day, oldest first.
    pub fn minutes(&self) -> impl Iterator<Item = &Row> {
        self.minutes.iter()
    }

    /// The newest row.
    pub fn newest(&self) -> Option<&Row> {
        self.seconds.back()
    }
}

fn keep(rows: &mut VecDeque<Row>, row: Row, limit: usize) {
    if rows.len() == limit {
        rows.pop_front();
    }
    rows.push_back(row);
}

/// The mean of `rows`, newest first: each value over the rows that have it, the cameras of the newest.
fn mean(rows: &[&Row]) -> Option<Row> {
    let newest = rows.first()?;
    let machine = average(rows.iter().map(|row| &row.machine));
    let of = |name: &String| {
        let values =
            rows.iter().filter_map(|row| row.cameras.iter().find(|(other, _)| other == name).map(|(_, values)| values));
        (name.clone(), average(values))
    };
    Some(Row { unix_ms: newest.unix_ms, machine, cameras: newest.cameras.iter().map(|(name, _)| of(name)).collect() })
}

fn average<'a, const N: usize>(rows: impl Iterator<Item = &'a [f32; N]>) -> [f32; N] {
    let (mut sums, mut counts) = ([0f64; N], [0u32; N]);
    for row in rows {
        for (at, value) in row.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            sums[at] += f64::from(*value);
            counts[at] += 1;
        }
    }
    std::array::from_fn(|at| if counts[at] == 0 { f32::NAN } else { (sums[at] / f64::from(counts[at])) as f32 })
}

/// Makes rows from what a board has counted.
#[derive(Debug)]
pub struct Sampler {
    at: Instant,
    cameras: HashMap<String, (Tally, Counted, Counted)>,
    energy: Option<Energy>,
    decided: u64,
}

impl Sampler {
    /// The first row is of the time after `now`.
    pub fn new(now: Instant) -> Self {
        Self { at: now, cameras: HashMap::new(), energy: None, decided: 0 }
    }

    /// The row of the time from the last one to `now`. `machine` is its newest known state.
    pub fn sample(&mut self, now: Instant, board: &Board, machine: &machine::State) -> Row {
        let elapsed_s = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let views = board.view().map(|view| view.cameras()).unwrap_or_default();
        let energy = board.view().and_then(|view| view.energy());
        let decided: u64 = views.iter().map(|camera| camera.tally.decided).sum();
        self.cameras.retain(|name, _| views.iter().any(|camera| camera.name == *name));
        let cameras = views.iter().map(|camera| {
            let values = self.camera(board, &camera.name, camera.tally, elapsed_s);
            (camera.name.clone(), values)
        });
        let cameras = cameras.collect();
        let spent = energy.zip(self.energy).map(|(now, before)| now.energy_mj - before.energy_mj);
        let frames = decided.saturating_sub(self.decided);
        (self.energy, self.decided) = (energy, decided);
        let power_w = spent.filter(|_| elapsed_s > 0.0).map(|spent_mj| spent_mj / 1e3 / elapsed_s);
        let machine = [
            power_w,
            spent.filter(|_| frames > 0).map(|spent_mj| spent_mj / frames as f64),
            machine.hottest_celsius,
            Some(f64::from(u8::from(!machine.limited_by.is_empty()))),
        ];
        Row { unix_ms: unix_ms(SystemTime::now()), machine: machine.map(or_nan), cameras }
    }

    fn camera(&mut self, board: &Board, name: &str, tally: Tally, elapsed_s: f64) -> [f32; CAMERA_COLUMNS.len()] {
        let channel = board.find(name);
        let counted = channel.as_ref().map(|channel| (channel.age.counted(), channel.confidence.counted()));
        let (age, confidence) = counted.unwrap_or_default();
        let before = self.cameras.insert(name.to_owned(), (tally, age.clone(), confidence.clone()));
        let (tally_before, age_before, confidence_before) = before.unwrap_or_default();
        // A camera that began anew has counted less than before.
        let tally = if tally.captured < tally_before.captured { tally } else { tally.since(&tally_before) };
        let (age, confidence) = (age.since(&age_before), confidence.since(&confidence_before));
        let threshold = channel.and_then(|channel| channel.threshold().in_force()).map(f64::from);
        let per_s = |count: u64| (elapsed_s > 0.0).then(|| count as f64 / elapsed_s);
        let ms = |q: f64| age.quantile(q).map(|seconds| seconds * 1e3);
        [
            confidence.mean(),
            threshold,
            tally.fine_fraction(),
            ms(0.5),
            ms(0.99),
            per_s(tally.decided),
            per_s(tally.dropped),
        ]
        .map(or_nan)
    }
}

fn or_nan(value: Option<f64>) -> f32 {
    value.map_or(f32::NAN, |value| value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(second: usize, value: f32) -> Row {
        let mut values = [f32::NAN; CAMERA_COLUMNS.len()];
        values[0] = value;
        Row {
            unix_ms: second as u64 * 1000,
            machine: [value, f32::NAN, 40.0, 0.0],
            cameras: vec![("a".to_owned(), values)],
        }
    }

    #[test]
    fn five_minutes_and_a_day_are_kept_and_no_more() {
        let mut history = History::default();
        let total = (MINUTES + 3) * MINUTE;
        (0..total).for_each(|second| history.push(row(second, 1.0)));
        assert_eq!((history.seconds().count(), history.minutes().count()), (SECONDS, MINUTES));
        assert_eq!(history.newest().map(|row| row.unix_ms), Some((total as u64 - 1) * 1000));
        assert_eq!(history.minutes().next().map(|row| row.unix_ms), Some((4 * MINUTE as u64 - 1) * 1000));
    }

    #[test]
    fn a_minute_is_the_mean_of_what_was_measured_and_never_a_zero_for_nothing() {
        let mut history = History::default();
        (0..MINUTE).for_each(|second| history.push(row(second, if second < 30 { f32::NAN } else { second as f32 })));
        let minute = history.minutes().next().unwrap();
        assert_eq!((minute.machine[0], minute.cameras[0].1[0]), (44.5, 44.5));
        assert!(minute.machine[1].is_nan() && minute.cameras[0].1[1].is_nan());
    }
}
