//! Finds the state dict in what a checkpoint holds: the content itself, or one of the usual keys of training scripts.

use super::value::{Heap, Value};

/// Keys under which training tools keep the model's state dict, the more specific first.
const USUAL: [&str; 6] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "params",
];
/// How deep a state dict may be wrapped.
const MAX_DEPTH: usize = 4;
/// How many keys an error lists.
const LISTED: usize = 8;

type Items<'a> = &'a [(Value, Value)];

/// The items of the dict that holds the tensors, or what is there instead.
pub(super) fn find<'a>(heap: &'a Heap<'_>, content: Value) -> Result<Items<'a>, String> {
    let mut current = content;
    for _ in 0..=MAX_DEPTH {
        let items = heap
            .dict(current)
            .ok_or_else(|| format!("a dict of tensors is needed, not {}", heap.name_of(current)))?;
        if holds_tensors(heap, items) {
            return Ok(items);
        }
        current = match USUAL.iter().find_map(|key| dict_under(heap, items, key)) {
            Some(inner) => inner,
            None => only_dict_of_tensors(heap, items)?,
        };
    }
    Err(format!("no tensors within {MAX_DEPTH} dicts in each other"))
}

fn holds_tensors(heap: &Heap<'_>, items: Items<'_>) -> bool {
    items.iter().any(|&(_, value)| heap.tensor(value).is_some())
}

fn dict_under(heap: &Heap<'_>, items: Items<'_>, wanted: &str) -> Option<Value> {
    let found = items
        .iter()
        .rev()
        .find(|&&(key, _)| heap.text(key) == Ok(wanted));
    found
        .map(|&(_, value)| value)
        .filter(|&value| heap.dict(value).is_some())
}

fn only_dict_of_tensors(heap: &Heap<'_>, items: Items<'_>) -> Result<Value, String> {
    let candidates: Vec<_> = items
        .iter()
        .filter(|&&(_, value)| {
            heap.dict(value)
                .is_some_and(|inner| holds_tensors(heap, inner))
        })
        .collect();
    match candidates.as_slice() {
        [(_, value)] => Ok(*value),
        [] => Err(format!(
            "no tensors; its keys are {}",
            keys(heap, items.iter())
        )),
        several => Err(format!(
            "tensors under each of the keys {}: save the state dict of one alone",
            keys(heap, several.iter().copied())
        )),
    }
}

fn keys<'i>(heap: &Heap<'_>, items: impl Iterator<Item = &'i (Value, Value)>) -> String {
    let names: Vec<_> = items
        .take(LISTED)
        .map(|&(key, _)| {
            heap.text(key).map_or_else(
                |_| heap.name_of(key).to_owned(),
                |name| format!("`{name:.64}`"),
            )
        })
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
