//! A text or a pair of texts as tokens, with where each came from; cut to a length, or into windows, as transformers'
//! fast tokenizers do.
//!
//! Special tokens are those that the tokenizer adds, not those that a text spells. What is cut are always tokens of
//! the texts, so that the special ones stay.

use crate::error::TextError;
use crate::guard::guarded;
use crate::source::Source;
use crate::tokenizer::Tokenizer;

/// Tokens of a text or a pair of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// All of them, special ones included.
    pub tokens: Vec<Encoding>,
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Its id.
    pub id: u32,
    /// Its segment.
    pub segment: u32,
    /// Which of the texts it belongs to; `None`: the tokenizer added it.
    pub text: Option<usize>,
    /// Its first character in that text, and the one behind its last.
    pub chars: (usize, usize),
    /// Its word in that text, by the tokenizer's own idea of words.
    pub word: Option<u32>,
}

/// Which text gives tokens up when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The longer one, until both are equally long (`longest_first`).
    Longest,
    /// The first or the second.
    Text(usize),
}

/// Why a text cannot be cut to a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// Tokens that would have to go.
    pub surplus: usize,
    /// Tokens of the text that gives them up.
    pub len: usize,
}

impl Tokenizer {
    /// The tokens of a text, or of a pair, with the special tokens that the post-processor adds.
    pub fn encode_with_places(
        &self,
        text: &str,
        pair: Option<&str>,
        add_special: bool,
    ) -> Result<Encoded, TextError> {
        if let Some(source) = self.source() {
            return self.looked_up(source, text, pair, add_special);
        }
        let input: tokenizers::EncodeInput<'_> = match pair {
            None => text.into(),
            Some(pair) => (text, pair).into(),
        };
        let found = guarded(|| self.inner().encode_char_offsets(input, add_special));
        let found = found.map_err(|cause| TextError::Encode {
            bytes: text.len() + pair.map_or(0, str::len),
            cause,
        })?;
        let texts = found.get_sequence_ids();
        let token = |at: usize| Encoding {
            id: found.get_ids()[at],
            segment: found.get_type_ids()[at],
            text: texts[at].filter(|_| found.get_special_tokens_mask()[at] == 0),
            chars: found.get_offsets()[at],
            word: found.get_word_ids()[at],
        };
        Ok(Encoded {
            tokens: (0..found.len()).map(token).collect(),
        })
    }
}

impl Tokenizer {
    /// The same where one vocabulary cuts and another numbers.
    fn looked_up(
        &self,
        source: &Source,
        text: &str,
        pair: Option<&str>,
        add_special: bool,
    ) -> Result<Encoded, TextError> {
        let end = |id: u32| Encoding {
            id,
            segment: 0,
            text: None,
            chars: (0, 0),
            word: None,
        };
        let [before, behind] = source.ends().map(|ids| if add_special { ids } else { &[] });
        let mut tokens: Vec<Encoding> = before.iter().copied().map(end).collect();
        for (index, part) in [Some(text), pair].into_iter().flatten().enumerate() {
            let cut = source.cut(part, self.inner());
            let cut = cut.map_err(|cause| TextError::Encode {
                bytes: part.len(),
                cause,
            })?;
            tokens.extend(cut.into_iter().map(|piece| Encoding {
                id: piece.id,
                segment: 0,
                text: Some(index),
                chars: piece.chars,
                word: piece.word,
            }));
        }
        tokens.extend(behind.iter().copied().map(end));
        Ok(Encoded { tokens })
    }
}

impl Encoded {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens of one of the texts.
    pub fn len_of(&self, text: usize) -> usize {
        let of = |token: &&Encoding| token.text == Some(text);
        self.tokens.iter().filter(of).count()
    }

    /// Cuts it to at most `limit` tokens, from the ends of the texts.
    ///
    /// # Errors
    /// When the text that gives tokens up would have none left.
    pub fn cut(&mut self, limit: usize, cut: Cut) -> Result<(), TooShort> {
        let Some(surplus) = self.len().checked_sub(limit).filter(|over| *over > 0) else {
            return Ok(());
        };
        let lens = [self.len_of(0), self.len_of(1)];
        let special = self.len() - lens[0] - lens[1];
        let keep = match cut {
            Cut::Longest if lens[1] == 0 => [lens[0].saturating_sub(surplus), 0],
            Cut::Longest => longest_first(lens, limit.saturating_sub(special)),
            Cut::Text(which) => {
                let len = lens[which];
                if len <= surplus {
                    return Err(TooShort { surplus, len });
                }
                let mut keep = lens;
                keep[which] -= surplus;
                keep
            }
        };
        if keep[0] + keep[1] + special > limit {
            let len = lens[0];
            return Err(TooShort { surplus, len });
        }
        self.keep(|text, at| at < keep[text]);
        Ok(())
    }

