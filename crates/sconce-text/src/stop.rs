//! Stop sequences in a text that arrives in parts.

use sconce_core::Stop;

use crate::stages::longest_beginning;

/// Holds back what may become a stop sequence; cuts the text at the first one.
#[derive(Clone)]
pub(crate) struct StopMatcher {
    sequences: Vec<String>,
    keep_in_text: bool,
    held: String,
}

/// Text that may be shown, and the stop sequence that ended it.
pub(crate) struct Released {
    pub(crate) text: String,
    pub(crate) matched: Option<String>,
}

impl StopMatcher {
    /// Empty sequences are ignored: they would stop every text before it begins.
    pub(crate) fn new(stop: &Stop) -> Self {
        let sequences = stop
            .sequences
            .iter()
            .filter(|sequence| !sequence.is_empty());
        Self {
            sequences: sequences.cloned().collect(),
            keep_in_text: stop.keep_in_text,
            held: String::new(),
        }
    }

    /// Takes the next part. If the text so far contains stop sequences, the one that begins
    /// first wins, of those that begin there the longest.
    pub(crate) fn push(&mut self, part: &str) -> Released {
        self.held.push_str(part);
        if let Some((start, length)) = self.first_match() {
            let matched = self.held[start..start + length].to_owned();
            self.held.truncate(if self.keep_in_text {
                start + length
            } else {
                start
            });
            return Released {
                text: std::mem::take(&mut self.held),
                matched: Some(matched),
            };
        }
        let keep = longest_beginning(&self.held, self.sequences.iter().map(String::as_str));
        let later = self.held.split_off(self.held.len() - keep);
        Released {
            text: std::mem::replace(&mut self.held, later),
            matched: None,
        }
    }

    /// What was held back: no stop sequence came of it.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    fn first_match(&self) -> Option<(usize, usize)> {
        let found = self.sequences.iter().filter_map(|sequence| {
            self.held
                .find(sequence.as_str())
                .map(|start| (start, sequence.len()))
        });
        found.min_by_key(|&(start, length)| (start, usize::MAX - length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(sequences: &[&str], keep_in_text: bool) -> StopMatcher {
        let sequences = sequences.iter().map(|&s| s.to_owned()).collect();
        StopMatcher::new(&Stop {
            sequences,
            keep_in_text,
            ..Stop::default()
        })
    }

    fn run(matcher: &mut StopMatcher, parts: &[&str]) -> (Vec<String>, bool) {
        let mut texts = Vec::new();
        for part in parts {
            let released = matcher.push(part);
            texts.push(released.text);
            if released.matched.is_some() {
                return (texts, true);
            }
        }
        texts.push(matcher.finish());
        (texts, false)
    }

    #[test]
    fn a_stop_across_parts_is_held_back_and_cut() {
        let found = run(
            &mut matcher(&["\n\nEnd"], false),
            &["one\n", "\nE", "nd two"],
        );
        assert_eq!(
            found,
            (vec!["one".into(), String::new(), String::new()], true)
        );
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_released() {
        let found = run(&mut matcher(&["aab"], false), &["xa", "a", "a", "c"]);
        assert_eq!(
            found,
            (["x", "", "a", "aac", ""].map(String::from).to_vec(), false)
        );
        let found = run(&mut matcher(&["aab"], false), &["xaa"]);
        assert_eq!(found, (vec!["x".into(), "aa".into()], false));
    }

    #[test]
    fn the_first_match_wins_then_the_longest() {
        let stops = ["cd", "b", "bcd"];
        assert_eq!(run(&mut matcher(&stops, true), &["abcde"]).0, ["abcd"]);
        assert_eq!(run(&mut matcher(&stops, false), &["abcde"]).0, ["a"]);
    }

    #[test]
    fn empty_sequences_stop_nothing() {
        assert_eq!(
            run(&mut matcher(&[""], false), &["a", "b"]),
            (vec!["a".into(), "b".into(), String::new()], false)
        );
    }

    proptest! {
        #[test]
        fn nothing_is_shown_that_a_stop_takes_back(
            parts in proptest::collection::vec("[abé]{0,3}", 0..12),
            stops in proptest::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (texts, stopped) = run(
                &mut matcher(&stops, false),
                &parts.iter().map(String::as_str).collect::<Vec<_>>(),
            );
            let shown = texts.concat();
            prop_assert!(!stops.iter().any(|stop| shown.contains(stop)));
            prop_assert!(parts.concat().starts_with(&shown));
            prop_assert_eq!(stopped, stops.iter().any(|stop| parts.concat().contains(stop)));
            if !stopped {
                prop_assert_eq!(shown, parts.concat());
            }
        }
    }
}
