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
        Json::Array(items) => Value::from_object(List(items.into_iter().map(of_json).collect())),
        Json::Object(members) => {
            let members = members
                .into_iter()
                .map(|(key, value)| (Value::from(key), of_json(value)));
            Value::from_object(Dict(members.collect()))
        }
        other => Value::from_serialize(other),
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
struct List(Vec<Value>);

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

/// Few members each, so that they are looked for one after the other.
#[derive(Debug)]
struct Dict(Vec<(Value, Value)>);

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = self.0.iter().find(|(name, _)| name == key)?;
        Some(found.1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| name.clone()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}
