//! The bytes that tokens stand for in the middle of a text.

use llguidance::toktrie::TokTrie;

use crate::bytes::spell;
use crate::stages::{Stage, fallback_byte, feed, flush};
use crate::tokenizer::Tokenizer;

/// A token that stands before the one in question, so that this one does not begin a text.
const BEFORE: &str = "a";

/// Those of all ids below `vocab`; ids without a token have none, and special tokens begin with a byte that no text has.
pub(super) fn all(tokenizer: &Tokenizer, vocab: usize) -> Vec<Vec<u8>> {
    let ids = 0..u32::try_from(vocab).unwrap_or(u32::MAX);
    ids.map(|id| of(tokenizer, id)).collect()
}

fn of(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let Some(token) = tokenizer.token(id, false) else {
        return Vec::new();
    };
    if tokenizer.is_special(id) {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], token.as_bytes()].concat();
    }
    let stages = tokenizer.stages();
    if stages
        .iter()
        .any(|stage| matches!(stage, Stage::ByteLevel { .. }))
    {
        let mut bytes = Vec::new();
        spell(&token, &mut bytes);
        return bytes;
    }
    let falls_back = |stage: &Stage| matches!(stage, Stage::ByteFallback { .. });
    if let Some(byte) = fallback_byte(&token).filter(|_| stages.iter().any(falls_back)) {
        return vec![byte];
    }
    let mut stages = stages.to_vec();
    let (mut text, mut before) = (String::new(), String::new());
    feed(&mut stages.clone(), BEFORE.into(), &mut before);
    feed(&mut stages, BEFORE.into(), &mut text);
    feed(&mut stages, token, &mut text);
    flush(&mut stages, &mut text);
    text.strip_prefix(before.as_str()).unwrap_or(&text).into()
}
