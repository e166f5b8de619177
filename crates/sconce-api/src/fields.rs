//! Typed reading of a JSON object whose every key must be understood.
//!
//! Each read takes its key out and remembers its name, so that what is left at the end is
//! unknown and the names that were asked for are those that can be suggested instead.

use std::ops::RangeInclusive;

use sconce_core::ServeError;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, ServeError>;

/// What clients of other servers write for a name that is known here.
const SYNONYMS: &[(&str, &str)] = &[
    ("max_tokens", "max_new_tokens"),
    ("max_length", "max_new_tokens"),
    ("max_completion_tokens", "max_new_tokens"),
    ("min_tokens", "min_new_tokens"),
    ("min_length", "min_new_tokens"),
    ("top_logprobs", "top_n_tokens"),
    ("random_seed", "seed"),
    ("prompt", "inputs"),
    ("text", "inputs"),
    ("text_inputs", "inputs"),
];

/// A JSON object on its way to being understood.
pub(crate) struct Fields {
    left: Map<String, Value>,
    asked: Vec<&'static str>,
}

impl Fields {
    /// Wraps an object.
    pub(crate) fn new(object: Map<String, Value>) -> Self {
        Self {
            left: object,
            asked: Vec::new(),
        }
    }

    /// Takes a value of any type; `null` counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.left.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Whether a value is there that is not `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether the key is there with `null`.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(Value::is_null)
    }

    /// Takes `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.typed(
            key,
            |value| value.as_bool(),
            "must be true or false, without quotes",
        )
    }

    /// Takes an integer within a range; `30.0` is one too. `problem` states the range and a cure.
    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i128>,
        problem: &str,
    ) -> Result<Option<i128>> {
        self.typed(
            key,
            |value| whole(value).filter(|number| range.contains(number)),
            problem,
        )
    }

    /// Takes a number that, as f32, is allowed. `problem` states the limits and a cure.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        allowed: impl Fn(f32) -> bool,
        problem: &str,
    ) -> Result<Option<f32>> {
        let read = |value: &Value| {
            let number = value.as_f64()? as f32;
            (number.is_finite() && allowed(number)).then_some(number)
        };
        self.typed(key, read, problem)
    }

    /// Takes a string.
    pub(crate) fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        self.typed(
            key,
            |value| value.as_str().map(str::to_owned),
            "must be a string",
        )
    }

    /// Takes a string or a list of strings, none empty; absent is an empty list.
    pub(crate) fn texts(&mut self, key: &'static str, most: usize) -> Result<Vec<String>> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let items = match value {
            Value::String(text) => vec![Value::String(text)],
            Value::Array(items) if items.len() <= most => items,
            Value::Array(items) => return Err(too_many(key, items.len(), most)),
            other => {
                return Err(ServeError::parameter(
                    key,
                    other,
                    "must be a list of strings",
                ));
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Value::String(text) if !text.is_empty() => texts.push(text),
                other => {
                    let problem = "must hold strings only, none of them empty; remove this one";
                    return Err(ServeError::parameter(key, other, problem));
                }
            }
        }
        Ok(texts)
    }

    /// Takes a list of token ids; absent is an empty list.
    pub(crate) fn ids(&mut self, key: &'static str, most: usize) -> Result<Vec<u32>> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let Value::Array(items) = value else {
            return Err(ServeError::parameter(
                key,
                value,
                "must be a list of token ids",
            ));
        };
        if items.len() > most {
            return Err(too_many(key, items.len(), most));
        }
        let read = |item: Value| {
            let id = whole(&item).and_then(|number| u32::try_from(number).ok());
            id.ok_or_else(|| {
                let problem = format!("must hold token ids from 0 to {} only", u32::MAX);
                ServeError::parameter(key, item, problem)
            })
        };
        items.into_iter().map(read).collect()
    }

    /// The names that were asked for so far.
    pub(crate) fn asked(&self) -> &[&'static str] {
        &self.asked
    }

    /// Fails on the first key that nobody asked for, with the nearest known one. `elsewhere` may
    /// know where such a key belongs.
    pub(crate) fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) -> Result<()> {
        let Some((key, value)) = self.left.iter().next() else {
            return Ok(());
        };
        let cure = elsewhere(key).unwrap_or_else(|| match nearest(key, &self.asked) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "remove it".into(),
        });
        Err(ServeError::parameter(
            key,
            value,
            format!("there is no such key here; {cure}"),
        ))
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value) -> Option<T>,
        problem: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(ServeError::parameter(key, value, problem)),
        }
    }
}

