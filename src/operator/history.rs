//! The last five minutes second by second, and the last day minute by minute, in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;

use half::f16;

/// Rows a second apart that are kept: five minutes.
pub const SECONDS: usize = 300;
/// Rows a minute apart that are kept: a day.
pub const MINUTES: usize = 24 * 60;
/// So many seconds are one row of the second kind.
const MINUTE: usize = 60;

/// The values of a camera in a row, in this order. NaN where there is none.
pub const CAMERA_COLUMNS: [&str; 7] =
    ["confidence", "threshold", "fine_share", "age_p50_ms", "age_p99_ms", "frames_per_s", "dropped_per_s"];
/// The values of the machine in a row, in this order; the times of the stages are over all cameras. NaN where it was not measured.
pub const MACHINE_COLUMNS: [&str; 8] = [
    "power_w",
    "energy_mj_per_frame",
    "temperature_celsius",
    "limited",
    "coarse_p50_ms",
    "coarse_p99_ms",
    "fine_p50_ms",
    "fine_p99_ms",
];

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

/// A [`Row`] as it is kept for a day: a chart needs no more than the three digits of half precision, and the cameras change rarely.
#[derive(Clone, Debug)]
struct Kept {
    unix_ms: u64,
    cameras: Arc<[String]>,
    /// Those of the machine, then of each camera.
    values: Box<[f16]>,
}

impl Kept {
    /// `before` is the row kept last, whose list of cameras is used again where it is the same.
    fn new(row: &Row, before: Option<&Kept>) -> Self {
        let names = || row.cameras.iter().map(|(name, _)| name);
        let same = before.filter(|before| before.cameras.iter().eq(names()));
        let values = row.machine.iter().chain(row.cameras.iter().flat_map(|(_, values)| values));
        Self {
            unix_ms: row.unix_ms,
            cameras: same.map_or_else(|| names().cloned().collect(), |before| Arc::clone(&before.cameras)),
            values: values.map(|&value| f16::from_f32(value)).collect(),
        }
    }

    fn row(&self) -> Row {
        let (machine, cameras) = self.values.split_at(MACHINE_COLUMNS.len());
        let cameras = self.cameras.iter().cloned().zip(cameras.chunks_exact(CAMERA_COLUMNS.len()).map(widened));
        Row { unix_ms: self.unix_ms, machine: widened(machine), cameras: cameras.collect() }
    }
}

fn widened<const N: usize>(values: &[f16]) -> [f32; N] {
    std::array::from_fn(|at| values.get(at).map_or(f32::NAN, |value| value.to_f32()))
}

/// Rows of both kinds.
#[derive(Clone, Debug, Default)]
pub struct History {
    seconds: VecDeque<Kept>,
    minutes: VecDeque<Kept>,
    newest: Option<Row>,
    since_minute: usize,
}

impl History {
    /// Adds a row; each sixtieth also completes a minute.
    pub fn push(&mut self, row: Row) {
        keep(&mut self.seconds, &row, SECONDS);
        self.newest = Some(row);
        self.since_minute += 1;
        if self.since_minute == MINUTE {
            self.since_minute = 0;
            let last: Vec<Row> = self.seconds.iter().rev().take(MINUTE).map(Kept::row).collect();
            if let Some(minute) = mean(&last) {
                keep(&mut self.minutes, &minute, MINUTES);
            }
        }
    }

    /// The last five minutes, oldest first, to three digits.
    pub fn seconds(&self) -> impl Iterator<Item = Row> + '_ {
        self.seconds.iter().map(Kept::row)
    }

    /// The last day, oldest first, to three digits.
    pub fn minutes(&self) -> impl Iterator<Item = Row> + '_ {
        self.minutes.iter().map(Kept::row)
    }

    /// The newest row.
    pub fn newest(&self) -> Option<&Row> {
        self.newest.as_ref()
    }
}

fn keep(rows: &mut VecDeque<Kept>, row: &Row, limit: usize) {
    if rows.len() == limit {
        rows.pop_front();
    }
    let kept = Kept::new(row, rows.back());
    rows.push_back(kept);
}

/// The mean of `rows`, newest first: each value over the rows that have it, the cameras of the newest.
fn mean(rows: &[Row]) -> Option<Row> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(second: usize, value: f32) -> Row {
        let mut values = [f32::NAN; CAMERA_COLUMNS.len()];
        values[0] = value;
        let mut machine = [f32::NAN; MACHINE_COLUMNS.len()];
        (machine[0], machine[2]) = (value, 40.0);
        Row { unix_ms: second as u64 * 1000, machine, cameras: vec![("a".to_owned(), values)] }
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

    #[test]
    fn a_day_of_eight_cameras_takes_at_most_400_kb_and_loses_no_more_than_the_fourth_digit() {
        let value = |at: usize| 0.1 + 1.7 * at as f32;
        let row = Row {
            unix_ms: 7,
            machine: std::array::from_fn(value),
            cameras: (0..8).map(|i| (format!("camera{i}"), std::array::from_fn(|at| value(at + i)))).collect(),
        };
        let mut history = History::default();
        (0..MINUTES * MINUTE).for_each(|_| history.push(row.clone()));
        // An allocator's own part of each piece of memory.
        const OWN: usize = 16;
        let rows = history.seconds.iter().chain(&history.minutes);
        let values: usize = rows.map(|kept| size_of_val(&*kept.values) + OWN).sum();
        let places = history.seconds.capacity() + history.minutes.capacity();
        let bytes = values + places * size_of::<Kept>();
        assert!(bytes <= 400_000, "{bytes}");
        let (first, second) = (&history.seconds[0], &history.seconds[1]);
        assert!(Arc::ptr_eq(&first.cameras, &second.cameras), "one list of names for all");
        let kept = history.minutes().next().unwrap();
        assert_eq!(
            kept.cameras.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            row.cameras.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        let pairs = kept.cameras[7].1.iter().zip(&row.cameras[7].1).chain(kept.machine.iter().zip(&row.machine));
        for (kept, told) in pairs {
            assert!((kept / told - 1.0).abs() < 1e-3, "{kept} was {told}");
        }
    }

    #[test]
    fn a_camera_that_joins_or_leaves_changes_the_rows_from_then_on() {
        let mut history = History::default();
        let mut with = row(1, 0.5);
        history.push(with.clone());
        with.cameras.push(("b".to_owned(), [0.25; CAMERA_COLUMNS.len()]));
        history.push(with.clone());
        with.cameras.remove(0);
        history.push(with);
        let names: Vec<Vec<String>> =
            history.seconds().map(|row| row.cameras.into_iter().map(|(name, _)| name).collect()).collect();
        assert_eq!(names, [vec!["a"], vec!["a", "b"], vec!["b"]]);
        assert_eq!(history.seconds().last().unwrap().cameras[0].1, [0.25; CAMERA_COLUMNS.len()]);
    }
}
