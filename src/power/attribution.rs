//! What a decision of each kind costs, although no meter sees a single frame.
//!
//! Over windows of some seconds, energy = idle power × time + Σ over kinds (energy per decision × decisions), by least squares. Where
//! the idle baseline was measured it is taken off first. The kinds can be told apart only when their mix changes from window to
//! window; every figure comes with the half-width of its 95 % interval, and one that is not known to better than half of itself is
//! "not resolved".

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Energy, Idle};
use crate::stats::student_95;

/// Report windows are joined until they are this long, so that a frame which was begun in one and decided in the next matters little.
const WINDOW_S: f64 = 5.0;
/// The past that counts: half an hour of windows. Power modes, clocks and temperatures change.
const MAX_WINDOWS: usize = 360;
/// So many windows beyond the unknowns are needed.
const MIN_FREEDOM: usize = 10;
/// Unknowns: idle power and the kinds of decisions.
const UNKNOWNS: usize = 4;
/// A column of which less than this is left, beside the others, cannot be told from them.
const COLLINEAR: f64 = 1e-4;
/// A half-width of at least this share of its value says nothing.
const RESOLVED: f64 = 0.5;

/// The decisions of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Answered by the coarse stage.
    pub coarse: u64,
    /// Answered by the fine stage, after the coarse one.
    pub fine: u64,
    /// Answered by the static pass.
    pub full: u64,
}

/// A figure with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Half the width of its 95 % interval.
    pub half_width: f64,
}

impl Estimate {
    /// Whether the figure is above 0 and known to better than half of itself.
    pub fn resolved(&self) -> bool {
        self.value > 0.0 && self.half_width < RESOLVED * self.value
    }
}

/// What decisions cost. `None` where there was no such decision, or the windows cannot tell it from the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerDecision {
    /// Idle power in milliwatts, where it was not measured before.
    pub idle_mw: Option<Estimate>,
    /// A coarse exit, in millijoules, idling not included.
    pub coarse_mj: Option<Estimate>,
    /// A decision of the fine stage, its coarse pass included, in millijoules, idling not included.
    pub fine_mj: Option<Estimate>,
    /// A decision of the static pass, in millijoules, idling not included.
    pub static_mj: Option<Estimate>,
    /// Windows that this rests on.
    pub windows: usize,
}

impl fmt::Display for PerDecision {
    /// `coarse exit 41.0 ± 3.1 mJ, fine not resolved (net of idling, 64 windows)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |estimate: Option<Estimate>| match estimate.filter(Estimate::resolved) {
            Some(Estimate { value, half_width }) => format!("{value:.1} ± {half_width:.1} mJ"),
            None => "not resolved".to_owned(),
        };
        write!(f, "coarse exit {}, fine {}", figure(self.coarse_mj), figure(self.fine_mj))?;
        if self.static_mj.is_some() {
            write!(f, ", static {}", figure(self.static_mj))?;
        }
        write!(f, " (net of idling, {} windows)", self.windows)
    }
}

/// One joined window: seconds and decisions by kind, and the energy.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    unknowns: [f64; UNKNOWNS],
    energy_mj: f64,
}

/// Collects windows.
#[derive(Debug)]
pub struct Attribution {
    idle: Option<Idle>,
    rows: VecDeque<Row>,
    joining: Row,
}

impl Attribution {
    /// With the measured baseline, if there is one.
    pub fn new(idle: Option<Idle>) -> Self {
        Self { idle, rows: VecDeque::with_capacity(MAX_WINDOWS), joining: Row::default() }
    }

    /// Takes a window. One without energy is left out, and so are the ones that it would have been joined with.
    pub fn push(&mut self, elapsed: Duration, energy: Option<Energy>, decisions: Decisions) {
        let Some(energy) = energy else {
            self.joining = Row::default();
            return;
        };
        let Decisions { coarse, fine, full } = decisions;
        let window = [elapsed.as_secs_f64(), coarse as f64, fine as f64, full as f64];
        for (sum, part) in self.joining.unknowns.iter_mut().zip(window) {
            *sum += part;
        }
        self.joining.energy_mj += energy.energy_mj;
        if self.joining.unknowns[0] >= WINDOW_S {
            if self.rows.len() == MAX_WINDOWS {
                self.rows.pop_front();
            }
            self.rows.push_back(std::mem::take(&mut self.joining));
        }
    }

