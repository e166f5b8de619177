//! The keys of a GGUF file and their values. What a value takes stays in the mapped file until it is asked for.
//!
//! Which keys a model has, and what they mean, is left to `sconce-models` (the decoder) and `sconce-engine` (the
//! tokenizer).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::Cursor;
use super::malformed;
use crate::weights::buffer::Buffer;
use crate::weights::error::WeightError;

/// Arrays within arrays, at most so deep: files have none at all.
const DEEPEST: usize = 4;
/// Characters of a value in a message.
const SHOWN: usize = 60;

/// Number of a type of values in the file.
type Kind = u32;
const BOOL: Kind = 7;
const TEXT: Kind = 8;
const ARRAY: Kind = 9;

/// All keys of one file.
pub struct Metadata {
    path: PathBuf,
    buffer: Arc<Buffer>,
    values: BTreeMap<String, Value>,
}

/// A value, or where it lies.
#[derive(Clone, Debug)]
enum Value {
    Number(Number),
    Bool(bool),
    Text(Range<usize>),
    Array(Array),
}

/// A number as the file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
}

/// Elements of one type that follow each other; all of them have been checked.
#[derive(Clone, Debug)]
struct Array {
    kind: Kind,
    count: usize,
    bytes: Range<usize>,
}

impl Metadata {
    /// Reads `count` keys.
    pub(super) fn read(
        cursor: &mut Cursor,
        buffer: &Arc<Buffer>,
        count: usize,
    ) -> Result<Self, WeightError> {
        let mut values = BTreeMap::new();
        for index in 0..count {
            let key = cursor.text(&|| format!("the name of key {index}"))?;
            let kind = cursor.u32()?;
            let value = value(cursor, key, kind)?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(malformed(
                    cursor.path,
                    format!("it has the key `{key}` twice"),
                ));
            }
        }
        Ok(Self {
            path: cursor.path.to_owned(),
            buffer: buffer.clone(),
            values,
        })
    }

    /// The file that they are from, the first one of a split set.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A string, if the key is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, WeightError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => Ok(Some(self.text_at(range.clone()))),
            Some(other) => Err(self.wrong(key, other, "a string")),
        }
    }

    /// A whole number that is not negative, if the key is there.
    pub fn whole(&self, key: &str) -> Result<Option<u64>, WeightError> {
        const WANTED: &str = "a whole number of at least 0";
        match self.values.get(key) {
            None => Ok(None),
            Some(value @ Value::Number(number)) => match number.whole() {
                Some(whole) => Ok(Some(whole)),
                None => Err(self.wrong(key, value, WANTED)),
            },
            Some(other) => Err(self.wrong(key, other, WANTED)),
        }
    }

    /// A finite number, if the key is there. A number of single precision is the shortest decimal that means it, as
    /// the configuration had it that the file was made from.
    pub fn number(&self, key: &str) -> Result<Option<f64>, WeightError> {
        const WANTED: &str = "a finite number";
        match self.values.get(key) {
            None => Ok(None),
            Some(value @ Value::Number(number)) => match number.float() {
                float if float.is_finite() => Ok(Some(float)),
                _ => Err(self.wrong(key, value, WANTED)),
            },
            Some(other) => Err(self.wrong(key, other, WANTED)),
        }
    }

    /// True or false, if the key is there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, WeightError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// Whether the value is an array.
    pub fn is_list(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Array(_)))
    }

    /// The strings of an array, if the key is there.
    pub fn texts(
        &self,
        key: &str,
    ) -> Result<Option<impl ExactSizeIterator<Item = &str>>, WeightError> {
        let Some(array) = self.array(key, "an array of strings", |kind| kind == TEXT)? else {
            return Ok(None);
        };
        let mut at = array.bytes.start;
        Ok(Some((0..array.count).map(move |_| {
            let len = u64::from_le_bytes(self.fixed(at)) as usize;
            let begin = at + 8;
            at = begin + len;
            self.text_at(begin..at)
        })))
    }

    /// The numbers of an array, if the key is there; flags are 0 and 1.
    pub fn numbers(
        &self,
        key: &str,
    ) -> Result<Option<impl ExactSizeIterator<Item = f64>>, WeightError> {
        let numeric = |kind| size_of_kind(kind).is_some();
        let Some(array) = self.array(key, "an array of numbers", numeric)? else {
            return Ok(None);
        };
        let (kind, begin) = (array.kind, array.bytes.start);
        let size = size_of_kind(kind).unwrap_or(1);
        Ok(Some((0..array.count).map(move |index| {
            let at = begin + index * size;
            number(kind, &self.buffer.bytes()[at..at + size]).map_or(0.0, Number::float)
        })))
    }

    fn array(
        &self,
        key: &str,
        wanted: &str,
        fits: impl Fn(Kind) -> bool,
    ) -> Result<Option<&Array>, WeightError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) if fits(array.kind) || array.count == 0 => Ok(Some(array)),
            Some(other) => Err(self.wrong(key, other, wanted)),
        }
    }

    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer.bytes()[at..at + N]);
        bytes
    }

    /// Text that was checked when the file was opened. A file that changes under the map may hold anything.
    fn text_at(&self, range: Range<usize>) -> &str {
        let bytes = self.buffer.bytes().get(range).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> WeightError {
        let shown = match value {
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Text(range) => {
                let text = self.text_at(range.clone());
                let short: String = text.chars().take(SHOWN).collect();
                let more = if short.len() < text.len() { "…" } else { "" };
                format!("{short:?}{more}")
            }
            Value::Array(array) => {
                format!("an array of {} {}", array.count, name_of_kind(array.kind))
            }
        };
        malformed(
            &self.path,
            format!("its key `{key}` is {shown}, but must be {wanted}"),
        )
    }

    /// An error about the value of a key.
    pub fn refuse(&self, key: &str, wanted: &str) -> WeightError {
        match self.values.get(key) {
            Some(value) => self.wrong(key, value, wanted),
            None => malformed(
                &self.path,
                format!("it has no key `{key}`, which must be {wanted}"),
            ),
        }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metadata")
            .field("path", &self.path)
            .field("keys", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl Number {
    fn whole(self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(number),
            Self::Signed(number) => u64::try_from(number).ok(),
            Self::F32(_) | Self::F64(_) => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Unsigned(number) => number as f64,
            Self::Signed(number) => number as f64,
            Self::F32(number) => number.to_string().parse().unwrap_or(f64::NAN),
            Self::F64(number) => number,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => number.fmt(out),
            Self::Signed(number) => number.fmt(out),
            Self::F32(number) => number.fmt(out),
            Self::F64(number) => number.fmt(out),
        }
    }
}

/// Checks the value of a key and remembers where it is.
fn value(cursor: &mut Cursor, key: &str, kind: Kind) -> Result<Value, WeightError> {
    let what = || format!("the value of `{key}`");
    match kind {
        TEXT => {
            let text = cursor.text(&what)?;
            Ok(Value::Text(cursor.at - text.len()..cursor.at))
        }
        ARRAY => array(cursor, key, 1).map(Value::Array),
        _ => {
            let Some(size) = size_of_kind(kind) else {
                return Err(unknown_kind(cursor.path, key, kind));
            };
            let bytes = cursor.take(size as u64)?;
            match (kind, number(kind, bytes)) {
                (BOOL, Some(Number::Unsigned(flag @ (0 | 1)))) => Ok(Value::Bool(flag == 1)),
                (BOOL, _) => Err(not_a_flag(cursor.path, key, bytes[0])),
                (_, Some(number)) => Ok(Value::Number(number)),
                (_, None) => Err(unknown_kind(cursor.path, key, kind)),
            }
        }
    }
}

fn array(cursor: &mut Cursor, key: &str, depth: usize) -> Result<Array, WeightError> {
    let kind = cursor.u32()?;
    let count = cursor.u64()?;
    let least = match (kind, size_of_kind(kind)) {
        (_, Some(size)) => size,
        (TEXT, None) => 8,
        (ARRAY, None) => 12,
        (_, None) => return Err(unknown_kind(cursor.path, key, kind)),
    };
    let what = || format!("elements of `{key}`, which are {}", name_of_kind(kind));
    let count = cursor.check_count(count, least, &what)?;
    let begin = cursor.at;
    match kind {
        TEXT => {
            for index in 0..count {
                cursor.text(&|| format!("element {index} of `{key}`"))?;
            }
        }
        ARRAY if depth == DEEPEST => {
            let problem =
                format!("its key `{key}` has arrays within arrays, more than {DEEPEST} deep");
            return Err(malformed(cursor.path, problem));
        }
        ARRAY => {
            for _ in 0..count {
                array(cursor, key, depth + 1)?;
            }
        }
        _ => {
            // The product fits the file, which `check_count` has seen.
            let bytes = cursor.take((count * least) as u64)?;
            if let (BOOL, Some(&bad)) = (kind, bytes.iter().find(|&&byte| byte > 1)) {
                return Err(not_a_flag(cursor.path, key, bad));
            }
        }
    }
    Ok(Array {
        kind,
        count,
        bytes: begin..cursor.at,
    })
}

/// Bytes of a value of fixed size.
fn size_of_kind(kind: Kind) -> Option<usize> {
    match kind {
        0 | 1 | BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn name_of_kind(kind: Kind) -> &'static str {
    match kind {
        0 | 2 | 4 | 10 => "unsigned numbers",
        1 | 3 | 5 | 11 => "signed numbers",
        6 | 12 => "floating-point numbers",
        BOOL => "flags",
        TEXT => "strings",
        _ => "arrays",
    }
}

/// The number of a fixed-size type; its bytes are as many as the type has.
fn number(kind: Kind, bytes: &[u8]) -> Option<Number> {
    let signed = |number: i64| Some(Number::Signed(number));
    let unsigned = |number: u64| Some(Number::Unsigned(number));
    match (kind, bytes) {
        (0 | BOOL, &[byte]) => unsigned(byte.into()),
        (1, &[byte]) => signed(i8::from_le_bytes([byte]).into()),
        (2, &[a, b]) => unsigned(u16::from_le_bytes([a, b]).into()),
        (3, &[a, b]) => signed(i16::from_le_bytes([a, b]).into()),
        (4, &[a, b, c, d]) => unsigned(u32::from_le_bytes([a, b, c, d]).into()),
        (5, &[a, b, c, d]) => signed(i32::from_le_bytes([a, b, c, d]).into()),
        (6, &[a, b, c, d]) => Some(Number::F32(f32::from_le_bytes([a, b, c, d]))),
        (10..=12, _) => {
            let word = u64::from_le_bytes(*bytes.first_chunk()?);
            match kind {
                10 => unsigned(word),
                11 => signed(word as i64),
                _ => Some(Number::F64(f64::from_bits(word))),
            }
        }
        _ => None,
    }
}

fn unknown_kind(path: &Path, key: &str, kind: Kind) -> WeightError {
    malformed(
        path,
        format!("its key `{key}` has a value of type {kind}, but types are from 0 to 12"),
    )
}

fn not_a_flag(path: &Path, key: &str, byte: u8) -> WeightError {
    malformed(
        path,
        format!("its key `{key}` has a flag of value {byte}, but flags are 0 or 1"),
    )
}