    /// Windows of at most `limit` tokens over one of the texts, which have `stride` of its tokens in common; the other
    /// text and the special tokens are in each.
    ///
    /// # Errors
    /// When a window would have no more than `stride` tokens of the text.
    pub fn windows(self, limit: usize, stride: usize, over: usize) -> Result<Vec<Self>, TooShort> {
        let surplus = self.len().saturating_sub(limit);
        if surplus == 0 {
            return Ok(vec![self]);
        }
        let len = self.len_of(over);
        let Some(room) = len.checked_sub(surplus).filter(|room| *room > stride) else {
            return Err(TooShort { surplus, len });
        };
        // The text is in one piece: what stands before it and behind it is in every window.
        let is_of = |token: &Encoding| token.text == Some(over);
        let from = self.tokens.iter().position(is_of).unwrap_or(0);
        let (before, rest) = self.tokens.split_at(from);
        let (text, behind) = rest.split_at(len);
        let mut windows = Vec::new();
        for start in (0..len).step_by(room - stride) {
            let part = &text[start..len.min(start + room)];
            let tokens = [before, part, behind].concat();
            windows.push(Self { tokens });
            if start + room >= len {
                break;
            }
        }
        Ok(windows)
    }

    /// The characters of the word that a token belongs to, as far as it is here; else those of the token.
    pub fn word_chars(&self, at: usize) -> (usize, usize) {
        let token = &self.tokens[at];
        let same = |other: &&Encoding| other.text == token.text && other.word == token.word;
        match token.word {
            None => token.chars,
            Some(_) => {
                let mut word = self.tokens.iter().filter(same);
                let first = word.next().unwrap_or(token);
                (first.chars.0, word.next_back().unwrap_or(first).chars.1)
            }
        }
    }

    /// Keeps special tokens, and those of which `wanted` says so by text and place in it.
    fn keep(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        let mut seen = [0, 0];
        self.tokens.retain(|token| {
            let Some(text) = token.text else {
                return true;
            };
            seen[text] += 1;
            wanted(text, seen[text] - 1)
        });
    }
}

/// The lengths of two texts that `room` tokens hold, as the tokenizers crate shares it out.
fn longest_first([first, second]: [usize; 2], room: usize) -> [usize; 2] {
    let (mut short, mut long) = (first.min(second), first.max(second));
    long = if short > room {
        short
    } else {
        short.max(room - short).min(long)
    };
    if short + long > room {
        short = room / 2;
        long = short + room % 2;
    }
    if first > second {
        [long, short]
    } else {
        [short, long]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[CLS] a… [SEP] b… [SEP]`, each token a word of two characters.
    fn pair(first: usize, second: usize) -> Encoded {
        let special = Encoding {
            id: 1,
            segment: 0,
            text: None,
            chars: (0, 0),
            word: None,
        };
        let text = |text: usize, len: usize| {
            (0..len).map(move |at| Encoding {
                id: 10 + at as u32,
                segment: text as u32,
                text: Some(text),
                chars: (3 * at, 3 * at + 2),
                word: Some(at as u32),
            })
        };
        let mut tokens = vec![special];
        tokens.extend(text(0, first));
        tokens.push(special);
        if second > 0 {
            tokens.extend(text(1, second));
            tokens.push(special);
        }
        Encoded { tokens }
    }

    fn cut(first: usize, second: usize, limit: usize, cut: Cut) -> Result<[usize; 2], TooShort> {
        let mut encoded = pair(first, second);
        encoded.cut(limit, cut)?;
        Ok([encoded.len_of(0), encoded.len_of(1)])
    }

    #[test]
    fn the_longer_text_gives_first_then_both() {
        assert_eq!(cut(5, 0, 9, Cut::Longest), Ok([5, 0]));
        assert_eq!(cut(9, 0, 6, Cut::Longest), Ok([4, 0]));
        assert_eq!(cut(3, 9, 11, Cut::Longest), Ok([3, 5]));
        assert_eq!(cut(9, 3, 11, Cut::Longest), Ok([5, 3]));
        assert_eq!(cut(9, 8, 10, Cut::Longest), Ok([4, 3]));
        assert_eq!(cut(8, 9, 10, Cut::Longest), Ok([3, 4]));
        assert_eq!(cut(9, 9, 2, Cut::Longest).map_err(|e| e.surplus), Err(19));
    }

    #[test]
    fn a_named_text_gives_all_or_nothing() {
        assert_eq!(cut(9, 4, 12, Cut::Text(0)), Ok([5, 4]));
        assert_eq!(cut(9, 4, 14, Cut::Text(1)), Ok([9, 2]));
        assert_eq!(
            cut(9, 4, 12, Cut::Text(1)),
            Err(TooShort { surplus: 4, len: 4 })
        );
    }

    #[test]
    fn windows_share_their_stride_and_end_with_the_text() {
        let windows = pair(2, 10).windows(9, 1, 1).unwrap();
        let parts: Vec<Vec<u32>> = windows
            .iter()
            .map(|window| {
                assert_eq!(window.len_of(0), 2);
                let of_second = window.tokens.iter().filter(|token| token.text == Some(1));
                of_second.map(|token| token.id - 10).collect()
            })
            .collect();
        assert_eq!(parts, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]);
        assert_eq!(pair(2, 3).windows(9, 1, 1).unwrap().len(), 1);
        assert!(pair(2, 10).windows(9, 4, 1).is_err());
        assert!(pair(8, 10).windows(9, 0, 1).is_err());
    }

    #[test]
    fn words_are_whole_as_far_as_they_are_there() {
        let mut encoded = pair(0, 3);
        encoded.tokens[2].word = Some(1);
        assert_eq!(encoded.word_chars(3), (0, 5));
        encoded.tokens.remove(2);
        assert_eq!(encoded.word_chars(2), (3, 5));
    }
}
