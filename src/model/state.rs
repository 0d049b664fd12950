//! What the authors put into a checkpoint: which dict of a pickle is the state dict, its tensors, and the stored results.

use std::collections::BTreeMap;

use super::pickle::{Id, Pickle, TensorRef, Value};
use super::weights::{plain_name, two_of};
use super::{StoredResults, shown};
use crate::error::{Error, Kind, Result};

/// Entries of a checkpoint that hold the weights, the first that does; else the checkpoint is the state dict itself.
const STATE_ENTRIES: [&str; 2] = ["model", "state_dict"];
/// Entries with a second set of weights, which the authors' evaluation does not use.
const OTHER_STATES: [&str; 2] = ["model_ema", "state_dict_ema"];

/// Finds the dict with the weights; what else was there goes to `notes`.
///
/// # Errors
/// [`Kind::Model`] when no dict of the checkpoint holds tensors.
pub(super) fn find_state(pickle: &Pickle, notes: &mut Vec<String>) -> Result<Id> {
    let root = pickle.root();
    let Some(entries) = pickle.as_dict(root) else {
        return Err(Error::new(Kind::Model, "the checkpoint is not a dict, expected one with `model`, the state dict"));
    };
    let keys: Vec<String> = entries.map(|(key, _)| shown(key)).collect();
    let named =
        STATE_ENTRIES.iter().find_map(|&key| Some((key, pickle.get(root, key).filter(|&id| has_tensors(pickle, id))?)));
    let Some((key, state)) = named else {
        if has_tensors(pickle, root) {
            return Ok(root);
        }
        let found = if keys.is_empty() { "nothing".into() } else { format!("`{}`", first_few(&keys).join("`, `")) };
        let message = format!("no state dict: neither `model` nor `state_dict` is a dict of tensors, found {found}");
        return Err(Error::new(Kind::Model, message));
    };
    for other in OTHER_STATES {
        if pickle.get(root, other).is_some_and(|id| has_tensors(pickle, id)) {
            notes.push(format!("uses `{key}` as the authors' evaluation does; `{other}` is there too and is not used"));
        }
    }
    Ok(state)
}

fn has_tensors(pickle: &Pickle, id: Id) -> bool {
    pickle.as_dict(id).is_some_and(|mut pairs| pairs.any(|(_, v)| matches!(pickle.value(v), Value::Tensor(_))))
}

/// The tensors of the state dict `state`, without a `module.` prefix. A later entry of the same key replaces an earlier one, as in Python.
///
/// # Errors
/// [`Kind::Model`] when a name is there both with and without the prefix.
pub(super) fn state_tensors(pickle: &Pickle, state: Id) -> Result<BTreeMap<String, TensorRef>> {
    let mut tensors: BTreeMap<String, (bool, TensorRef)> = BTreeMap::new();
    for (key, id) in pickle.as_dict(state).into_iter().flatten() {
        let Value::Tensor(tensor) = pickle.value(id) else { continue };
        let name = plain_name(key);
        let prefixed = name.len() != key.len();
        let before = tensors.insert(name.to_string(), (prefixed, (**tensor).clone()));
        if before.is_some_and(|(before, _)| before != prefixed) {
            return Err(two_of(name));
        }
    }
    Ok(tensors.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect())
}

/// The results that the authors store beside the state dict. One that is not what they write is left out, with a note.
pub(super) fn results(pickle: &Pickle, notes: &mut Vec<String>) -> StoredResults {
    let entry = |key: &str| {
        let id = pickle.get(pickle.root(), key)?;
        (!matches!(pickle.value(id), Value::None)).then_some(id)
    };
    let (flop, anytime) = (entry("flop"), entry("anytime_classification"));
    let budgeted = entry("budgeted_batch_classification");
    let mut checked = |key: &str, fits: bool| {
        if !fits {
            notes.push(format!("the stored `{key}` is not what the authors write (lists of numbers) and is left out"));
        }
    };
    let results = StoredResults {
        flop: flop.and_then(|id| numbers(pickle, id)),
        anytime: anytime.and_then(|id| numbers(pickle, id)),
        budgeted: budgeted.and_then(|id| curve(pickle, id)),
    };
    checked("flop", flop.is_some() == results.flop.is_some());
    checked("anytime_classification", anytime.is_some() == results.anytime.is_some());
    checked("budgeted_batch_classification", budgeted.is_some() == results.budgeted.is_some());
    results
}

/// A list of finite numbers.
fn numbers(pickle: &Pickle, id: Id) -> Option<Vec<f64>> {
    let items = pickle.as_sequence(id)?;
    items.iter().map(|&id| pickle.as_number(id).filter(|n| n.is_finite())).collect()
}

/// Two lists of the same length, as pairs.
fn curve(pickle: &Pickle, id: Id) -> Option<Vec<(f64, f64)>> {
    let &[gflops, top1] = pickle.as_sequence(id)? else { return None };
    let (gflops, top1) = (numbers(pickle, gflops)?, numbers(pickle, top1)?);
    (gflops.len() == top1.len()).then(|| gflops.into_iter().zip(top1).collect())
}

fn first_few(keys: &[String]) -> &[String] {
    &keys[..keys.len().min(8)]
}
