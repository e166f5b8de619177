//! JSON as Python's `json.dumps` spells it, with the arguments that templates give to `tojson`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Bytes of what stands between values, which each of them gets.
const LONGEST: usize = 64;

/// How it is laid out.
struct Layout {
    ascii: bool,
    indent: Option<String>,
    sorted: bool,
    between: String,
    colon: String,
}

/// The filter `tojson` of transformers: nothing is escaped for HTML, and texts beyond ASCII stay as they are.
pub(super) fn tojson(
    value: &Value,
    ascii: Option<bool>,
    arguments: Kwargs,
) -> Result<String, Error> {
    let ascii = match ascii {
        Some(ascii) => ascii,
        None => arguments
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
    };
    let indent = match arguments.get::<Option<Value>>("indent")? {
        None => None,
        Some(width) if width.is_none() => None,
        Some(width) => Some(match width.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(width)?.min(LONGEST)),
        }),
    };
    let separators = arguments.get::<Option<Vec<String>>>("separators")?;
    let sorted = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    arguments.assert_all_used()?;
    let given = separators.iter().flatten().chain(&indent);
    if given.map(String::len).any(|len| len > LONGEST) {
        let problem = format!("tojson takes separators and an indent of {LONGEST} bytes at most");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    let (between, colon) = match separators.as_deref() {
        Some([between, colon]) => (between.clone(), colon.clone()),
        // With an indent a line ends behind the comma, and Python leaves no space there.
        _ if indent.is_some() => (",".into(), ": ".into()),
        _ => (", ".into(), ": ".into()),
    };
    let layout = Layout {
        ascii,
        indent,
        sorted,
        between,
        colon,
    };
    let mut text = String::new();
    layout.value(value, 0, &mut text)?;
    Ok(text)
}

impl Layout {
    fn value(&self, value: &Value, depth: usize, text: &mut String) -> Result<(), Error> {
        let unfit = || {
            let problem = format!("Object of type {} is not JSON serializable", value.kind());
            Error::new(ErrorKind::BadSerialization, problem)
        };
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value, text),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), text),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.all("[]", &items, depth, text, |item, text| {
                    self.value(item, depth + 1, text)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.all("{}", &keys, depth, text, |key, text| {
                    self.string(&name(key), text);
                    text.push_str(&self.colon);
                    self.value(&value.get_item(key)?, depth + 1, text)
                })?;
            }
            _ => return Err(unfit()),
        }
        Ok(())
    }

    /// Items between brackets.
    fn all(
        &self,
        brackets: &str,
        items: &[Value],
        depth: usize,
        text: &mut String,
        mut one: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, text: &mut String| {
            if let Some(indent) = self.indent.as_deref().filter(|_| !items.is_empty()) {
                text.push('\n');
                text.push_str(&indent.repeat(depth));
            }
        };
        text.push_str(&brackets[..1]);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                text.push_str(&self.between);
            }
            line(depth + 1, text);
            one(item, text)?;
        }
        line(depth, text);
        text.push_str(&brackets[1..]);
        Ok(())
    }

    fn number(&self, value: &Value, text: &mut String) {
        if value.is_integer() {
            text.push_str(&value.to_string());
            return;
        }
        let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
        text.push_str(&float(number));
    }

    fn string(&self, content: &str, text: &mut String) {
        text.push('"');
        for character in content.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                other if u32::from(other) < 0x20 => escape(other, text),
                other if self.ascii && !other.is_ascii() => escape(other, text),
                other => text.push(other),
            }
        }
        text.push('"');
    }
}

fn escape(character: char, text: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a text does not fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
}

/// A float as JSON of Python has it: its `repr`, but for what is no number.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    let exponent = number.abs().log10().floor();
    if number != 0.0 && !(-4.0..16.0).contains(&exponent) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number:?}")
}

/// A key as JSON has it.
fn name(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        _ => key.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `repr` of CPython 3.12.
    #[test]
    fn floats_are_spelled_as_python_does() {
        let all = [
            (0.0, "0.0"),
            (12.5, "12.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (-1e300, "-1e+300"),
            (f64::INFINITY, "Infinity"),
        ];
        for (number, want) in all {
            assert_eq!(float(number), want);
        }
    }
}
