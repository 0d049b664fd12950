//! The labels' file: one class a line in class order, `id<TAB>name`.

use std::collections::HashMap;
use std::path::Path;

use super::super::limits::{MAX_CLASSES, MAX_LABEL_CHARS, MAX_TEXT_BYTES};
use super::super::open::{open_regular, read_text};
use super::super::{Label, is_hidden, shown};
use crate::error::{Error, Kind, Result};

/// Reads the labels in the file `path`: see [`parse`].
///
/// # Errors
/// [`Kind::Io`] when it cannot be read, [`Kind::Model`] as [`parse`].
pub fn read(path: &Path) -> Result<Vec<Label>> {
    let parsed = open_regular(path).and_then(|(mut file, _)| read_text(&mut file, MAX_TEXT_BYTES));
    parsed.and_then(|text| parse(&text)).map_err(|e| e.within(format!("cannot read the labels in {}", path.display())))
}

/// Reads labels, a class a line: `id<TAB>name`, or the id alone, which is then the name as well. A byte order mark, Windows line
/// ends and empty lines at the end are fine.
///
/// # Errors
/// [`Kind::Model`] with the line, for an empty line between others, an id that stands twice, text with control characters or
/// longer than 200 characters.
pub fn parse(text: &str) -> Result<Vec<Label>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end();
    let mut labels = Vec::new();
    let mut lines = HashMap::new();
    for (i, line) in text.lines().enumerate() {
        let label = parse_line(line).map_err(|what| Error::new(Kind::Model, format!("line {}: {what}", i + 1)))?;
        if labels.len() >= MAX_CLASSES {
            return Err(Error::new(Kind::Model, format!("more than {MAX_CLASSES} classes")));
        }
        if let Some(before) = lines.insert(label.id.clone(), i + 1) {
            let id = &label.id;
            let message = format!("line {}: the id `{id}` stands on line {before} too; write `id<TAB>name`", i + 1);
            return Err(Error::new(Kind::Model, message));
        }
        labels.push(label);
    }
    Ok(labels)
}

fn parse_line(line: &str) -> std::result::Result<Label, String> {
    let (id, name) = line.split_once('\t').unwrap_or((line, ""));
    let (id, name) = (id.trim(), name.trim());
    if id.is_empty() {
        return Err("no id, expected `id<TAB>name`".into());
    }
    for text in [id, name] {
        if text.chars().any(is_hidden) {
            return Err(format!("`{}` has control characters", shown(text)));
        }
        if text.chars().count() > MAX_LABEL_CHARS {
            return Err(format!("`{}` is longer than {MAX_LABEL_CHARS} characters", shown(text)));
        }
    }
    let name = if name.is_empty() { id } else { name };
    Ok(Label { id: id.into(), name: name.into() })
}

/// There is a label for each class.
///
/// # Errors
/// [`Kind::Model`] when there is not.
pub(super) fn check_count(labels: usize, classes: usize) -> Result<()> {
    if labels == classes {
        return Ok(());
    }
    Err(Error::new(
        Kind::Model,
        format!("{labels} labels, the model has {classes} classes: one line per class, in class order"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(id: &str, name: &str) -> Label {
        Label { id: id.into(), name: name.into() }
    }

    #[test]
    fn marks_windows_line_ends_missing_names_and_empty_last_lines_are_fine() {
        let labels = parse("\u{feff}n01\ttench, Tinca tinca\r\nn02\r\nn03\t\r\n\r\n").unwrap();
        assert_eq!(labels, [label("n01", "tench, Tinca tinca"), label("n02", "n02"), label("n03", "n03")]);
    }

    #[test]
    fn hostile_and_ambiguous_lines_are_refused_with_their_number() {
        for (text, says) in [
            ("a\tx\n\nb\ty", "line 2: no id"),
            ("a\tx\na\ty", "line 2: the id `a` stands on line 1"),
            ("a\t\u{1b}[2Jx", "line 1: `\\u{1b}[2Jx` has control"),
            ("a\tx\u{202e}y", "control characters"),
            ("\tname", "no id"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(parse(&"x".repeat(MAX_LABEL_CHARS + 1)).is_err());
    }
}
