//! Rust files as the rules see them: code without comments and literals, string literals, the
//! lines that belong to tests, the functions. A scanner of characters, not a parser.

use std::ops::RangeInclusive;

/// One Rust file. Lines count from 1.
pub(super) struct Source {
    /// Path from the repository's root, with `/`.
    pub(super) path: String,
    /// The file as it is.
    pub(super) text: String,
    /// The lines of the file, comments and the contents of literals blanked out.
    pub(super) code: Vec<String>,
    /// String literals that end on one line, with their line.
    pub(super) strings: Vec<(usize, String)>,
    /// Items under `#[cfg(test)]`.
    tests: Vec<RangeInclusive<usize>>,
}

/// A function with a body.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

impl Source {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (code, strings) = blank(&text);
        let tests = test_items(&code);
        let code = code.lines().map(str::to_owned).collect();
        Self {
            path,
            text,
            code,
            strings,
            tests,
        }
    }

    /// The crate that the file belongs to; empty for the files of the top level.
    pub(super) fn owner(&self) -> &str {
        let inside = self.path.strip_prefix("crates/");
        inside.and_then(|rest| rest.split('/').next()).unwrap_or("")
    }

    /// Whether a line only runs in tests or benches.
    pub(super) fn is_test(&self, line: usize) -> bool {
        let path = &self.path;
        path.starts_with("tests/")
            || path.starts_with("benches/")
            || path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || path.ends_with("/build.rs")
            || self.owner() == "sconce-testkit"
            || self.tests.iter().any(|range| range.contains(&line))
    }

    /// Lines of code in which one of the words stands by itself.
    pub(super) fn lines_with(&self, words: &[&str]) -> Vec<(usize, String)> {
        let hit = |code: &String| words.iter().find(|word| has_word(code, word));
        let lines = self.code.iter().enumerate();
        lines
            .filter_map(|(at, code)| Some((at + 1, (*hit(code)?).to_owned())))
            .collect()
    }

    /// All functions, those of tests and those inside others included.
    pub(super) fn functions(&self) -> Vec<Function> {
        let code: Vec<char> = self.code.join("\n").chars().collect();
        let mut found = Vec::new();
        let mut line = 1;
        for at in 0..code.len() {
            line += usize::from(code[at] == '\n');
            if let Some(name) = function_name(&code, at)
                && let Some(body) = opening_brace(&code, at)
            {
                let end = closing_brace(&code, body);
                let lines = 1 + newlines(&code[at..end]);
                found.push(Function { name, line, lines });
            }
        }
        found
    }
}

/// Whether `word` occurs in `code` without being a part of a longer identifier.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let left = word.starts_with(joins) && before.is_some_and(joins);
        let right = word.ends_with(joins) && after.is_some_and(joins);
        !left && !right
    })
}

fn newlines(code: &[char]) -> usize {
    code.iter().filter(|c| **c == '\n').count()
}

/// The text with comments and the contents of literals blanked out, and the string literals.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let from: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut strings = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < from.len() {
        let end = literal_end(&from, at).unwrap_or(at);
        if end == at {
            line += usize::from(from[at] == '\n');
            out.push(from[at]);
            at += 1;
            continue;
        }
        if from[at] != '/' && from[at] != '\'' {
            strings.push((line, from[at..end].iter().collect()));
        }
        for &c in &from[at..end] {
            line += usize::from(c == '\n');
            out.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    (out, strings)
}

/// The end of the comment or literal that begins here, if one does.
fn literal_end(from: &[char], at: usize) -> Option<usize> {
    let next = |step: usize| from.get(at + step).copied();
    match (from[at], next(1)) {
        ('/', Some('/')) => Some(find(from, at, &['\n']).unwrap_or(from.len())),
        ('/', Some('*')) => Some(block_comment_end(from, at)),
        ('"', _) => Some(quoted_end(from, at + 1, '"')),
        ('\'', Some('\\')) => Some(quoted_end(from, at + 1, '\'')),
        // Otherwise a lifetime.
        ('\'', Some(c)) if c != '\'' && next(2) == Some('\'') => Some(at + 3),
        ('r', Some('"' | '#')) if !joins_before(from, at) => raw_string_end(from, at),
        _ => None,
    }
}

