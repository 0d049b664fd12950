//! Small line plots as SVG: readable in black and white (lines differ in their dashes, points in their shape), the same bytes for the same
//! numbers.

use std::fmt::Write;
use std::path::Path;

use crate::error::Result;
use crate::files;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 460.0;
/// Left, right, top, bottom of the frame.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 400.0;
/// About so many steps on an axis.
const TICKS: f64 = 6.0;
/// Width of a character of the labels, about.
const CHARACTER: f64 = 6.4;
/// The dashes of the lines, in their order; the first is solid.
const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];

/// A line through points.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Its points, in the order in which they are joined. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A filled circle: the chosen point.
    Dot,
    /// An open circle.
    Circle,
    /// An open square.
    Square,
    /// An open triangle.
    Triangle,
}

/// A marked point with its text beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// How it looks.
    pub shape: Shape,
    /// What it is.
    pub text: String,
    /// Where.
    pub at: (f64, f64),
}

/// A plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Above the frame.
    pub title: String,
    /// Below the horizontal axis, with the unit.
    pub x_label: String,
    /// Beside the vertical axis, with the unit.
    pub y_label: String,
    /// The lines, drawn in their order.
    pub lines: Vec<Line>,
    /// The points, drawn over the lines.
    pub marks: Vec<Mark>,
    /// A horizontal line at this height, with its text.
    pub level: Option<(f64, String)>,
}