/// The known name that was most probably meant, if one is near.
pub(crate) fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Below this, two names share little more than their letters.
    const NEAR: f64 = 0.8;
    let lower = key.to_lowercase();
    let synonym = SYNONYMS
        .iter()
        .find(|(other, _)| *other == lower)
        .map(|(_, name)| *name);
    if let Some(name) = known.iter().find(|name| Some(**name) == synonym) {
        return Some(name);
    }
    let scored = known
        .iter()
        .map(|name| (strsim::jaro_winkler(&lower, name), *name));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= NEAR).then_some(best.1)
}

fn too_many(key: &str, count: usize, most: usize) -> ServeError {
    let problem = format!("may hold at most {most} entries; shorten it");
    ServeError::parameter(key, format!("a list of {count}"), problem)
}

/// The integer that a JSON number stands for, if it is one exactly.
fn whole(value: &Value) -> Option<i128> {
    /// Above this an f64 no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else {
            panic!("tests pass objects")
        };
        Fields::new(map)
    }

    #[test]
    fn integral_floats_are_integers_and_others_are_not() {
        let read = |value: Value| fields(json!({"k": value})).integer("k", 0..=100, "bad");
        assert_eq!(read(json!(30)).unwrap(), Some(30));
        assert_eq!(read(json!(30.0)).unwrap(), Some(30));
        assert_eq!(read(json!(null)).unwrap(), None);
        for bad in [
            json!(30.5),
            json!("30"),
            json!(true),
            json!(101),
            json!(1e300),
            json!([]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_checked_as_f32() {
        let read = |value: Value| fields(json!({"k": value})).number("k", |x| x > 0.0, "bad");
        assert_eq!(read(json!(1)).unwrap(), Some(1.0));
        assert!(read(json!(1e-60)).is_err(), "this is 0 as f32");
        assert!(read(json!(1e60)).is_err(), "this is infinite as f32");
    }

    #[test]
    fn unknown_keys_suggest_the_nearest_known_one() {
        let cases = [
            ("temprature", Some("temperature")),
            ("max_tokens", Some("max_new_tokens")),
            ("maxNewTokens", Some("max_new_tokens")),
            ("zzz", None),
        ];
        for (key, wanted) in cases {
            assert_eq!(
                nearest(key, &["temperature", "max_new_tokens", "seed"]),
                wanted,
                "{key}"
            );
        }
        let mut unread = fields(json!({"seed": 1, "sede": 2}));
        unread.take("seed");
        let error = unread.finish(|_| None).unwrap_err().to_string();
        assert!(
            error.contains("`sede` is 2") && error.contains("`seed`"),
            "{error}"
        );
    }

    #[test]
    fn lists_name_the_entry_that_is_wrong() {
        let error = fields(json!({"stop": ["a", ""]}))
            .texts("stop", 4)
            .unwrap_err()
            .to_string();
        assert!(error.contains("none of them empty"), "{error}");
        let error = fields(json!({"ids": [1, -1]}))
            .ids("ids", 4)
            .unwrap_err()
            .to_string();
        assert!(error.contains("is -1"), "{error}");
        let error = fields(json!({"ids": [1, 2]}))
            .ids("ids", 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a list of 2") && error.contains("at most 1"),
            "{error}"
        );
    }
}
