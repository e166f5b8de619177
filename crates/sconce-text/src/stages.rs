//! The decoders of `tokenizer.json`, one token at a time.
//!
//! A decoder of the `tokenizers` crate maps all tokens of a text at once. Here each becomes a
//! stage that keeps the little it must know of its neighbours (is this the first token, is this
//! run of byte tokens UTF-8, may this space be stripped) and passes on what later tokens cannot
//! change. A decoder that has no such form here holds everything until the end, so the text is
//! right but does not stream. Pieces of the wrong text are never given out.

use std::sync::Arc;

use tokenizers::normalizers::Replace;
use tokenizers::{Decoder, DecoderWrapper};

use crate::bytes::{spell, take_characters};

/// One step from tokens to text, with its memory. Cloned for each stream while still fresh.
#[derive(Clone)]
pub(crate) enum Stage {
    /// No decoder: tokens joined by spaces.
    Spaced { first: bool },
    /// Maps every token by itself.
    Each(Arc<DecoderWrapper>),
    /// Maps the first token differently from all others.
    FirstDiffers {
        decoder: Arc<DecoderWrapper>,
        first: bool,
    },
    /// Maps the last token differently from all others.
    LastDiffers {
        decoder: Arc<DecoderWrapper>,
        held: Option<String>,
    },
    /// Drops tokens equal to the one before.
    Distinct {
        decoder: Arc<DecoderWrapper>,
        last: Option<String>,
    },
    /// Tokens `<0x00>` to `<0xFF>`: a run of them is text if all of it is UTF-8, else one U+FFFD
    /// for each byte.
    ByteFallback { run: Vec<u8> },
    /// GPT-2's bytes, joined.
    ByteLevel { pending: Vec<u8> },
    /// Cuts characters from both ends of each token.
    StripEach(Strip),
    /// Cuts characters from both ends of the text.
    StripText { strip: Strip, held: usize },
    /// Replaces a phrase in the text.
    Replace {
        from: &'static str,
        to: &'static str,
        held: String,
    },
    /// Anything else: waits for the end.
    Hold {
        decoders: Arc<[DecoderWrapper]>,
        tokens: Vec<String>,
    },
}

/// How much is cut from the ends of a token or text.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    content: char,
    start: usize,
    stop: usize,
}

/// The stages of a tokenizer's decoder.
pub(crate) fn stages(decoder: Option<&DecoderWrapper>) -> Vec<Stage> {
    let Some(decoder) = decoder else {
        return vec![Stage::Spaced { first: true }];
    };
    let decoders = flat(decoder);
    let mut stages = Vec::new();
    let mut joined = false; // Later stages see one text instead of tokens.
    for (at, decoder) in decoders.iter().enumerate() {
        match (decoder, joined) {
            (DecoderWrapper::Fuse(_), _) => joined = true,
            (DecoderWrapper::Strip(strip), joined) => stages.push(strip_stage(strip, joined)),
            (DecoderWrapper::ByteLevel(_), false) => {
                stages.push(Stage::ByteLevel {
                    pending: Vec::new(),
                });
                joined = true;
            }
            (DecoderWrapper::Replace(replace), true) if *replace == without_invalid() => {
                stages.push(Stage::Replace {
                    from: INVALID,
                    to: "",
                    held: String::new(),
                });
            }
            (_, false) => stages.push(token_stage(decoder)),
            (_, true) => {
                let decoders = decoders[at..].into();
                stages.push(Stage::Hold {
                    decoders,
                    tokens: Vec::new(),
                });
                break;
            }
        }
    }
    stages
}

/// What stands in a text for bytes that are none.
const INVALID: &str = "\u{FFFD}";

/// Drops bytes that are no text, behind a decoder that says where they are. A text that spells U+FFFD loses it too.
pub(crate) fn without_invalid() -> Replace {
    Replace::new(INVALID, "").expect("a plain pattern")
}

