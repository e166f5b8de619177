//! `option.enable_streaming`: a line for each step, with one piece of text per prompt.

use std::collections::VecDeque;

use sconce_core::{Output, ServeError, Token};
use serde::Serialize;

use crate::dialect::Stream;
use crate::{error, json};

/// Writes `{"outputs": ["…", "…"]}`. A line waits until every prompt that is not finished has a
/// piece for it; finished ones have an empty piece.
pub(super) struct Lines(Vec<Pieces>);

#[derive(Default)]
struct Pieces {
    waiting: VecDeque<String>,
    finished: bool,
}

impl Lines {
    /// Lines for so many prompts.
    pub(super) fn new(prompts: usize) -> Self {
        Self((0..prompts).map(|_| Pieces::default()).collect())
    }

    fn lines(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.is_due() {
            let pieces = self.0.iter_mut();
            let outputs = pieces.map(|pieces| pieces.waiting.pop_front().unwrap_or_default());
            bytes.extend(line(outputs.collect()));
        }
        bytes
    }

    fn is_due(&self) -> bool {
        let waiting = |pieces: &Pieces| !pieces.waiting.is_empty();
        self.0.iter().any(waiting)
            && self
                .0
                .iter()
                .all(|pieces| pieces.finished || waiting(pieces))
    }
}

impl Stream for Lines {
    fn content_type(&self) -> &'static str {
        "application/jsonlines"
    }

    fn token(&mut self, index: usize, token: Token) -> Vec<u8> {
        self.0[index].waiting.push_back(token.text);
        self.lines()
    }

    fn done(&mut self, index: usize, _: &Output) -> Vec<u8> {
        self.0[index].finished = true;
        self.lines()
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        self.0.iter_mut().for_each(|pieces| pieces.finished = true);
        let mut bytes = self.lines();
        bytes.extend(error::lmi(error, code));
        bytes.push(b'\n');
        bytes
    }
}

fn line(outputs: Vec<String>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line {
        outputs: Vec<String>,
    }
    let mut bytes = json::spaced_ascii(&Line { outputs });
    bytes.push(b'\n');
    bytes
}
