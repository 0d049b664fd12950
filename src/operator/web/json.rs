//! What the interface says, as JSON. A number that is not known is `null`, never 0.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::board::{Board, Snapshot, unix_ms};
use super::super::feed::steps_ms;
use super::super::history::{CAMERA_COLUMNS, MACHINE_COLUMNS, Row};
use super::serve::App;
use crate::pipeline::CameraView;
use crate::power::{Estimate, PerDecision};
use crate::report::CameraState;

/// `value` to four places.
fn number(value: f32) -> Value {
    let rounded = (f64::from(value) * 1e4).round() / 1e4;
    if rounded.is_finite() { json!(rounded) } else { Value::Null }
}

fn maybe(value: Option<f32>) -> Value {
    value.map_or(Value::Null, number)
}

/// One function for all objects whose keys come from elsewhere: each kind of iterator would bring a sort of its own.
fn object(members: &mut dyn Iterator<Item = (String, Value)>) -> Value {
    Value::Object(members.collect())
}

/// Everything that is to be known now.
pub fn state(app: &App, may_write: bool) -> Value {
    let board = &app.board;
    let history = app.history();
    let row = history.newest();
    let cameras = board.view().map(|view| view.cameras()).unwrap_or_default();
    let machine = app.machine();
    json!({
        "v": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "time_ms": unix_ms(SystemTime::now()),
        "started_ms": unix_ms(board.started),
        "model": board.facts.model,
        "engine": board.facts.engine,
        "classes": board.facts.labels.len(),
        "grid": board.facts.grid,
        "crop": board.facts.crop,
        "may_write": may_write,
        "may_login": app.access.has_token(),
        "cameras": cameras.iter().map(|view| camera(board, view, row)).collect::<Vec<_>>(),
        "machine": {
            "power_mode": machine.power_mode,
            "zones_celsius": machine.zones_celsius,
            "clock_mhz": machine.clock_mhz,
            "gpu_clock_mhz": machine.gpu_clock_mhz,
            "limited_by": machine.limited_by,
            "last_second": row.map(|row| named(&MACHINE_COLUMNS, &row.machine)),
            "per_decision": app.drawn().per_decision.map(per_decision),
        },
        "told": crate::logging::told_count(),
        "examples": board.examples.as_ref().map(|shelf| {
            let usage = shelf.usage();
            json!({ "files": usage.files, "bytes": usage.bytes })
        }),
        "steps_ms": object(&mut board.steps.iter().zip(super::super::board::STEPS).map(|(step, name)| {
            (name.to_owned(), maybe(step.counted().mean().map(|mean_s| (mean_s * 1e3) as f32)))
        })),
        "clients": { "connections": app.connections(), "streams": app.streams() },
    })
}

fn camera(board: &Board, view: &CameraView, row: Option<&Row>) -> Value {
    let channel = board.find(&view.name);
    let newest = channel.as_ref().and_then(|channel| channel.newest());
    let threshold = channel.as_ref().map(|channel| channel.threshold());
    let pictures = channel.as_ref().map(|channel| {
        let (copies, encodes) = channel.easel.counts();
        json!({ "viewers": channel.easel.viewers(), "copies": copies, "encodes": encodes })
    });
    let last_second = row.and_then(|row| row.cameras.iter().find(|(name, _)| *name == view.name));
    let tally = view.tally;
    json!({
        "name": view.name,
        "state": state_word(view.state),
        "source": view.about,
        "age_s": newest.as_ref().map(|newest| (newest.decided.elapsed() + newest.latency).as_secs_f64()),
        "threshold": threshold.map(|threshold| json!({
            "in_force": maybe(threshold.in_force()),
            "configured": maybe(threshold.configured),
            "guarded": threshold.guarded,
            "changed_ms": threshold.changed.map(|(_, at_ms)| at_ms),
        })),
        "degraded": board.promises.is_degraded(&view.name),
        "frames": {
            "captured": tally.captured, "decided": tally.decided, "dropped": tally.dropped, "failed": tally.failed,
            "in_flight": tally.in_flight, "fine": tally.fine, "static": tally.full,
            "corrupt": tally.corrupt, "short": tally.short,
        },
        "confidence": channel.as_ref().map(|channel| {
            let buckets = channel.confidence.counted().buckets;
            buckets.iter().map(|&(bound, count)| json!([bound.min(1.0), count])).collect::<Vec<_>>()
        }),
        "reconnects": view.counts.map(|counts| counts.reconnects),
        "last_second": last_second.map(|(_, values)| named(&CAMERA_COLUMNS, values)),
        "pictures": pictures,
        "decision": newest.map(|newest| decision(board, &newest, None)),
    })
}

