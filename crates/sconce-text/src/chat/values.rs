//! Values of a dialogue as templates see them: where they become text, it is the text that Python makes of them.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use serde_json::Value as Json;

use super::dumps::float;

/// The value that JSON describes.
pub(super) fn of_json(json: Json) -> Value {
    match json {
        Json::Array(items) => {
            let weight = items.iter().map(|item| 2 + weight(item)).sum();
            let items = items.into_iter().map(of_json).collect();
            Value::from_object(List { items, weight })
        }
        Json::Object(members) => {
            let weight = members
                .iter()
                .map(|(key, value)| 4 + key.len() + weight(value))
                .sum();
            let members = members
                .into_iter()
                .map(|(key, value)| (Value::from(key), of_json(value)));
            let members = members.collect();
            Value::from_object(Dict { members, weight })
        }
        other => Value::from_serialize(other),
    }
}

/// About as many bytes as a value has as text, if it came with the dialogue.
pub(super) fn weight_of(value: &Value) -> Option<usize> {
    let list = value.downcast_object_ref::<List>().map(|list| list.weight);
    list.or_else(|| Some(value.downcast_object_ref::<Dict>()?.weight))
}

fn weight(json: &Json) -> usize {
    match json {
        Json::String(text) => text.len(),
        Json::Array(items) => 2 + items.iter().map(|item| 2 + weight(item)).sum::<usize>(),
        Json::Object(members) => members
            .iter()
            .map(|(key, value)| 4 + key.len() + weight(value))
            .sum(),
        _ => 2,
    }
}

/// Python's `repr`, of a text with quotes around it.
pub(super) struct Repr<'a>(pub(super) &'a Value);

impl fmt::Display for Repr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        match value.kind() {
            ValueKind::String => quoted(value.as_str().unwrap_or_default(), f),
            ValueKind::Seq => {
                let items = value.try_iter().into_iter().flatten();
                listed(items, ["[", "]"], f, |item, f| write!(f, "{}", Repr(&item)))
            }
            ValueKind::Map => {
                let keys = value.try_iter().into_iter().flatten();
                listed(keys, ["{", "}"], f, |key, f| {
                    let member = value.get_item(&key).unwrap_or_default();
                    write!(f, "{}: {}", Repr(&key), Repr(&member))
                })
            }
            ValueKind::Number if !value.is_integer() => {
                let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
                f.write_str(&float(number))
            }
            _ => write!(f, "{value}"),
        }
    }
}

fn listed(
    items: impl Iterator<Item = Value>,
    [open, close]: [&str; 2],
    f: &mut fmt::Formatter<'_>,
    one: impl Fn(Value, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    f.write_str(open)?;
    for (at, item) in items.enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        one(item, f)?;
    }
    f.write_str(close)
}

/// Single quotes, unless only they occur in the text.
fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let quote = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    write!(f, "{quote}")?;
    for character in text.chars() {
        match character {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            other if other == quote => write!(f, "\\{other}")?,
            other if other.is_control() => write!(f, "\\x{:02x}", u32::from(other))?,
            other => write!(f, "{other}")?,
        }
    }
    write!(f, "{quote}")
}

#[derive(Debug)]
struct List {
    items: Vec<Value>,
    weight: usize,
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

/// Few members each, so that they are looked for one after the other.
#[derive(Debug)]
struct Dict {
    members: Vec<(Value, Value)>,
    weight: usize,
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = self.members.iter().find(|(name, _)| name == key)?;
        Some(found.1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.members.iter().map(|(name, _)| name.clone()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}
