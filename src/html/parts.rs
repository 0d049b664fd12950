//! What the pages are put together from.

use maud::{Markup, PreEscaped, html};

use crate::bench::energy::Draw;
use crate::machine::State;
use crate::plot::Plot;
use crate::report::text::{printable, shorten};
use crate::stats::Interval;

/// What stands where there is no number.
pub const NOT_MEASURED: &str = "not measured";

/// The longest name that is shown, in characters.
const LONGEST: usize = 80;
/// The longest sentence or command line.
const LONGEST_TEXT: usize = 1000;

/// A name from outside: without characters that steer, and cut.
pub fn clip(text: &str) -> String {
    shorten(&printable(text), LONGEST)
}

/// A sentence or a command line from outside.
pub fn clip_text(text: &str) -> String {
    shorten(&printable(text), LONGEST_TEXT)
}

/// `value` to `digits` places.
pub fn fixed(value: f64, digits: usize) -> String {
    // Not "-0.0".
    let text = format!("{value:.digits$}");
    match text.starts_with('-') && text.bytes().all(|b| !b.is_ascii_digit() || b == b'0') {
        true => text[1..].to_owned(),
        false => text,
    }
}

/// `value`, or that it was not measured.
pub fn maybe(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or(NOT_MEASURED.to_owned(), |value| format!("{} {unit}", fixed(value, digits)).trim_end().to_owned())
}

/// `low to high`.
pub fn interval(interval: &Interval, digits: usize) -> String {
    format!("{} to {}", fixed(interval.low, digits), fixed(interval.high, digits))
}

/// The energy of a frame with its interval.
pub fn energy(draw: Option<&Draw>) -> String {
    let Some(Draw { mj_per_frame, mj_half, .. }) = draw else { return NOT_MEASURED.to_owned() };
    let half = mj_half.map_or(String::new(), |half| format!(" ± {}", fixed(half, 1)));
    format!("{}{half}", fixed(*mj_per_frame, 1))
}

/// A number as a percentage.
pub fn percent(share: f64) -> String {
    format!("{} %", fixed(100.0 * share, 1))
}

/// What may be wider than a telephone: it scrolls by itself, also by keyboard.
pub fn wide(about: &str, content: Markup) -> Markup {
    html! { div.wide role="region" aria-label=(about) tabindex="0" { (content) } }
}

/// A plot with its explanation below.
pub fn figure(plot: &Plot, caption: &str) -> Markup {
    html! {
        figure {
            (wide(&plot.title, PreEscaped(plot.to_inline_svg())))
            figcaption { (caption) }
        }
    }
}

/// A table of numbers: the first column names the rows.
pub fn table(about: &str, header: &[&str], rows: &[Vec<String>]) -> Markup {
    wide(
        about,
        html! {
            table {
                thead { tr { @for (i, cell) in header.iter().enumerate() { th.n[i > 0] scope="col" { (cell) } } } }
                tbody {
                    @for row in rows {
                        tr { @for (i, cell) in row.iter().enumerate() { @if i == 0 { th scope="row" { (cell) } } @else { td.n { (cell) } } } }
                    }
                }
            }
        },
    )
}

/// Name and value, one below the other.
pub type Facts = Vec<(&'static str, String)>;

/// Facts as a table.
pub fn facts(facts: &Facts) -> Markup {
    html! { table.facts { tbody { @for (name, value) in facts { tr { th scope="row" { (name) } td { (value) } } } } } }
}

/// What is known of the machine at one moment, or before and after.
pub fn machine_facts(before: &State, after: Option<&State>) -> Facts {
    let pair = |of: fn(&State) -> Option<f64>, unit: &str| match (of(before), after.and_then(of)) {
        (Some(before), Some(after)) => format!("{before:.0} → {after:.0} {unit}"),
        (Some(before), None) => format!("{before:.0} {unit}"),
        _ => NOT_MEASURED.to_owned(),
    };
    let limits: Vec<&str> =
        [Some(before), after].into_iter().flatten().flat_map(|state| &state.limited_by).map(String::as_str).collect();
    let mode = before.power_mode.as_deref().map_or("this machine tells of none".to_owned(), clip);
    let mut facts = vec![
        ("Power mode", mode),
        ("Processor clock", pair(|state| state.clock_mhz, "MHz")),
        ("GPU clock", pair(|state| state.gpu_clock_mhz, "MHz")),
        ("Hottest zone", pair(|state| state.hottest_celsius, "°C")),
    ];
    if !limits.is_empty() {
        facts.push(("Held back by", clip_text(&limits.join(", "))));
    }
    facts
}

/// Sentences that call for care.
pub fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            ul.warnings { @for warning in warnings.iter().take(20) { li { "Warning: " (clip_text(warning)) } } }
        }
    }
}

/// The command line that measures again.
pub fn rerun(command: &str) -> Markup {
    html! { p { "To measure again:" } pre { code { (clip_text(command)) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_and_what_is_not_there_is_said() {
        assert_eq!([fixed(-0.0001, 2), fixed(-0.51, 1), fixed(1.0, 0)], ["0.00", "-0.5", "1"]);
        assert_eq!(
            [maybe(None, 1, "W"), maybe(Some(2.0), 1, "W"), maybe(Some(2.0), 0, "")],
            ["not measured", "2.0 W", "2"]
        );
        assert_eq!(energy(None), "not measured");
        assert_eq!(energy(Some(&Draw { mean_mw: 1.0, mj_per_frame: 12.34, mj_half: Some(0.5) })), "12.3 ± 0.5");
    }
}