/// What a decision costs beyond idling; `null` where the windows do not tell.
fn per_decision(costs: PerDecision) -> Value {
    let resolved =
        |estimate: Option<Estimate>| estimate.filter(Estimate::resolved).map(|estimate| estimate.value as f32);
    json!({ "coarse_mj": maybe(resolved(costs.coarse_mj)), "fine_mj": maybe(resolved(costs.fine_mj)) })
}

/// What stays the same for the whole run.
pub fn model(board: &Board) -> Value {
    let facts = &board.facts;
    json!({ "v": 1, "labels": facts.labels, "accuracy": facts.accuracy, "promise": facts.promise })
}

/// The last warnings and errors, newest first.
pub fn told() -> Value {
    let told = crate::logging::told();
    let told = told.iter().map(|told| {
        json!({ "time_ms": unix_ms(told.at), "level": told.level.as_str().to_ascii_lowercase(), "text": told.text })
    });
    json!({ "v": 1, "told": told.collect::<Vec<_>>() })
}

/// The word for a state.
pub fn state_word(state: CameraState) -> &'static str {
    match state {
        CameraState::Up => "up",
        CameraState::Waiting => "waiting",
        CameraState::Lost => "lost",
        CameraState::Ended => "ended",
    }
}

fn named(names: &[&str], values: &[f32]) -> Value {
    object(&mut names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), number(*value))))
}

/// One decision; `size` is that of its picture, where one was taken.
pub fn decision(board: &Board, snapshot: &Snapshot, size: Option<(usize, usize)>) -> Value {
    let class = |&(label, probability): &(usize, f32)| json!({ "label": label, "name": board.label(label), "probability": number(probability) });
    let steps = super::super::board::STEPS.iter().zip(steps_ms(snapshot.timing));
    let steps = object(&mut steps.map(|(step, ms)| ((*step).to_owned(), json!((ms * 1e3).round() / 1e3))));
    // As shares of what the most looked at cell got.
    let most = snapshot.attention.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    json!({
        "seq": snapshot.seq,
        "captured_ms": unix_ms(snapshot.captured),
        "stage": snapshot.stage.as_str(),
        "label": snapshot.label,
        "name": board.label(snapshot.label),
        "confidence": number(snapshot.confidence),
        "smooth": class(&(snapshot.smooth.label, snapshot.smooth.confidence)),
        "coarse_confidence": number(snapshot.coarse_confidence),
        "threshold": number(snapshot.threshold),
        "top": snapshot.top.iter().map(class).collect::<Vec<_>>(),
        "coarse_top": snapshot.coarse_top.iter().map(class).collect::<Vec<_>>(),
        "informative": snapshot.informative,
        "attention": snapshot.attention.iter().map(|value| number(value / most)).collect::<Vec<_>>(),
        "latency_ms": number((snapshot.latency.as_secs_f64() * 1e3) as f32),
        "timing_ms": steps,
        "width": size.map(|(width, _)| width),
        "height": size.map(|(_, height)| height),
    })
}

/// The rows as columns, oldest first.
pub fn history(rows: impl Iterator<Item = Row>, step_s: u32) -> Value {
    let rows: Vec<Row> = rows.collect();
    let names = rows.last().map(|row| row.cameras.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let column = |of: &dyn Fn(&Row) -> f32| Value::Array(rows.iter().map(|row| number(of(row))).collect());
    let columns = MACHINE_COLUMNS.iter().enumerate();
    let machine = object(&mut columns.map(|(at, name)| ((*name).to_owned(), column(&|row| row.machine[at]))));
    let camera = |name: String| {
        let value = |row: &Row, at: usize| {
            row.cameras.iter().find(|(other, _)| *other == name).map_or(f32::NAN, |(_, values)| values[at])
        };
        let columns = CAMERA_COLUMNS.iter().enumerate();
        let columns =
            object(&mut columns.map(|(at, column_name)| ((*column_name).to_owned(), column(&|row| value(row, at)))));
        (name.clone(), columns)
    };
    let cameras = object(&mut names.unwrap_or_default().into_iter().map(camera));
    json!({
        "v": 1,
        "step_s": step_s,
        "time_ms": rows.iter().map(|row| row.unix_ms).collect::<Vec<_>>(),
        "machine": machine,
        "cameras": cameras,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_never_zero() {
        let values = [0.5, f32::NAN, f32::INFINITY, 0.0, 1.0, 2.0, 1.0 / 3.0];
        let row =
            Row { unix_ms: 7, machine: [f32::NAN; MACHINE_COLUMNS.len()], cameras: vec![("a<b".to_owned(), values)] };
        let history = history([row].into_iter(), 1);
        assert_eq!(history["machine"]["power_w"], json!([null]));
        assert_eq!(history["cameras"]["a<b"]["confidence"], json!([0.5]));
        assert_eq!(history["cameras"]["a<b"]["threshold"], json!([null]));
        assert_eq!(history["cameras"]["a<b"]["dropped_per_s"], json!([0.3333]));
    }
}
