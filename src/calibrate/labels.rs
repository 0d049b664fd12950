//! The right classes of pictures, from a table: `picture,label` a line, further columns ignored (RFC 4180 quotes).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::model::Label;
use crate::report::text::printable;

/// The largest table that is read.
const MAX_BYTES: u64 = 256 << 20;
/// The heading of a table; a first line that begins so is skipped.
pub const HEADING: &str = "picture,label";

/// Classes by path. A picture whose label is empty is not in it.
pub type Table = HashMap<PathBuf, usize>;

/// Reads the table at `path`. Pictures are named as seen from `images`, or by absolute paths; labels by id, name or class number.
///
/// # Errors
/// [`Kind::Usage`] with the line for a label that the model does not have or a picture that has two; [`Kind::Io`] when it cannot be read.
pub fn read(path: &Path, images: &Path, classes: &[Label]) -> Result<Table> {
    let shown = || format!("cannot use the labels {}", path.display());
    let len = path.metadata().map_err(|e| Error::caused(Kind::Io, shown(), e))?.len();
    if len > MAX_BYTES {
        return Err(Error::new(Kind::Usage, format!("{}: more than {} MiB", shown(), MAX_BYTES >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::caused(Kind::Io, shown(), e))?;
    parse(&text, images, classes).map_err(|e| e.within(shown()))
}

fn parse(text: &str, images: &Path, classes: &[Label]) -> Result<Table> {
    let mut table = Table::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || index == 0 && line.starts_with(HEADING) {
            continue;
        }
        let wrong = |what: String| Error::new(Kind::Usage, format!("line {}: {what}", index + 1));
        let (picture, rest) = field(line).ok_or_else(|| wrong("a quote that is never closed".into()))?;
        let (label, _) = rest.and_then(field).ok_or_else(|| wrong(format!("expected `{HEADING}`")))?;
        if label.trim().is_empty() {
            continue;
        }
        let class = class_of(label.trim(), classes).ok_or_else(|| {
            let label = printable(&label);
            wrong(format!(
                "`{label}` is neither the id nor the name nor the number of one of the model's {} classes",
                classes.len()
            ))
        })?;
        let path = images.join(picture.as_str());
        if table.insert(path, class).is_some_and(|other| other != class) {
            return Err(wrong(format!("`{}` has two labels", printable(&picture))));
        }
    }
    Ok(table)
}

/// The first field of `line`, and what comes after its comma; `None` for a quote that is never closed.
fn field(line: &str) -> Option<(String, Option<&str>)> {
    let Some(mut rest) = line.strip_prefix('"') else {
        return Some(match line.split_once(',') {
            Some((field, rest)) => (field.to_owned(), Some(rest)),
            None => (line.to_owned(), None),
        });
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        value.push_str(part);
        // A doubled quote is one of the value's.
        let Some(more) = after.strip_prefix('"') else {
            return Some((value, after.split_once(',').map(|(_, rest)| rest)));
        };
        value.push('"');
        rest = more;
    }
}

/// `text` as a field of a table.
pub fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn class_of(label: &str, classes: &[Label]) -> Option<usize> {
    let by = |key: fn(&Label) -> &str| classes.iter().position(|class| key(class) == label);
    by(|class| &class.id)
        .or_else(|| by(|class| &class.name))
        .or_else(|| label.parse().ok().filter(|&class| class < classes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes() -> Vec<Label> {
        let label = |id: &str, name: &str| Label { id: id.into(), name: name.into() };
        vec![label("n1", "tench"), label("n2", "garbage truck, lorry"), label("n3", "church")]
    }

    fn parsed(text: &str) -> Result<Table> {
        parse(text, Path::new("/val"), &classes())
    }

    #[test]
    fn labels_are_ids_names_or_numbers_and_some_may_be_missing() {
        let text = "picture,label,coarse,fine\na/1.jpg,n3,0,2\n\"a,\"\"b\"\".jpg\",\"garbage truck, lorry\"\n/x/2.jpg,0\nb.jpg,,1,2\n\n";
        let table = parsed(text).unwrap();
        let expected = [("/val/a/1.jpg", 2), ("/val/a,\"b\".jpg", 1), ("/x/2.jpg", 0)];
        assert_eq!(table, expected.map(|(path, class)| (PathBuf::from(path), class)).into());
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("a.jpg,n1\nb.jpg,n9", "line 2: `n9`"),
            ("a.jpg,3", "`3` is neither"),
            ("a.jpg", "line 1: expected `picture,label`"),
            ("\"a.jpg,n1", "never closed"),
            ("a.jpg,n1\na.jpg,n2", "line 2: `a.jpg` has two labels"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
        assert!(parsed("a.jpg,n1\na.jpg,tench").is_ok(), "the same twice is no contradiction");
    }

    proptest! {
        #[test]
        fn any_name_survives_quoting_and_no_text_panics(name in "[^\r\n]{1,20}", garbage in ".{0,60}") {
            let line = format!("{},n1", quoted(&name));
            prop_assert_eq!(field(&line), Some((name, Some("n1"))));
            let _ = parsed(&garbage);
        }
    }
}