/// The stages of transformers' `clean_up_tokenization`.
pub(crate) fn clean_up_stages() -> impl Iterator<Item = Stage> {
    CLEAN_UP.iter().map(|&(from, to)| Stage::Replace {
        from,
        to,
        held: String::new(),
    })
}

/// What transformers' `clean_up_tokenization` replaces, in this order.
pub(crate) const CLEAN_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Sends a token through the stages; what comes out at the end is appended to `text`.
pub(crate) fn feed(stages: &mut [Stage], token: String, text: &mut String) {
    match stages.split_first_mut() {
        None => text.push_str(&token),
        Some((stage, rest)) => stage.push(token, &mut |token| feed(rest, token, text)),
    }
}

/// Sends what the stages hold back to the end; they are not used again.
pub(crate) fn flush(stages: &mut [Stage], text: &mut String) {
    let mut rest = stages;
    while let Some((stage, after)) = rest.split_first_mut() {
        stage.finish(&mut |token| feed(after, token, text));
        rest = after;
    }
}

impl Stage {
    fn push(&mut self, token: String, out: &mut dyn FnMut(String)) {
        match self {
            Self::Spaced { first } => {
                out(if std::mem::take(first) {
                    token
                } else {
                    format!(" {token}")
                });
            }
            Self::Each(decoder) => decode(decoder, vec![token]).into_iter().for_each(out),
            Self::FirstDiffers { decoder, first } => {
                let before = (!std::mem::take(first)).then(String::new);
                let tokens = before.into_iter().chain([token]).collect();
                decode(decoder, tokens).pop().into_iter().for_each(out);
            }
            Self::LastDiffers { decoder, held } => {
                if let Some(before) = held.replace(token) {
                    decode(decoder, vec![before, String::new()])
                        .into_iter()
                        .take(1)
                        .for_each(out);
                }
            }
            Self::Distinct { decoder, last } => {
                if last.as_ref() != Some(&token) {
                    *last = Some(token.clone());
                    decode(decoder, vec![token]).into_iter().for_each(out);
                }
            }
            Self::ByteFallback { run } => match fallback_byte(&token) {
                Some(byte) => run.push(byte),
                None => {
                    end_run(run, out);
                    out(token);
                }
            },
            Self::ByteLevel { pending } => {
                spell(&token, pending);
                out(take_characters(pending));
            }
            Self::StripEach(strip) => out(strip.both(&token).to_owned()),
            Self::StripText { strip, held } => out(strip.next(&token, held)),
            Self::Replace { from, to, held } => out(replace_in(held, &token, from, to)),
            Self::Hold { tokens, .. } => tokens.push(token),
        }
    }

    fn finish(&mut self, out: &mut dyn FnMut(String)) {
        match self {
            Self::LastDiffers { decoder, held } => {
                let last = held.take().map(|token| decode(decoder, vec![token]));
                last.into_iter().flatten().for_each(out);
            }
            Self::ByteFallback { run } => end_run(run, out),
            Self::ByteLevel { pending } => {
                out(String::from_utf8_lossy(&std::mem::take(pending)).into_owned());
            }
            Self::Replace { held, .. } => out(std::mem::take(held)),
            Self::Hold { decoders, tokens } => {
                // Joined before: the decoders see one token, as they would without stages.
                let mut tokens = vec![std::mem::take(tokens).concat()];
                for decoder in decoders.iter() {
                    tokens = decode(decoder, tokens);
                }
                tokens.into_iter().for_each(out);
            }
            Self::Spaced { .. }
            | Self::Each(_)
            | Self::FirstDiffers { .. }
            | Self::Distinct { .. }
            | Self::StripEach(_)
            | Self::StripText { .. } => {}
        }
    }
}

impl Strip {
    fn both(self, token: &str) -> &str {
        let rest = self.start(token, self.start).0;
        let mut end = rest;
        for _ in 0..self.stop {
            end = end.strip_suffix(self.content).unwrap_or(end);
        }
        end
    }

