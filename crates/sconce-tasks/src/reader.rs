//! What all tasks do to texts: tokens, their number, and the sentences that refuse a text.

use std::sync::Arc;

use sconce_core::ServeError;
use sconce_core::task::Truncation;
use sconce_text::{Cut, Encoded, Tokenizer, TooShort};

use crate::work::Text;

/// Makes tokens of texts.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Longest text in tokens.
    pub(crate) max_len: usize,
    /// Whether the model tells segments apart.
    pub(crate) segments: bool,
}

impl Reader {
    /// The tokens of a text or a pair, uncut.
    pub(crate) fn tokens(&self, text: &str, pair: Option<&str>) -> Result<Encoded, ServeError> {
        let found = self.tokenizer.encode_with_places(text, pair, true);
        found.map_err(|error| {
            ServeError::parameter("inputs", text, format!("cannot be tokenised: {error}"))
        })
    }

    /// The same, cut or refused if it is too long.
    pub(crate) fn fitting(
        &self,
        text: &str,
        pair: Option<&str>,
        truncation: Truncation,
        cut: Cut,
    ) -> Result<Encoded, ServeError> {
        let mut encoded = self.tokens(text, pair)?;
        let limit = truncation.max_len.unwrap_or(self.max_len).min(self.max_len);
        if truncation.cut {
            encoded
                .cut(limit, cut)
                .map_err(|short| too_short(short, limit))?;
        }
        self.require(&encoded, text)?;
        Ok(encoded)
    }

    /// Fails on a text without tokens, and on one that is too long.
    pub(crate) fn require(&self, encoded: &Encoded, text: &str) -> Result<(), ServeError> {
        let (len, limit) = (encoded.len(), self.max_len);
        if len == 0 {
            let problem = "has no tokens; send a text that is not empty";
            return Err(ServeError::parameter("inputs", text, problem));
        }
        if len > limit {
            let problem = format!(
                "has {len} tokens with the special ones, and the model takes {limit}; shorten it, or set truncation=true"
            );
            return Err(ServeError::parameter("inputs", text, problem));
        }
        Ok(())
    }

    /// The text as the encoder takes it.
    pub(crate) fn text(&self, encoded: &Encoded) -> Text {
        let tokens = &encoded.tokens;
        let segment = |segment: u32| if self.segments { segment } else { 0 };
        Text {
            ids: tokens.iter().map(|token| token.id).collect(),
            types: tokens.iter().map(|token| segment(token.segment)).collect(),
            wanted: None,
        }
    }
}

/// A text that would have nothing left.
pub(crate) fn too_short(short: TooShort, limit: usize) -> ServeError {
    ServeError::Malformed(format!(
        "the texts have {} tokens more than the {limit} that fit, and the one to be cut has only {}; shorten the other",
        short.surplus, short.len
    ))
}

/// A text by its characters.
pub(crate) struct Chars<'a> {
    text: &'a str,
    /// Where each begins, and the end.
    starts: Vec<usize>,
}

impl<'a> Chars<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let starts = text.char_indices().map(|(at, _)| at);
        Self {
            text,
            starts: starts.chain([text.len()]).collect(),
        }
    }

    /// The part between two characters, as far as it is there.
    pub(crate) fn slice(&self, (start, end): (usize, usize)) -> &'a str {
        let last = self.starts.len() - 1;
        let at = |char: usize| self.starts[char.min(last)];
        &self.text[at(start)..at(end).max(at(start))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_in_characters_and_end_with_the_text() {
        let chars = Chars::of("aé🕯b");
        assert_eq!(chars.slice((1, 3)), "é🕯");
        assert_eq!(chars.slice((3, 9)), "b");
        assert_eq!((chars.slice((2, 1)), chars.slice((9, 12))), ("", ""));
        assert_eq!(Chars::of("").slice((0, 1)), "");
    }
}
