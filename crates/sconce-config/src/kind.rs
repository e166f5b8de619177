//! What the value of an option is: said in the reference, and checked where nothing else reads it.

use std::fmt;

use crate::value::{Rejection, Value, count, flag, seconds, word};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything, in words of its own.
    Text,
    /// True or false, in any spelling of Python's pydantic.
    Flag,
    /// A whole number between two limits, both included.
    Whole(usize, usize),
    /// Any number.
    Number,
    /// A whole number of seconds.
    Seconds,
    /// A number of bytes, with or without a unit.
    Bytes,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A path of the file system.
    Path,
    /// An address such as `http://host:port`.
    Url,
    /// A value of JSON, or Python's way to write one.
    Json,
}

impl Kind {
    /// Refuses what is plainly not of this kind. Text, paths, addresses, sizes and JSON are read
    /// by whoever uses them.
    pub(crate) fn check(self, value: &str) -> Value<()> {
        match self {
            Self::Flag => flag(value).map(drop),
            Self::Whole(first, last) => count(value, first..=last).map(drop),
            Self::Seconds => seconds(value).map(drop),
            Self::OneOf(words) => {
                let words: Vec<_> = words.iter().map(|word| (*word, ())).collect();
                word(value, &words)
            }
            Self::Number => number(value),
            Self::Text | Self::Bytes | Self::Path | Self::Url | Self::Json => Ok(()),
        }
    }
}

/// A number, or Python's word for none.
fn number(value: &str) -> Value<()> {
    if value == "None" || value.parse::<f64>().is_ok_and(f64::is_finite) {
        return Ok(());
    }
    Err(Rejection::Invalid("must be a number".into()))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Flag => f.write_str("true or false"),
            Self::Whole(first, last) => write!(f, "whole number, {first} to {last}"),
            Self::Number => f.write_str("number"),
            Self::Seconds => f.write_str("seconds"),
            Self::Bytes => f.write_str("bytes"),
            Self::OneOf(words) => f.write_str(&words.join(", ")),
            Self::Path => f.write_str("path"),
            Self::Url => f.write_str("address"),
            Self::Json => f.write_str("JSON"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_kind_are_refused() {
        for (kind, good, bad) in [
            (Kind::Flag, "True", "maybe"),
            (Kind::Whole(1, 8), "8", "9"),
            (Kind::Number, "0.5", "half"),
            (Kind::Number, "None", "NaN"),
            (Kind::Seconds, "60", "1m"),
            (Kind::OneOf(&["a", "b"]), "b", "c"),
        ] {
            assert_eq!(kind.check(good), Ok(()), "{kind}");
            assert!(kind.check(bad).is_err(), "{kind}: {bad}");
        }
    }
}