    /// The text without up to `most` leading characters, and how many were cut.
    fn start(self, text: &str, most: usize) -> (&str, usize) {
        let mut rest = text;
        for cut in 0..most {
            match rest.strip_prefix(self.content) {
                Some(shorter) => rest = shorter,
                None => return (rest, cut),
            }
        }
        (rest, most)
    }

    /// The next part of a text of which `held` characters at the end wait to be stripped.
    fn next(&mut self, part: &str, held: &mut usize) -> String {
        let (rest, cut) = self.start(part, self.start);
        self.start = if rest.is_empty() { self.start - cut } else { 0 };
        let body = rest.trim_end_matches(self.content);
        let mut text = String::new();
        if !body.is_empty() {
            text.extend(std::iter::repeat_n(self.content, std::mem::take(held)));
            text.push_str(body);
        }
        *held += (rest.len() - body.len()) / self.content.len_utf8();
        let released = held.saturating_sub(self.stop);
        *held -= released;
        text.extend(std::iter::repeat_n(self.content, released));
        text
    }
}

fn flat(decoder: &DecoderWrapper) -> Vec<DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().flat_map(flat).collect()
        }
        other => vec![other.clone()],
    }
}

fn strip_stage(strip: &tokenizers::decoders::strip::Strip, joined: bool) -> Stage {
    let strip = Strip {
        content: strip.content,
        start: strip.start,
        stop: strip.stop,
    };
    if joined {
        Stage::StripText { strip, held: 0 }
    } else {
        Stage::StripEach(strip)
    }
}

fn token_stage(decoder: &DecoderWrapper) -> Stage {
    let shared = Arc::new(decoder.clone());
    match decoder {
        DecoderWrapper::Metaspace(_) | DecoderWrapper::WordPiece(_) => Stage::FirstDiffers {
            decoder: shared,
            first: true,
        },
        DecoderWrapper::BPE(_) => Stage::LastDiffers {
            decoder: shared,
            held: None,
        },
        DecoderWrapper::CTC(_) => Stage::Distinct {
            decoder: shared,
            last: None,
        },
        DecoderWrapper::ByteFallback(_) => Stage::ByteFallback { run: Vec::new() },
        _ => Stage::Each(shared),
    }
}

/// One step of the crate's own decoder. The decoders used here do not fail on their own tokens;
/// should one do so, the stream loses these tokens' text and goes on.
fn decode(decoder: &DecoderWrapper, tokens: Vec<String>) -> Vec<String> {
    decoder.decode_chain(tokens).unwrap_or_default()
}

pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

fn end_run(run: &mut Vec<u8>, out: &mut dyn FnMut(String)) {
    if run.is_empty() {
        return;
    }
    match String::from_utf8(std::mem::take(run)) {
        Ok(text) => out(text),
        Err(error) => (0..error.as_bytes().len()).for_each(|_| out("\u{FFFD}".into())),
    }
}

/// Replaces in `held + part`; the end that may begin another `from` is held.
fn replace_in(held: &mut String, part: &str, from: &str, to: &str) -> String {
    held.push_str(part);
    let mut text = String::new();
    let mut rest = held.as_str();
    while let Some((before, after)) = rest.split_once(from) {
        text.push_str(before);
        text.push_str(to);
        rest = after;
    }
    let keep = longest_beginning(rest, [from]);
    let (now, later) = rest.split_at(rest.len() - keep);
    text.push_str(now);
    *held = later.to_owned();
    text
}

/// Bytes of the longest end of `text` with which one of the phrases begins but does not end.
pub(crate) fn longest_beginning<'a>(
    text: &str,
    phrases: impl IntoIterator<Item = &'a str>,
) -> usize {
    let longest = |phrase: &str| {
        let lengths = (1..phrase.len().min(text.len() + 1)).rev();
        lengths
            .filter(|&length| phrase.is_char_boundary(length))
            .find(|&length| text.ends_with(&phrase[..length]))
    };
    phrases.into_iter().filter_map(longest).max().unwrap_or(0)
}
