//! The last lines that a worker wrote, and what of them tells why it failed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// So many lines are kept.
const LINES: usize = 60;
/// So many of them are shown in a message.
const SHOWN: usize = 12;

/// The last lines, of standard output and standard error as they came.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    pub(crate) fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The end of a message: the exception, if there is one, and the last lines. Empty if nothing
    /// was written.
    pub(crate) fn words(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let cause = lines.iter().rev().find(|line| is_exception(line));
        let cause = cause.map_or_else(String::new, |line| format!(": {line}"));
        let from = lines.len().saturating_sub(SHOWN);
        let last: Vec<&str> = lines.iter().skip(from).map(String::as_str).collect();
        format!("{cause}; its last lines:\n{}", last.join("\n"))
    }
}

/// The line of a traceback that names the exception, or the interpreter's own last word.
fn is_exception(line: &str) -> bool {
    if line.starts_with("Fatal Python error") {
        return true;
    }
    let (name, _) = line.split_once(':').unwrap_or((line, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let ends = ["Error", "Exception", "Interrupt", "Exit", "Warning"];
    name.chars().all(is_name) && ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: &[&str]) -> Tail {
        let tail = Tail::default();
        lines.iter().for_each(|line| tail.push(line));
        tail
    }

    #[test]
    fn the_exception_comes_first() {
        let tail = tail(&[
            "INFO::starting",
            "ERROR::Python engine process died",
            "Traceback (most recent call last):",
            "  File \"model.py\", line 1",
            "ModuleNotFoundError: No module named 'nothing_like_it'",
            "INFO::done",
        ]);
        let words = tail.words();
        assert!(
            words.starts_with(": ModuleNotFoundError: No module named 'nothing_like_it'; its last"),
            "{words}"
        );
        assert!(words.ends_with("INFO::done"), "{words}");
    }

    #[test]
    fn only_the_last_lines_are_kept_and_shown() {
        let tail = Tail::default();
        assert_eq!(tail.words(), "");
        for number in 0..1000 {
            tail.push(&format!("line {number}"));
        }
        let words = tail.words();
        assert!(
            words.starts_with("; its last lines:\nline 988\n"),
            "{words}"
        );
        assert_eq!(words.lines().count(), 1 + SHOWN);
    }
}