/// Whether the character before belongs to an identifier; `b` and `c` prefixes of strings do not.
fn joins_before(from: &[char], at: usize) -> bool {
    let is_part = |i: usize| from[i].is_alphanumeric() || from[i] == '_';
    match at {
        0 => false,
        1 => is_part(0) && !matches!(from[0], 'b' | 'c'),
        _ => is_part(at - 1) && (!matches!(from[at - 1], 'b' | 'c') || is_part(at - 2)),
    }
}

fn find(from: &[char], at: usize, what: &[char]) -> Option<usize> {
    (at..from.len()).find(|&i| from[i..].starts_with(what))
}

fn block_comment_end(from: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < from.len() {
        if from[at..].starts_with(&['/', '*']) {
            (depth, at) = (depth + 1, at + 2);
        } else if from[at..].starts_with(&['*', '/']) {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted_end(from: &[char], mut at: usize, quote: char) -> usize {
    while at < from.len() && from[at] != quote {
        at += if from[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(from.len())
}

fn raw_string_end(from: &[char], at: usize) -> Option<usize> {
    let hashes = from[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if from.get(open) != Some(&'"') {
        return None; // a raw identifier
    }
    let mut close = vec!['"'];
    close.resize(1 + hashes, '#');
    Some(find(from, open + 1, &close).map_or(from.len(), |i| i + close.len()))
}

/// The lines of the items that carry `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<RangeInclusive<usize>> {
    let chars: Vec<char> = code.chars().collect();
    let mark: Vec<char> = "#[cfg(test)]".chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = find(&chars, at, &mark) {
        at = start + mark.len();
        if let Some(body) = opening_brace(&chars, at) {
            at = closing_brace(&chars, body);
        }
        let first = 1 + newlines(&chars[..start]);
        found.push(first..=first + newlines(&chars[start..at]));
    }
    found
}

/// The name, if the word `fn` with a name after it begins here.
fn function_name(code: &[char], at: usize) -> Option<String> {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    if !code[at..].starts_with(&['f', 'n', ' ']) || (at > 0 && joins(code[at - 1])) {
        return None;
    }
    let name: String = code[at + 3..].iter().take_while(|c| joins(**c)).collect();
    (!name.is_empty()).then_some(name)
}

/// Where the body of an item opens, unless it ends with a semicolon.
fn opening_brace(code: &[char], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, c) in code.iter().enumerate().skip(at) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(i),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// One past the brace that closes the one at `open`.
fn closing_brace(code: &[char], open: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_out() {
        let source = Source::new(
            "a.rs",
            "let a = \"unsafe \\\" {\"; // unsafe\nlet b = r#\"un\"safe\"#; /* unsafe /* x */ */ safe('{', b'\\'', \"z\")",
        );
        let code = source.code.join("\n");
        assert!(!code.contains("un") && !code.contains('{'), "{code}");
        assert!(code.contains("safe("));
        let strings: Vec<&str> = source.strings.iter().map(|(_, s)| s.as_str()).collect();
        assert_eq!(strings, ["\"unsafe \\\" {\"", "r#\"un\"safe\"#", "\"z\""]);
        assert_eq!(source.strings[2].0, 2);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        let source = Source::new("a.rs", "fn f<'a>(x: &'a str, y: r#type) -> &'a str { x }");
        assert!(source.code[0].contains("&'a str, y: r#type"));
    }

    #[test]
    fn functions_are_measured_from_signature_to_closing_brace() {
        let text = "trait T {\n fn no_body(&self, x: [u8; 4]);\n fn short() {}\n}\nfn long<F: Fn(u8)>(f: fn(u8)) -> u8\nwhere\n F: Copy,\n{\n fn inner() {\n }\n 1\n}\n";
        let found = Source::new("a.rs", text).functions();
        let seen: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(seen, [("short", 3, 1), ("long", 5, 8), ("inner", 9, 2)]);
    }

    #[test]
    fn items_under_cfg_test_are_tests_and_nothing_else_is() {
        let text = "#[cfg(test)]\nuse x;\nfn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("crates/c/src/a.rs", text);
        let lines: Vec<usize> = (1..=8).filter(|line| source.is_test(*line)).collect();
        assert_eq!(lines, [1, 4, 5, 6, 7]);
        assert!(Source::new("crates/c/src/a/tests.rs", "").is_test(1));
        assert!(Source::new("crates/c/tests/a.rs", "").is_test(1));
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("use std::env;", "std::env"));
        assert!(has_word("unsafe{", "unsafe"));
        assert!(!has_word("#![allow(unsafe_code)]", "unsafe"));
        assert!(!has_word("my_std::envy", "std::env"));
    }
}
