//! `cfvit examples`: the pictures that were collected for training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::print;
use crate::error::{Error, Kind, Result};
use crate::examples::{Entry, Limits, Name, Split, Store, Whereabouts, entries, folders, remove};
use crate::files;
use crate::model;

/// Where the packaged service keeps them.
const SERVICE: &str = "/var/lib/cfvit/examples";

/// List, label, export and purge the pictures that the service collected for training
///
/// The service keeps pictures by itself where [collect] in its configuration says so, and any that somebody keeps on its page:
/// DIR/inbox holds those without a label, DIR/train/CLASS and DIR/val/CLASS the labelled ones, one ten-minute block of five for validation.
/// CLASS is the label's id. Beside each picture a .json says what was decided, how surely, and by which model.
/// What the service keeps belongs to its user: `sudo -u cfvit cfvit examples ...`, or it could not write to folders made here.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cfvit examples list\n  cfvit examples label --class n03028079 20261125T031344.123Z-door-4711\n  \
                  cfvit examples export /tmp/mine && cfvit eval /tmp/mine/val\n  cfvit examples purge --older-than 30d --yes"
)]
pub struct Args {
    /// The folder of examples [default: examples in $STATE_DIRECTORY, else /var/lib/cfvit/examples]
    #[arg(long, value_name = "DIR", global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Count them by class
    List {
        /// As JSON, with every picture
        #[arg(long)]
        json: bool,
    },
    /// Move pictures to the folder of a class
    Label {
        /// The model whose labels count [default: the bundled one]
        #[arg(long, value_name = "MODEL")]
        model: Option<PathBuf>,
        /// The class, by id or name; none moves them back to the inbox
        #[arg(long, value_name = "CLASS")]
        class: String,
        /// Names as `list --json` tells them, with or without .jpg
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Copy the labelled pictures to OUT, one folder a class, for `cfvit eval` or any reader of an ImageFolder
    ///
    /// Without --flat OUT holds train/CLASS/ and val/CLASS/, with it CLASS/. OUT must not be there yet.
    Export {
        /// Training and validation together
        #[arg(long)]
        flat: bool,
        /// The new folder
        #[arg(value_name = "OUT")]
        out: PathBuf,
    },
    /// Delete pictures; without --yes only tells how many
    Purge {
        /// Those older than this: 30d, 12h, 90m
        #[arg(long, value_name = "AGE", value_parser = age)]
        older_than: Option<Duration>,
        /// Those of this folder: a label's id, or inbox
        #[arg(long, value_name = "CLASS")]
        class: Option<String>,
        /// All of them
        #[arg(long, conflicts_with_all = ["older_than", "class"])]
        all: bool,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// Wrong usage, or a folder that cannot be read or written.
pub fn run(args: Args) -> Result<()> {
    let root = args.folder.unwrap_or_else(service_folder);
    match args.command {
        Command::List { json: true } => list_json(&root),
        Command::List { json: false } => list(&root),
        Command::Label { model, class, names } => label(root, model.as_deref(), &class, &names),
        Command::Export { flat, out } => export(&root, &out, flat),
        Command::Purge { older_than, class, all, yes } => purge(&root, older_than, class.as_deref(), (all, yes)),
    }
}

fn service_folder() -> PathBuf {
    let folders = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    match folders.split(':').next().filter(|folder| !folder.is_empty()) {
        Some(folder) => Path::new(folder).join("examples"),
        None => PathBuf::from(SERVICE),
    }
}

/// `30d`, `12h`, `90m`, `5s`.
fn age(text: &str) -> std::result::Result<Duration, String> {
    let expected = || "expected a number and d, h, m or s, as 30d".to_owned();
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(expected)
}

/// The class in lists; the inbox is none.
fn class_of(entry: &Entry) -> Option<&str> {
    match &entry.whereabouts {
        Whereabouts::Inbox => None,
        Whereabouts::Class(_, class) => Some(class),
    }
}

fn split_of(entry: &Entry) -> Option<Split> {
    match entry.whereabouts {
        Whereabouts::Inbox => None,
        Whereabouts::Class(split, _) => Some(split),
    }
}

/// Pictures and bytes.
#[derive(Clone, Copy, Default)]
struct Sum {
    train: u64,
    val: u64,
    inbox: u64,
    bytes: u64,
}

fn sums(entries: &[Entry]) -> BTreeMap<Option<&str>, Sum> {
    let mut sums: BTreeMap<Option<&str>, Sum> = BTreeMap::new();
    for entry in entries {
        let sum = sums.entry(class_of(entry)).or_default();
        match split_of(entry) {
            None => sum.inbox += 1,
            Some(Split::Train) => sum.train += 1,
            Some(Split::Val) => sum.val += 1,
        }
        sum.bytes += entry.bytes;
    }
    sums
}

fn list(root: &Path) -> Result<()> {
    let entries = entries(root)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["class", "train", "val", "inbox", "MiB"]);
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    for (class, sum) in sums(&entries) {
        let count = |count: u64| if count == 0 { "-".to_owned() } else { count.to_string() };
        let class = class.map_or("(not labelled)".to_owned(), crate::report::text::printable);
        table.add_row([class, count(sum.train), count(sum.val), count(sum.inbox), mib(sum.bytes)]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !entries.is_empty() {
        print(&table)?;
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    print(format_args!("{} examples, {} MiB, in {}", entries.len(), mib(bytes), root.display()))
}

fn list_json(root: &Path) -> Result<()> {
    let entries = entries(root)?;
    let classes = sums(&entries).into_iter().map(|(class, sum)| {
        let Sum { train, val, inbox, bytes } = sum;
        json!({ "class": class, "train": train, "val": val, "inbox": inbox, "bytes": bytes })
    });
    let each = entries.iter().map(|entry| {
        json!({
            "name": entry.name.to_string(), "time_ms": entry.name.unix_ms, "camera": entry.name.camera, "seq": entry.name.seq,
            "class": class_of(entry), "split": split_of(entry).map(Split::as_str), "bytes": entry.bytes,
            "path": entry.path.to_string_lossy(),
        })
    });
    print(
        json!({ "v": 1, "folder": root.to_string_lossy(), "classes": classes.collect::<Vec<_>>(), "examples": each.collect::<Vec<_>>() }),
    )
}

fn label(root: PathBuf, model: Option<&Path>, class: &str, names: &[String]) -> Result<()> {
    let labels = model::open(model, None)?.labels;
    let class = match class {
        "none" => None,
        word => {
            let found = labels.iter().position(|label| label.id == word);
            let found = found.or_else(|| labels.iter().position(|label| label.name == word));
            let unknown =
                || Error::new(Kind::Usage, format!("the model has no class {word:?}: expected an id or a name of it"));
            Some(found.ok_or_else(unknown)?)
        }
    };
    let none = Limits { max_bytes: 0, max_files: 0, min_free_bytes: 0 };
    let mut store = Store::open(root, folders(&labels), none)?;
    for text in names {
        let unknown = |what: &str| Error::new(Kind::Usage, format!("{text:?} {what}"));
        let stem = text.strip_suffix(".jpg").unwrap_or(text);
        let name = Name::parse(stem).ok_or_else(|| unknown("is no example's name: expected <UTC>-<camera>-<seq>"))?;
        if store.label(&name, class, "command line")?.is_none() {
            return Err(unknown("is not there, neither in the inbox nor in a class of this model"));
        }
    }
    print(format_args!("{} labelled", names.len()))
}

fn export(root: &Path, out: &Path, flat: bool) -> Result<()> {
    let mut entries = entries(root)?;
    entries.retain(|entry| entry.whereabouts != Whereabouts::Inbox);
    if entries.is_empty() {
        let message =
            format!("{} holds no labelled examples: `cfvit examples label` or the page gives labels", root.display());
        return Err(Error::new(Kind::Usage, message));
    }
    if out.symlink_metadata().is_ok() {
        return Err(Error::new(Kind::Usage, format!("{} is there already: expected a new folder", out.display())));
    }
    let fails = |cause| Error::caused(Kind::Io, format!("cannot export to {}", out.display()), cause);
    // All of it, or nothing.
    let temporary = files::beside(out);
    let copied = copy(&entries, &temporary, flat).and_then(|()| std::fs::rename(&temporary, out));
    if copied.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    copied.map_err(fails)?;
    files::sync_folder(out);
    let classes = entries.iter().filter_map(class_of).collect::<std::collections::BTreeSet<_>>().len();
    print(format_args!("{} examples of {classes} classes, in {}", entries.len(), out.display()))
}

fn copy(entries: &[Entry], out: &Path, flat: bool) -> std::io::Result<()> {
    for entry in entries {
        let (Some(split), Some(class)) = (split_of(entry), class_of(entry)) else { continue };
        let folder = if flat { out.join(class) } else { out.join(split.as_str()).join(class) };
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(&entry.path, folder.join(entry.path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn purge(root: &Path, older_than: Option<Duration>, class: Option<&str>, (all, yes): (bool, bool)) -> Result<()> {
    if older_than.is_none() && class.is_none() && !all {
        return Err(Error::new(Kind::Usage, "which examples? expected --older-than, --class or --all"));
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let is_old = |entry: &Entry| {
        older_than.is_none_or(|age| Duration::from_millis(entry.name.unix_ms) < since.saturating_sub(age))
    };
    let is_class = |entry: &Entry| class.is_none_or(|class| class_of(entry).unwrap_or("inbox") == class);
    let mut entries = entries(root)?;
    entries.retain(|entry| is_old(entry) && is_class(entry));
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let what = format!("{} examples, {:.1} MiB", entries.len(), bytes as f64 / f64::from(1 << 20));
    if !yes {
        return print(format_args!("{what} would be deleted from {}: --yes does it", root.display()));
    }
    entries.iter().try_for_each(remove)?;
    print(format_args!("{what} deleted from {}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!((age("90m"), age("0s")), (Ok(Duration::from_secs(5400)), Ok(Duration::ZERO)));
        for wrong in ["", "d", "30", "30 d", "-1d", "1.5h", "30ä", "99999999999999999999d", "999999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
