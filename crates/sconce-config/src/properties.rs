//! The grammar of Java's `.properties` files, as `java.util.Properties.load` reads them.
//!
//! Beyond Java: line numbers are kept, a key given twice is an error, and so is text that is not
//! UTF-8. What the keys mean is left to the table.

use std::collections::HashMap;

use thiserror::Error;

/// A key and its value, both unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Line of the file, from 1, on which the key begins.
    pub(crate) line: usize,
}

/// A mistake in the form of a file; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PropertiesError {
    /// The bytes are not UTF-8.
    #[error("line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// Line of the first wrong byte.
        line: usize,
        /// That byte.
        byte: u8,
    },
    /// `\u` is not followed by four hexadecimal digits, or they are half of a pair.
    #[error(
        "line {line}: `{escape}` is not a character; write \\u and four hexadecimal digits, \
         pairs for characters above FFFF, or \\\\ for a backslash"
    )]
    Escape {
        /// Line on which the property begins.
        line: usize,
        /// The text from the backslash on.
        escape: String,
    },
    /// A key occurs twice.
    #[error("line {second}: key `{key}` is already set on line {first}; keep one of them")]
    Duplicate {
        /// The key.
        key: String,
        /// Line of its first occurrence.
        first: usize,
        /// Line of this occurrence.
        second: usize,
    },
}

/// What a file says, and what is wrong with its form.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    /// In the order of the file; of a key given twice, the first.
    pub(crate) properties: Vec<Property>,
    pub(crate) problems: Vec<PropertiesError>,
}

/// Parses the bytes of a file.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = count_lines(&String::from_utf8_lossy(good));
            let byte = bytes[error.valid_up_to()];
            parsed
                .problems
                .push(PropertiesError::NotUtf8 { line, byte });
            return parsed;
        }
    };
    // Windows editors put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines_by_key: HashMap<String, usize> = HashMap::new();
    for logical in logical_lines(text) {
        match property(&logical) {
            Err(problem) => parsed.problems.push(problem),
            Ok(property) => match lines_by_key.get(&property.key) {
                Some(&first) => parsed.problems.push(PropertiesError::Duplicate {
                    key: property.key,
                    first,
                    second: property.line,
                }),
                None => {
                    lines_by_key.insert(property.key.clone(), property.line);
                    parsed.properties.push(property);
                }
            },
        }
    }
    parsed
}

/// Natural lines joined by continuations, without comments and blank lines, still escaped.
struct LogicalLine {
    text: Vec<char>,
    line: usize,
}

fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    let mut current = LogicalLine {
        text: Vec::new(),
        line: 1,
    };
    let (mut skip_blanks, mut continued, mut backslash, mut comment) = (true, false, false, false);
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let begun = line;
        let ends = matches!(c, '\n' | '\r');
        if ends {
            line += 1;
            if c == '\r' {
                chars.next_if_eq(&'\n');
            }
        }
        if comment {
            comment = !ends;
            continue;
        }
        if skip_blanks {
            // A blank line is skipped, but ends a continued one.
            if is_blank(c) || (ends && !continued) {
                continue;
            }
            (skip_blanks, continued) = (false, false);
        }
        if current.text.is_empty() && matches!(c, '#' | '!') {
            (comment, skip_blanks) = (true, true);
        } else if !ends {
            if current.text.is_empty() {
                current.line = begun;
            }
            current.text.push(c);
            backslash = c == '\\' && !backslash;
        } else if backslash {
            current.text.pop();
            (skip_blanks, continued, backslash) = (true, true, false);
        } else {
            let next = LogicalLine {
                text: Vec::new(),
                line,
            };
            lines.push(std::mem::replace(&mut current, next));
            skip_blanks = true;
        }
    }
    if backslash {
        current.text.pop();
    }
    lines.push(current);
    lines.retain(|logical| !logical.text.is_empty());
    lines
}

fn property(logical: &LogicalLine) -> Result<Property, PropertiesError> {
    let text = &logical.text;
    let mut escaped = false;
    let key_end = text.iter().position(|&c| {
        let separates = !escaped && (is_blank(c) || is_separator(c));
        escaped = c == '\\' && !escaped;
        separates
    });
    let key_end = key_end.unwrap_or(text.len());
    let rest = skip_blanks(&text[key_end..]);
    let value = match rest {
        [separator, value @ ..] if is_separator(*separator) => skip_blanks(value),
        value => value,
    };
    let unescape = |text: &[char]| {
        unescape(text).map_err(|escape| PropertiesError::Escape {
            line: logical.line,
            escape,
        })
    };
    let key = unescape(&text[..key_end])?;
    Ok(Property {
        key,
        value: unescape(value)?,
        line: logical.line,
    })
}

/// Errors with the text of the wrong escape.
fn unescape(text: &[char]) -> Result<String, String> {
    let mut units = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut rest = text;
    while let [c, after @ ..] = rest {
        rest = after;
        let mut plain = *c;
        if *c == '\\' {
            match after {
                ['u', digits @ ..] => {
                    let unit = digits.get(..4).and_then(hexadecimal);
                    units.push(unit.ok_or_else(|| escape_text(digits))?);
                    rest = &digits[4..];
                    continue;
                }
                [letter, after @ ..] => {
                    plain = meaning(*letter);
                    rest = after;
                }
                [] => break,
            }
        }
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    char::decode_utf16(units)
        .collect::<Result<String, _>>()
        .map_err(|half| format!("\\u{:04X}", half.unpaired_surrogate()))
}

fn hexadecimal(digits: &[char]) -> Option<u16> {
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + digit.to_digit(16)? as u16)
    })
}

