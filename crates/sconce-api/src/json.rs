//! How JSON is laid out: like Python's `json.dumps` for models, like Gson for the server itself.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

/// `", "` and `": "` between items and non-ASCII as it is: `json.dumps(x, ensure_ascii=False)`.
///
/// Floats are the shortest digits that give the same f32 back, in Python's notation (`-1e-05`);
/// Python itself widens to f64 first and prints digits that carry no information. Infinities
/// become `null`, because JSON has no name for them.
pub(crate) fn spaced<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    value
        .serialize(&mut serializer)
        .expect("wire structs have string keys and a Vec takes all");
    bytes
}

/// As [`spaced`], with everything but ASCII escaped by its UTF-16 units: `json.dumps(x)`.
pub(crate) fn spaced_ascii<T: Serialize>(value: &T) -> Vec<u8> {
    let text = spaced(value);
    let mut ascii = Vec::with_capacity(text.len());
    // Outside of strings JSON is ASCII, so that the whole text may be searched.
    for character in String::from_utf8_lossy(&text).chars() {
        if character.is_ascii() {
            ascii.push(character as u8);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            ascii.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
    }
    ascii
}

/// `json.dumps(x, ensure_ascii=False, indent=2, separators=(",", ":"))`.
pub(crate) fn indented<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let formatter = Indented(PrettyFormatter::new());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .expect("wire structs have string keys and a Vec takes all");
    bytes
}

/// The inside of a JSON string, without its quotes.
pub(crate) fn escaped(text: &str) -> Vec<u8> {
    let quoted = serde_json::to_vec(text).expect("text serialises");
    quoted[1..quoted.len() - 1].to_vec()
}

/// Two spaces of indentation, a final newline, and Gson's escapes for HTML characters.
pub(crate) fn gson<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_string_pretty(value).expect("wire structs have string keys only");
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        // None of these occurs outside a string, so that the whole text may be searched.
        match character {
            '\'' | '<' | '>' | '&' | '=' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    escaped.push('\n');
    escaped.into_bytes()
}

struct Indented(PrettyFormatter<'static>);

/// Everything is as `PrettyFormatter` has it but the colon, which has no space behind.
impl Formatter for Indented {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b":")
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }
}

/// Rust's `{:?}` and Python's `repr` choose the same digits and switch to exponents at the same
/// sizes; Python writes the exponent with a sign and two digits.
fn python_float(value: f32) -> String {
    let text = format!("{value:?}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.strip_prefix('-') {
        Some(size) => format!("{digits}e-{size:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn separators_and_text_are_those_of_python() {
        let value = json!({"a": [1, "é\n\"中"], "b": {"c": null}});
        let text = String::from_utf8(spaced(&value)).unwrap();
        assert_eq!(text, "{\"a\": [1, \"é\\n\\\"中\"], \"b\": {\"c\": null}}");
    }

    #[test]
    fn handlers_indent_by_two_and_put_no_space_behind_a_colon() {
        let text = String::from_utf8(indented(&json!([{"a": "é", "b": []}]))).unwrap();
        assert_eq!(text, "[\n  {\n    \"a\":\"é\",\n    \"b\":[]\n  }\n]");
    }

    #[test]
    fn ascii_has_surrogates_for_what_lies_beyond() {
        let text = String::from_utf8(spaced_ascii(&["é🕯\n"])).unwrap();
        assert_eq!(text, r#"["\u00e9\ud83d\udd6f\n"]"#);
    }

    #[test]
    fn floats_are_short_and_in_the_notation_of_python() {
        let cases = [
            (-0.5, "-0.5"),
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (-0.1, "-0.1"),
            (-1e-4, "-0.0001"),
            (-1.25e-5, "-1.25e-05"),
            (-1e-10, "-1e-10"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
        ];
        for (value, text) in cases {
            assert_eq!(python_float(value), text);
        }
        assert_eq!(spaced(&[f32::NEG_INFINITY]), b"[null]");
    }

    #[test]
    fn server_bodies_escape_what_gson_escapes() {
        let text = String::from_utf8(gson(&json!({"m": "a='<b>&'"}))).unwrap();
        assert_eq!(
            text,
            "{\n  \"m\": \"a\\u003d\\u0027\\u003cb\\u003e\\u0026\\u0027\"\n}\n"
        );
    }
}
