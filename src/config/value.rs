//! What a value of TOML says, or `None` where it says something else than is expected.

use std::path::PathBuf;

use log::LevelFilter;
use toml::Value;

use super::outputs::is_host;
use super::{LEVELS, MAX_CLASSES, StateFolder};
use crate::calibrate::Budget;
use crate::calibrate::cost::Unit;

/// A short account of a value.
pub(super) fn found(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty() && !text.contains('\0'))
}

/// `None` within for the `word` that stands for no value.
pub(super) fn or_word<T>(value: &Value, word: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.as_str() == Some(word) { Some(None) } else { read(value).map(Some) }
}

pub(super) fn number(value: &Value, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))?;
    range.contains(&number).then_some(number)
}

pub(super) fn whole(value: &Value, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    u64::try_from(value.as_integer()?).ok().filter(|whole| range.contains(whole))
}

/// Up to 2, so that 60 for 60 % is an error and not a camera that always refines.
pub(super) fn threshold(value: &Value) -> Option<f32> {
    number(value, 0.0..=2.0).map(|threshold| threshold as f32)
}

/// What [`folder`] reads.
pub(super) const FOLDERS: &str = "a folder, \"service\" or \"none\"";

pub(super) fn folder(value: &Value) -> Option<StateFolder> {
    text(value).map(|path| match path {
        "service" => StateFolder::Service,
        "none" => StateFolder::Nowhere,
        path => StateFolder::At(PathBuf::from(path)),
    })
}

/// The lower bound first.
pub(super) fn band(value: &Value) -> Option<(f64, f64)> {
    let [low, high] = value.as_array()?.as_slice() else { return None };
    let (low, high) = (number(low, 0.0..=1.0)?, number(high, 0.0..=1.0)?);
    (low <= high).then_some((low, high))
}

/// Different names of classes. `other` is what all that are not listed count as.
pub(super) fn classes(value: &Value) -> Option<Vec<String>> {
    let names: Option<Vec<String>> = value.as_array()?.iter().map(|name| text(name).map(str::to_owned)).collect();
    let names = names.filter(|names| !names.iter().any(|name| name == "other"));
    names.filter(|names| names.len() <= MAX_CLASSES && (1..names.len()).all(|i| !names[..i].contains(&names[i])))
}

/// Names or addresses as browsers send them; an IPv6 address stands in brackets.
pub(super) fn hosts(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter().map(|host| host.as_str().filter(|host| is_host(host)).map(str::to_owned));
    names.collect()
}

/// `20 ms`, `150 mJ`.
pub(super) fn budget(text: &str) -> Option<Budget> {
    let (value, unit) = text.trim().split_at(text.trim().find(|c: char| c.is_alphabetic())?);
    let unit = [Unit::Ms, Unit::Mj].into_iter().find(|known| known.as_str() == unit)?;
    let limit = value.trim().parse().ok().filter(|limit: &f64| limit.is_finite() && *limit > 0.0)?;
    Some(Budget { unit, limit })
}

pub(super) fn level(word: &str) -> Option<LevelFilter> {
    LEVELS.iter().find(|(name, _)| *name == word).map(|&(_, level)| level)
}