/// One axis: from the value `low` at the place `from` to `high` at `to`.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Wide enough for `values`, with round ends.
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // One value only, or values that differ by next to nothing.
        let least = (low.abs().max(high.abs()) * 1e-9).max(1e-12);
        if high - low < least {
            (low, high) = (low - least.max(0.5), high + least.max(0.5));
        }
        let step = round_step((high - low) / TICKS);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The values at which there is a mark on the axis, with their text.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let digits = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        let count = ((self.high - self.low) / self.step).round().min(100.0) as u32;
        (0..=count).map(move |i| {
            let value = self.low + f64::from(i) * self.step;
            // Not "-0".
            (value, format!("{:.digits$}", if value.abs() < self.step / 2.0 { 0.0 } else { value }))
        })
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= step * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// `text` inside XML.
fn escaped(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect::<String>();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The plot as an SVG document: black on white.
    pub fn to_svg(&self) -> String {
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <style>text {{ fill: black; stroke: white; stroke-width: 3; paint-order: stroke }} .ink {{ fill: black }} \
             .paper {{ fill: white }} .grid {{ stroke: #ddd }}</style>\n{}</svg>\n",
            self.body()
        )
    }

    /// The plot as an element of an HTML page, without a style of its own: the page says what `.ink`, `.paper`, `.grid` and `text` in it look
    /// like, and with `color` what the lines do.
    pub fn to_inline_svg(&self) -> String {
        let title = escaped(&self.title);
        format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n{}</svg>\n",
            self.body()
        )
    }

    fn body(&self) -> String {
        let points = || {
            let lines = self.lines.iter().flat_map(|line| line.points.iter().copied());
            lines.chain(self.marks.iter().map(|mark| mark.at))
        };
        let x = Axis::new(points().map(|p| p.0), LEFT, RIGHT);
        let level = self.level.as_ref().map(|level| level.0);
        let y = Axis::new(points().map(|p| p.1).chain(level), BOTTOM, TOP);
        let mut svg = String::new();
        put(
            &mut svg,
            format_args!(
                "<g font-family=\"sans-serif\" font-size=\"12\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1\">\n\
                 <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>",
                escaped(&self.title)
            ),
        );
        self.frame(&mut svg, &x, &y);
        if let Some((height, text)) = &self.level {
            let place = y.place(*height);
            put(
                &mut svg,
                format_args!(
                    "<line x1=\"{LEFT}\" y1=\"{place:.2}\" x2=\"{RIGHT}\" y2=\"{place:.2}\" stroke-dasharray=\"1 4\"/>"
                ),
            );
            put(
                &mut svg,
                format_args!("<text x=\"{:.2}\" y=\"{:.2}\">{}</text>", LEFT + 6.0, place - 5.0, escaped(text)),
            );
        }
        for (line, dashes) in self.lines.iter().zip(DASHES.into_iter().cycle()) {
            polyline(&mut svg, line, dashes, &x, &y);
        }
        self.legend(&mut svg);
        let mut taken = Vec::with_capacity(self.marks.len());
        for mark in self.marks.iter().filter(|mark| mark.at.0.is_finite() && mark.at.1.is_finite()) {
            marked(&mut svg, mark, (x.place(mark.at.0), y.place(mark.at.1)), &mut taken);
        }
        svg.push_str("</g>\n");
        svg
    }

    /// Writes it to `path`, in one step.
    ///
    /// # Errors
    /// As [`files::write_atomic`].
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, self.to_svg().as_bytes())
    }

    fn frame(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for (value, text) in x.ticks() {
            let place = x.place(value);
            put(svg, format_args!("<path d=\"M{place:.2} {TOP}V{BOTTOM}\" class=\"grid\"/>"));
            put(
                svg,
                format_args!("<text x=\"{place:.2}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", BOTTOM + 18.0),
            );
        }
        for (value, text) in y.ticks() {
            let place = y.place(value);
            put(svg, format_args!("<path d=\"M{LEFT} {place:.2}H{RIGHT}\" class=\"grid\"/>"));
            put(
                svg,
                format_args!("<text x=\"{}\" y=\"{:.2}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, place + 4.0),
            );
        }
        put(svg, format_args!("<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>"));
        let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        let (x_label, y_label) = (escaped(&self.x_label), escaped(&self.y_label));
        put(svg, format_args!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{x_label}</text>", BOTTOM + 42.0));
        put(
            svg,
            format_args!(
                "<text transform=\"translate(20 {height}) rotate(-90)\" text-anchor=\"middle\">{y_label}</text>"
            ),
        );
    }

    /// In the lower right corner, where curves of accuracy against cost have nothing; none for a single line.
    fn legend(&self, svg: &mut String) {
        if self.lines.len() < 2 {
            return;
        }
        let longest = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0) as f64;
        let left = (RIGHT - 60.0 - CHARACTER * longest).max(LEFT + 10.0);
        for (i, (line, dashes)) in self.lines.iter().zip(DASHES.into_iter().cycle()).enumerate() {
            let y = BOTTOM - 14.0 - 18.0 * (self.lines.len() - 1 - i) as f64;
            put(
                svg,
                format_args!("<path d=\"M{left:.2} {y:.2}h34\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\"/>"),
            );
            put(
                svg,
                format_args!("<text x=\"{:.2}\" y=\"{:.2}\">{}</text>", left + 42.0, y + 4.0, escaped(&line.name)),
            );
        }
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(svg, "{line}");
}

fn polyline(svg: &mut String, line: &Line, dashes: &str, x: &Axis, y: &Axis) {
    let finite = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    let points: Vec<String> = finite.map(|&(a, b)| format!("{:.2},{:.2}", x.place(a), y.place(b))).collect();
    put(
        svg,
        format_args!("<polyline points=\"{}\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\"/>", points.join(" ")),
    );
}

/// Where a text stands: from, to, and the height of its line.
type Place = (f64, f64, f64);

/// The point and its text: above it and to the left, where rising curves leave room; to the right where the frame is in the way, and further
/// down where a text of `taken` stands already.
fn marked(svg: &mut String, mark: &Mark, (x, y): (f64, f64), taken: &mut Vec<Place>) {
    match mark.shape {
        Shape::Dot => put(svg, format_args!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"5\" class=\"ink\"/>")),
        Shape::Circle => put(svg, format_args!("<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"5\" class=\"paper\"/>")),
        Shape::Square => {
            put(
                svg,
                format_args!(
                    "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"9\" height=\"9\" class=\"paper\"/>",
                    x - 4.5,
                    y - 4.5
                ),
            );
        }
        Shape::Triangle => {
            put(svg, format_args!("<path d=\"M{x:.2} {:.2}l5.5 9.5h-11z\" class=\"paper\"/>", y - 6.0));
        }
    }
    let width = CHARACTER * mark.text.chars().count() as f64;
    let (anchor, at, from) = match x - 4.0 - width >= LEFT {
        true => ("end", x - 4.0, x - 4.0 - width),
        false => ("start", x + 9.0, x + 9.0),
    };
    let is_free = |height: f64| {
        !taken.iter().any(|&(left, right, line)| left < from + width && from < right && (line - height).abs() < 14.0)
    };
    let above = (y - 10.0 > TOP - 12.0).then_some(y - 10.0);
    let heights = above.into_iter().chain((0..6).map(|line| y + 18.0 + 15.0 * f64::from(line)));
    let height = heights.clone().find(|&height| is_free(height)).or(heights.clone().last()).unwrap_or(y);
    taken.push((from, from + width, height));
    put(
        svg,
        format_args!("<text x=\"{at:.2}\" y=\"{height:.2}\" text-anchor=\"{anchor}\">{}</text>", escaped(&mark.text)),
    );
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
