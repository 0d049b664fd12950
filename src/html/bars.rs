//! Horizontal bars as inline SVG.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::parts::{clip, wide};

const WIDTH: f64 = 720.0;
const ROW: f64 = 28.0;
/// Where the bars begin, and where the longest whisker ends.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 560.0;

/// A bar: its name, its value, how far its whisker goes, and what is written beside it.
pub struct Bar {
    /// At the left.
    pub name: String,
    /// The length.
    pub value: f64,
    /// The end of the line through the bar's end, at least `value`.
    pub whisker: f64,
    /// At the right.
    pub text: String,
}

/// The bars below each other, all on the same scale from 0.
pub fn bars(about: &str, bars: &[Bar], caption: &str) -> Markup {
    let longest = bars.iter().map(|bar| bar.value.max(bar.whisker)).filter(|v| v.is_finite()).fold(1e-9, f64::max);
    let place = |value: f64| LEFT + (value / longest).clamp(0.0, 1.0) * (RIGHT - LEFT);
    let mut svg = String::new();
    let height = ROW * bars.len() as f64 + 8.0;
    let head = html! { (about) }.into_string();
    // Writing to a String does not fail.
    let _ = writeln!(
        svg,
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{head}\">\n<g font-family=\"sans-serif\" font-size=\"13\" stroke=\"currentColor\">"
    );
    for (i, bar) in bars.iter().enumerate() {
        let (y, middle) = (4.0 + ROW * i as f64, 4.0 + ROW * (i as f64 + 0.5));
        let (end, whisker) = (place(bar.value), place(bar.whisker.max(bar.value)));
        let (name, text) = (html! { (clip(&bar.name)) }.into_string(), html! { (clip(&bar.text)) }.into_string());
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n\
             <rect class=\"bar\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{:.1}\"/>\n\
             <path d=\"M{end:.2} {middle:.1}H{whisker:.2}M{whisker:.2} {:.1}v8\" fill=\"none\"/>\n\
             <text x=\"{:.2}\" y=\"{:.1}\">{text}</text>",
            LEFT - 8.0,
            middle + 4.5,
            y + 4.0,
            end - LEFT,
            ROW - 8.0,
            middle - 4.0,
            whisker + 8.0,
            middle + 4.5,
        );
    }
    svg.push_str("</g>\n</svg>\n");
    html! { figure { (wide(about, PreEscaped(svg))) figcaption { (caption) } } }
}
