//! `cfvit inspect`: what a model is.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::print;
use crate::calibrate::report::sentence;
use crate::error::Result;
use crate::model::{self, Details, Family, Model, StoredResults};

/// Show what a model is: family, geometry, cost of each stage, labels, and the authors' stored results.
///
/// Every tensor is read and checked, so a model that is shown is one that runs. Costs are multiply-accumulates, counted as the
/// paper does.
#[derive(clap::Args)]
pub struct Args {
    /// A checkpoint (.pth, .safetensors) or an engine package folder [default: the bundled Imagenette model]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Attention heads, where they are not 64 channels each
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Labels that the text shows.
const FIRST_LABELS: usize = 5;
/// Names of ignored tensors that the text shows.
const FIRST_IGNORED: usize = 6;
/// Rows of the budgeted curve that the text shows, about.
const CURVE_ROWS: usize = 11;

/// Runs the subcommand.
///
/// # Errors
/// As [`model::open`].
pub fn run(args: Args) -> Result<()> {
    let (model, details) = model::open_with_details(args.model.as_deref(), args.heads)?;
    if args.json {
        return print(to_json(&model, &details));
    }
    print(facts(&model, &details))?;
    match results(&model.results) {
        Some(tables) => print(format_args!("\nThe authors' stored results\n{tables}")),
        None => Ok(()),
    }
}

/// `1.10 G`: billions with two digits, three significant ones below 1.
fn giga(macs: u64) -> String {
    let giga = macs as f64 / 1e9;
    if giga < 1.0 { format!("{giga:.3} G") } else { format!("{giga:.2} G") }
}

/// The list of properties, two columns.
fn facts(model: &Model, details: &Details) -> String {
    let g = &model.geometry;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| _ = table.add_row([name, &value]);
    row("model", format!("{} ({})", model.name, details.format));
    if let Some(about) = &details.about {
        row("about", about.clone());
    }
    row("family", family(model));
    row(
        "geometry",
        format!("width {}, depth {}, {} heads, mlp {}, patch {}", g.width, g.depth, g.heads, g.hidden, g.patch),
    );
    if g.family == Family::Lvvit {
        row("stem", format!("{} channels", g.stem));
    }
    row("grid", format!("{0}×{0} coarse, {1}×{1} fine, {2} informative cells", g.grid, 2 * g.grid, g.informative()));
    row("images", format!("{0}×{0} coarse, {1}×{1} fine", g.coarse_side(), g.fine_side()));
    row("tokens", format!("{} coarse, {} fine", g.coarse_tokens(), g.fine_tokens()));
    row("parameters", format!("{:.2} M", model::parameters(g) as f64 / 1e6));
    let macs = g.macs();
    row(
        "multiply-accumulates",
        format!("{} coarse, {} fine, {} both", giga(macs.coarse), giga(macs.fine), giga(macs.coarse + macs.fine)),
    );
    row("crop", model.crop.to_string());
    row("threshold", model.threshold.map_or("not set".into(), |t| t.to_string()));
    if let Some(certificate) = &model.certificate {
        row("certificate", sentence(certificate));
        let made =
            format!("made {} for {}, power mode {}", certificate.created, certificate.engine, certificate.power_mode);
        row("", format!("{made}; assumes {}", certificate.assumption));
    }
    row("labels", labels(model, details));
    row("stored as", dtypes(details));
    if !details.ignored.is_empty() {
        row("ignored", some_of(&details.ignored, FIRST_IGNORED));
    }
    for note in &details.notes {
        row("note", note.clone());
    }
    fit(&mut table);
    trimmed(&table)
}

fn family(model: &Model) -> String {
    let family = model.geometry.family.as_str();
    match model.geometry.published_name() {
        Some(name) => format!("{family} (published as {name})"),
        None => family.into(),
    }
}

fn labels(model: &Model, details: &Details) -> String {
    let count = model.labels.len();
    if !details.has_labels {
        return format!("{count} classes, without names");
    }
    let names: Vec<String> = model.labels.iter().map(|label| label.name.clone()).collect();
    format!("{count}: {}", some_of(&names, FIRST_LABELS))
}

fn dtypes(details: &Details) -> String {
    let counts = details.dtypes.iter().map(|(dtype, count)| format!("{} ({count} tensors)", dtype.as_str()));
    counts.collect::<Vec<_>>().join(", ")
}

/// The first `most` of `names`, and how many more there are.
fn some_of(names: &[String], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The stored results as tables; `None` when there are none.
fn results(results: &StoredResults) -> Option<String> {
    let mut parts = Vec::new();
    if results.flop.is_some() || results.anytime.is_some() {
        let (flop, anytime) = (results.flop.clone().unwrap_or_default(), results.anytime.clone().unwrap_or_default());
        let mut table = numbers(["exit", "GFLOPs", "top-1 %"]);
        for i in 0..flop.len().max(anytime.len()) {
            let name = ["coarse", "fine"].get(i).map_or_else(|| i.to_string(), |name| name.to_string());
            table.add_row([name, cell(flop.get(i), 4), cell(anytime.get(i), 2)]);
        }
        parts.push(trimmed(&table));
    }
    if let Some(curve) = results.budgeted.as_ref().filter(|curve| !curve.is_empty()) {
        let mut table = numbers(["threshold", "mean GFLOPs", "top-1 %"]);
        let step = curve.len().div_ceil(CURVE_ROWS).max(1);
        let rows = (0..curve.len()).filter(|i| i % step == 0 || i + 1 == curve.len());
        for i in rows {
            let (gflops, top1) = curve[i];
            table.add_row([format!("{} of {}", i + 1, curve.len()), cell(Some(&gflops), 4), cell(Some(&top1), 2)]);
        }
        parts.push(trimmed(&table));
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

/// A table whose columns but the first are numbers.
fn numbers(header: [&str; 3]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cell(value: Option<&f64>, digits: usize) -> String {
    value.map_or("-".into(), |v| format!("{v:.digits$}"))
}

/// Long values wrap, so that the text is readable in a terminal of 80 columns.
fn fit(table: &mut Table) {
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    table.set_width(80).set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
}

/// Without the blanks that fill the last column.
fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}

fn to_json(model: &Model, details: &Details) -> Value {
    let g = &model.geometry;
    let macs = g.macs();
    let giga = |macs: u64| macs as f64 / 1e9;
    json!({
        "name": model.name,
        "format": details.format,
        "about": details.about,
        "family": g.family.as_str(),
        "published": g.published_name(),
        "geometry": {
            "grid": g.grid, "patch": g.patch, "width": g.width, "depth": g.depth, "heads": g.heads,
            "hidden": g.hidden, "classes": g.classes, "stem": g.stem,
        },
        "coarse_side": g.coarse_side(),
        "fine_side": g.fine_side(),
        "coarse_tokens": g.coarse_tokens(),
        "fine_tokens": g.fine_tokens(),
        "informative": g.informative(),
        "parameters": model::parameters(g),
        "gmacs": { "coarse": giga(macs.coarse), "fine": giga(macs.fine), "both": giga(macs.coarse + macs.fine) },
        "crop": model.crop,
        "threshold": model.threshold,
        "certificate": model.certificate,
        "labels": model.labels.iter().map(|l| json!({ "id": l.id, "name": l.name })).collect::<Vec<_>>(),
        "dtypes": details.dtypes.iter().map(|(d, n)| (d.as_str().to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
        "ignored": details.ignored,
        "notes": details.notes,
        "results": {
            "flop": model.results.flop,
            "anytime_classification": model.results.anytime,
            "budgeted_batch_classification": model.results.budgeted,
        },
    })
}
