//! How many frames a promise takes.

use super::binomial;

/// A limit is comfortable when this part of it may be seen among the calibration frames: less room, and η gives too much away.
pub const ROOM: f64 = 0.6;

/// Numbers of frames that [`rows`] shows.
const FRAMES: [u64; 7] = [100, 300, 1000, 2000, 3000, 5000, 10_000];
/// The limits that people ask for, largest first.
pub const LIMITS: [f64; 7] = [0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

/// What so many frames allow.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// Frames.
    pub n: u64,
    /// How many of them may be bad; `None` where they are too few to promise anything.
    pub allowed: Option<u64>,
}

/// The plan for a limit of `epsilon`: the fewest frames, a comfortable number, and round numbers.
pub fn rows(epsilon: f64, delta: f64) -> Vec<Row> {
    let fewest = binomial::fewest(epsilon, delta);
    let comfortable = binomial::comfortable(epsilon, delta, ROOM);
    let mut frames: Vec<u64> = FRAMES.into_iter().chain([fewest, comfortable]).collect();
    frames.sort_unstable();
    frames.dedup();
    frames.into_iter().map(|n| Row { n, allowed: binomial::allowed(n, epsilon, delta) }).collect()
}

/// The next tighter limit that people ask for, and the frames that it takes: the fewest, a comfortable number. `None` below the
/// smallest.
pub fn tighter(limit: f64, delta: f64) -> Option<(f64, u64, u64)> {
    let next = LIMITS.into_iter().find(|&next| next < limit * 0.999)?;
    Some((next, binomial::fewest(next, delta), binomial::comfortable(next, delta, ROOM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_the_fewest_frames_and_the_comfortable_ones() {
        let rows = rows(0.02, 0.05);
        assert_eq!(rows.iter().find(|row| row.n == 149).unwrap().allowed, Some(0));
        assert_eq!(rows[0], Row { n: 100, allowed: None });
        assert!(rows.iter().any(|row| row.n == binomial::comfortable(0.02, 0.05, ROOM)));
        assert!(rows.windows(2).all(|pair| pair[0].n < pair[1].n && pair[0].allowed <= pair[1].allowed));
        assert_eq!(tighter(0.02, 0.05).unwrap().0, 0.01);
        assert_eq!(tighter(0.013, 0.05).unwrap().0, 0.01);
        assert_eq!(tighter(0.001, 0.05), None);
    }
}
