//! Tokenizers that cut texts with one vocabulary and number the pieces by another, as Marian's and M2M100's do: a
//! SentencePiece model cuts, and the pieces are looked up by their spelling.

use tokenizers::{AddedToken, Tokenizer};

use crate::guard::guarded;

/// What cuts texts for another tokenizer.
pub(crate) struct Source {
    cutter: Tokenizer,
    /// The id of pieces that the other vocabulary lacks.
    unknown: Option<u32>,
    /// The ids that go before and behind a text.
    ends: [Vec<u32>; 2],
}

/// A piece of a text by the other vocabulary.
pub(crate) struct Piece {
    pub(crate) id: u32,
    /// Its first character in the text, and the one behind its last.
    pub(crate) chars: (usize, usize),
    pub(crate) word: Option<u32>,
}

impl Source {
    /// For a tokenizer that has all its special tokens, which are found in texts before these are cut.
    pub(crate) fn new(
        mut cutter: Tokenizer,
        inner: &Tokenizer,
        unknown: Option<&str>,
    ) -> Result<Self, String> {
        let special: Vec<AddedToken> = inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .values()
            .map(|token| AddedToken::from(token.content.clone(), true).normalized(false))
            .collect();
        guarded(|| cutter.add_tokens(special))?;
        // Any text without pieces shows what goes around one.
        let around = guarded(|| inner.encode_fast("", true))?;
        let ids = around.get_ids();
        let first = ids.len().saturating_sub(1);
        Ok(Self {
            cutter,
            unknown: unknown.and_then(|token| inner.token_to_id(token)),
            ends: [ids[..first].to_vec(), ids[first..].to_vec()],
        })
    }

    /// The ids that go before and behind a text.
    pub(crate) fn ends(&self) -> [&[u32]; 2] {
        [&self.ends[0], &self.ends[1]]
    }

    /// The pieces of a text.
    pub(crate) fn cut(&self, text: &str, inner: &Tokenizer) -> Result<Vec<Piece>, String> {
        let found = guarded(|| self.cutter.encode_char_offsets(text, false))?;
        let piece = |at: usize| {
            let id = inner
                .token_to_id(&found.get_tokens()[at])
                .or(self.unknown)?;
            Some(Piece {
                id,
                chars: found.get_offsets()[at],
                word: found.get_word_ids()[at],
            })
        };
        Ok((0..found.len()).filter_map(piece).collect())
    }
}