fn escape_text(digits: &[char]) -> String {
    "\\u"
        .chars()
        .chain(digits.iter().copied().take(4))
        .collect()
}

fn meaning(letter: char) -> char {
    match letter {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\u{c}',
        other => other,
    }
}

fn skip_blanks(text: &[char]) -> &[char] {
    let first = text
        .iter()
        .position(|&c| !is_blank(c))
        .unwrap_or(text.len());
    &text[first..]
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn is_separator(c: char) -> bool {
    matches!(c, '=' | ':')
}

fn count_lines(text: &str) -> usize {
    1 + text.replace("\r\n", "\n").matches(['\n', '\r']).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let parsed = parse(text.as_bytes());
        assert_eq!(parsed.problems, []);
        parsed
            .properties
            .into_iter()
            .map(|p| (p.key, p.value))
            .collect()
    }

    /// The fixture and what OpenJDK's `Properties.load` makes of it: `fixtures/Load.java`.
    #[test]
    fn the_grammar_is_that_of_java() {
        let golden: Vec<(String, String)> =
            serde_json::from_str(include_str!("../fixtures/grammar.json")).unwrap();
        let parsed = parse(include_bytes!("../fixtures/grammar.properties"));
        assert_eq!(parsed.problems, []);
        let mut found: Vec<_> = parsed
            .properties
            .into_iter()
            .map(|p| (p.key, p.value))
            .collect();
        found.sort();
        assert_eq!(found, golden);
    }

    #[test]
    fn lines_are_those_on_which_keys_begin() {
        let parsed = parse(b"# one\r\n\r\na = 1\\\r\n   2\r\n\n!x\nb:3\rc 4");
        let lines: Vec<_> = parsed
            .properties
            .iter()
            .map(|p| (p.key.as_str(), p.line))
            .collect();
        assert_eq!(lines, [("a", 3), ("b", 7), ("c", 8)]);
        assert_eq!(parsed.properties[0].value, "12");
    }

    #[test]
    fn files_as_the_sdk_writes_them_are_read() {
        let text = "option.max_new_tokens=64\n\nbatch_size = 4\n\noption.extra=a=b\n\n\
                    option.s3url=s3://my-bucket/gpt-j-6B/\n";
        let expected = [
            ("option.max_new_tokens", "64"),
            ("batch_size", "4"),
            ("option.extra", "a=b"),
            ("option.s3url", "s3://my-bucket/gpt-j-6B/"),
        ];
        assert_eq!(
            pairs(text),
            expected.map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn problems_name_their_lines_and_the_rest_is_still_read() {
        let parsed = parse(b"a=1\nb=\\u12g4\na=2\nc=\\ud83d\nd=4");
        let escape = |line, escape: &str| PropertiesError::Escape {
            line,
            escape: escape.into(),
        };
        let duplicate = PropertiesError::Duplicate {
            key: "a".into(),
            first: 1,
            second: 3,
        };
        let expected = [escape(2, "\\u12g4"), duplicate, escape(4, "\\uD83D")];
        assert_eq!(parsed.problems, expected);
        assert_eq!(parsed.properties.len(), 2);
    }

    #[test]
    fn bytes_that_are_not_utf8_name_their_line() {
        let parsed = parse(b"a=1\nb=2\nc=\xe9t\xe9\n");
        assert_eq!(
            parsed.problems,
            [PropertiesError::NotUtf8 {
                line: 3,
                byte: 0xe9
            }]
        );
    }

    /// The inverse of `unescape`, with everything escaped that can be.
    fn escape(text: &str) -> String {
        let units = text.encode_utf16();
        units.map(|unit| format!("\\u{unit:04x}")).collect()
    }

    /// Escapes only what has to be.
    fn escape_lightly(text: &str) -> String {
        let mut escaped = String::new();
        for c in text.chars() {
            match c {
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                ' ' | '\t' | '\u{c}' | '=' | ':' | '#' | '!' | '\\' => escaped.extend(['\\', c]),
                c => escaped.push(c),
            }
        }
        escaped.replace("\\\t", "\\t").replace("\\\u{c}", "\\f")
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }

        #[test]
        fn likely_mistakes_never_panic(text in "[a=: \\\\u0\n\r#!\t]{0,60}") {
            parse(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            key in "\\PC{1,12}|[ =:#!\\\\\t\n\r]{1,5}", value in "\\PC{0,20}|[ =:#!\\\\\t\n\r]{0,6}"
        ) {
            for escape in [escape, escape_lightly] {
                for separator in ["=", ":", " ", " = ", "\\\n  =\t"] {
                    let text = format!("! first\n{}{separator}{}\n", escape(&key), escape(&value));
                    let parsed = parse(text.as_bytes());
                    let expected = Property { key: key.clone(), value: value.clone(), line: 2 };
                    prop_assert_eq!(parsed.problems, []);
                    prop_assert_eq!(parsed.properties, vec![expected]);
                }
            }
        }
    }
}