    /// The least-squares estimate; `None` while there are too few windows.
    pub fn estimate(&self) -> Option<PerDecision> {
        let happened = |unknown: &usize| self.rows.iter().any(|row| row.unknowns[*unknown] > 0.0);
        let first = if self.idle.is_some() { 1 } else { 0 };
        let columns: Vec<usize> = (first..UNKNOWNS).filter(happened).collect();
        if columns.is_empty() || self.rows.len() < columns.len() + MIN_FREEDOM {
            return None;
        }
        // Where one kind cannot be told from the others, none can: leaving it out would book its energy on them.
        let estimates = fit(&self.rows, &columns, self.idle);
        let of = |unknown: usize| {
            let position = columns.iter().position(|&column| column == unknown)?;
            estimates.as_ref()?.get(position).copied()
        };
        let windows = self.rows.len();
        Some(PerDecision { idle_mw: of(0), coarse_mj: of(1), fine_mj: of(2), static_mj: of(3), windows })
    }
}

/// Ordinary least squares of the energies on the `columns` of the unknowns, net of `idle`; `None` where the columns cannot be told apart.
///
/// Power drifts with temperature, so neighbouring residuals are alike: the variance is raised by (1 + r)/(1 − r) with their lag-1
/// correlation r, as for a first-order autoregressive process. The baseline's own error is passed on to the figures.
fn fit(rows: &VecDeque<Row>, columns: &[usize], idle: Option<Idle>) -> Option<Vec<Estimate>> {
    let unknowns = columns.len();
    let idle_mw = idle.map_or(0.0, |idle| idle.mean_mw);
    // Columns of unit length keep the equations well scaled.
    let lengths: Vec<f64> =
        columns.iter().map(|&c| rows.iter().map(|row| row.unknowns[c].powi(2)).sum::<f64>().sqrt()).collect();
    let x = |row: &Row, j: usize| row.unknowns[columns[j]] / lengths[j];
    let y = |row: &Row| row.energy_mj - idle_mw * row.unknowns[0];

    let mut gram = [[0.0; UNKNOWNS]; UNKNOWNS];
    let (mut with_energy, mut with_time) = ([0.0; UNKNOWNS], [0.0; UNKNOWNS]);
    for row in rows {
        for j in 0..unknowns {
            (0..unknowns).for_each(|k| gram[j][k] += x(row, j) * x(row, k));
            with_energy[j] += x(row, j) * y(row);
            with_time[j] += x(row, j) * row.unknowns[0];
        }
    }
    let inverse = invert(gram, unknowns)?;
    let times = |vector: &[f64; UNKNOWNS], j: usize| (0..unknowns).map(|k| inverse[j][k] * vector[k]).sum::<f64>();
    let scaled: Vec<f64> = (0..unknowns).map(|j| times(&with_energy, j)).collect();

    let residual = |row: &Row| y(row) - (0..unknowns).map(|j| x(row, j) * scaled[j]).sum::<f64>();
    let residuals: Vec<f64> = rows.iter().map(residual).collect();
    let freedom = rows.len() - unknowns;
    let variance = spread(&residuals) / freedom as f64;
    let estimate = |j: usize| {
        let of_idle = idle.map_or(0.0, |idle| (times(&with_time, j) * idle.standard_error_mw).powi(2));
        let error = (variance * inverse[j][j] + of_idle).sqrt();
        Estimate { value: scaled[j] / lengths[j], half_width: student_95(freedom) * error / lengths[j] }
    };
    Some((0..unknowns).map(estimate).collect())
}

/// The sum of squares, raised for the likeness of neighbours.
fn spread(residuals: &[f64]) -> f64 {
    let squares: f64 = residuals.iter().map(|e| e * e).sum();
    let neighbours: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let r = if squares > 0.0 { (neighbours / squares).clamp(0.0, 0.95) } else { 0.0 };
    squares * (1.0 + r) / (1.0 - r)
}

/// The inverse of the first `n` rows and columns of a symmetric matrix with ones on its diagonal, by Gauss and Jordan; `None` where
/// it is close to singular.
fn invert(mut matrix: [[f64; UNKNOWNS]; UNKNOWNS], n: usize) -> Option<[[f64; UNKNOWNS]; UNKNOWNS]> {
    let mut inverse = [[0.0; UNKNOWNS]; UNKNOWNS];
    (0..n).for_each(|j| inverse[j][j] = 1.0);
    for pivot in 0..n {
        // What is left of a unit column beside those before it: positive definite, so no rows need to be exchanged.
        let left = matrix[pivot][pivot];
        if left.is_nan() || left < COLLINEAR {
            return None;
        }
        for k in 0..n {
            matrix[pivot][k] /= left;
            inverse[pivot][k] /= left;
        }
        for row in (0..n).filter(|&row| row != pivot) {
            let factor = matrix[row][pivot];
            for k in 0..n {
                matrix[row][k] -= factor * matrix[pivot][k];
                inverse[row][k] -= factor * inverse[pivot][k];
            }
        }
    }
    Some(inverse)
}
