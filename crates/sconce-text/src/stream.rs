//! The text of one answer, token by token.

use std::sync::Arc;

use sconce_core::Stop;

use crate::stages::{Stage, feed, flush};
use crate::stop::{Released, StopMatcher};
use crate::tokenizer::Tokenizer;

/// Incremental detokenisation with stop sequences, for one sequence of ids.
///
/// Each token costs the same, however long the text is. The pieces of [`push`](Self::push) and
/// of [`finish`](Self::finish), end to end, are [`text`](Self::text); without a stop they are
/// what [`Tokenizer::decode`] gives for all the ids.
#[derive(Clone)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    stages: Vec<Stage>,
    matcher: StopMatcher,
    skip_special: bool,
    /// The end of the prompt that its stages still hold back and that is no part of the text.
    foreign: String,
    text: String,
    matched: Option<String>,
    finished: bool,
}

/// What one token adds to the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Text that is now certain; empty while a code point is incomplete or a stop sequence may
    /// have begun.
    pub text: String,
    /// Whether a stop sequence has ended the text.
    pub stopped: bool,
}

impl TextStream {
    /// An empty text. `skip_special` leaves special tokens out of it.
    pub fn new(tokenizer: Arc<Tokenizer>, stop: &Stop, skip_special: bool) -> Self {
        Self {
            stages: tokenizer.stages().to_vec(),
            tokenizer,
            matcher: StopMatcher::new(stop),
            skip_special,
            foreign: String::new(),
            text: String::new(),
            matched: None,
            finished: false,
        }
    }

    /// Lets the text continue that of a prompt: a first word keeps its space, a code point that
    /// the prompt began is completed. To be called before the first [`push`](Self::push).
    pub fn after(&mut self, prompt: &[u32]) {
        // No stage looks back further than over the bytes of one code point.
        const CONTEXT: usize = 16;
        self.feed_all(&prompt[prompt.len().saturating_sub(CONTEXT)..]);
        flush(&mut self.stages.clone(), &mut self.foreign);
    }

    /// As [`after`](Self::after), and gives the text of the prompt. Followed by the stream's own
    /// text it is what [`Tokenizer::decode`] gives for the ids of both.
    pub fn after_echo(&mut self, prompt: &[u32]) -> String {
        self.feed_all(prompt)
    }

    fn feed_all(&mut self, ids: &[u32]) -> String {
        let mut text = String::new();
        for &id in ids {
            if let Some(token) = self.tokenizer.token(id, self.skip_special) {
                feed(&mut self.stages, token, &mut text);
            }
        }
        text
    }

    /// Takes the next id. After a stop or [`finish`](Self::finish) nothing more is added.
    pub fn push(&mut self, id: u32) -> Piece {
        let mut text = String::new();
        if self.is_open() {
            text = self.feed_all(&[id]);
            text = self.release(&text);
        }
        Piece {
            text,
            stopped: self.stopped(),
        }
    }

    /// Ends the text and gives what was held back. A code point that was never completed is
    /// U+FFFD. Here too a stop sequence cuts: [`stopped`](Self::stopped) tells.
    pub fn finish(&mut self) -> String {
        if !self.is_open() {
            return String::new();
        }
        let mut text = String::new();
        flush(&mut self.stages, &mut text);
        let mut text = self.release(&text);
        if self.is_open() {
            self.finished = true;
            let held = self.matcher.finish();
            self.text.push_str(&held);
            text.push_str(&held);
        }
        text
    }

    /// The text given out so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a stop sequence has ended the text.
    pub fn stopped(&self) -> bool {
        self.matched.is_some()
    }

    /// The stop sequence that has ended the text.
    pub fn matched(&self) -> Option<&str> {
        self.matched.as_deref()
    }

    fn is_open(&self) -> bool {
        self.matched.is_none() && !self.finished
    }

    fn release(&mut self, text: &str) -> String {
        let mut own = text;
        if !text.is_empty() && !self.foreign.is_empty() {
            own = text.strip_prefix(self.foreign.as_str()).unwrap_or(text);
            self.foreign.clear();
        }
        let Released { text, matched } = self.matcher.push(own);
        self.text.push_str(&text);
        self.matched = matched;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{build, byte_level, llama_decoder, unigram};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    fn words(decoder: Value, config: Value) -> Arc<Tokenizer> {
        let vocab = [
            "[U]", "a", "##b", "c</w>", "<pad>", "|", ".", "'s", "do", "n't", "", " ", "  d ",
        ];
        let vocab: Value = (0..)
            .zip(vocab)
            .map(|(id, word)| (word.to_owned(), json!(id)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let model = json!({"type": "WordLevel", "unk_token": "[U]", "vocab": vocab});
        build(model, decoder, json!({"type": "Whitespace"}), config)
    }

    /// One tokenizer for every shape of decoder.
    static TOKENIZERS: LazyLock<Vec<Arc<Tokenizer>>> = LazyLock::new(|| {
        let clean = json!({"clean_up_tokenization_spaces": true});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        let replace = json!({"type": "Replace", "pattern": {"Regex": "▁+"}, "content": "_"});
        let sequence = |decoders: &[Value]| json!({"type": "Sequence", "decoders": decoders});
        let (fallback, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
        let strip = json!({"type": "Strip", "content": " ", "start": 2, "stop": 2});
        let wordpiece =
            |cleanup: bool| json!({"type": "WordPiece", "prefix": "##", "cleanup": cleanup});
        vec![
            byte_level(),
            unigram(llama_decoder(), json!({})),
            unigram(llama_decoder(), clean.clone()),
            unigram(metaspace("always"), clean.clone()),
            unigram(metaspace("never"), json!({})),
            unigram(
                sequence(&[fallback.clone(), metaspace("first")]),
                clean.clone(),
            ),
            unigram(sequence(&[fallback, fuse.clone(), replace]), json!({})),
            words(Value::Null, clean.clone()),
            words(sequence(&[fuse.clone(), strip]), json!({})),
            words(
                sequence(&[sequence(&[fuse.clone(), fuse.clone()]), fuse]),
                clean.clone(),
            ),
            words(wordpiece(true), json!({})),
            words(wordpiece(false), clean),
            words(json!({"type": "BPEDecoder", "suffix": "</w>"}), json!({})),
            words(
                json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}),
                json!({}),
            ),
        ]
    });

    fn stream(
        tokenizer: &Arc<Tokenizer>,
        stop: &Stop,
        skip: bool,
        ids: &[u32],
    ) -> (String, TextStream) {
        let mut stream = TextStream::new(Arc::clone(tokenizer), stop, skip);
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(id).text);
        }
        text.push_str(&stream.finish());
        (text, stream)
    }

    #[test]
    fn a_code_point_over_several_tokens_comes_whole() {
        let tokenizer = byte_level();
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &Stop::default(), true);
        let ids = tokenizer.encode("a🕯!").unwrap();
        let pieces: Vec<_> = ids.iter().map(|&id| stream.push(id).text).collect();
        assert_eq!(
            pieces,
            ["a", "", "", "🕯", "!"].map(String::from)[..pieces.len()].to_vec()
        );
        assert_eq!((stream.finish(), stream.text()), (String::new(), "a🕯!"));
    }

    #[test]
    fn an_unfinished_code_point_ends_as_the_replacement_character() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode("é🕯").unwrap();
        let (text, stream) = stream(&tokenizer, &Stop::default(), true, &ids[..ids.len() - 1]);
        assert_eq!((text.as_str(), stream.text()), ("é\u{FFFD}", "é\u{FFFD}"));
    }

    #[test]
    fn the_first_words_space_is_cut_and_the_others_stay() {
        let tokenizer = unigram(llama_decoder(), json!({}));
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &Stop::default(), true);
        let ids = tokenizer.encode("the candle").unwrap();
        let pieces: Vec<_> = ids.iter().map(|&id| stream.push(id).text).collect();
        assert_eq!(pieces, ["the", " can", "dle"]);
    }

    #[test]
    fn a_text_that_continues_a_prompt_keeps_its_first_space_and_has_none_of_the_prompt() {
        let tokenizer = unigram(llama_decoder(), json!({}));
        let ids = tokenizer.encode("the candle").unwrap();
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &Stop::default(), true);
        stream.after(&ids[..1]);
        let pieces: Vec<_> = ids[1..].iter().map(|&id| stream.push(id).text).collect();
        assert_eq!(pieces, [" can", "dle"]);

        let tokenizer = byte_level();
        let ids = tokenizer.encode("é").unwrap();
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &Stop::default(), true);
        stream.after(&tokenizer.encode("a ").unwrap());
        let pieces: String = ids.iter().map(|&id| stream.push(id).text).collect();
        assert_eq!(pieces, "é");
    }

    #[test]
    fn a_stop_sequence_across_tokens_ends_the_text() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode("one\n\nEnd of it").unwrap();
        for (keep_in_text, wanted) in [(false, "one"), (true, "one\n\nEnd")] {
            let stop = Stop {
                sequences: vec!["\n\nEnd".into()],
                keep_in_text,
                ..Stop::default()
            };
            let (text, mut stream) = stream(&tokenizer, &stop, true, &ids);
            assert_eq!(
                (text.as_str(), stream.text(), stream.stopped()),
                (wanted, wanted, true)
            );
            assert_eq!(
                stream.push(ids[0]),
                Piece {
                    text: String::new(),
                    stopped: true
                }
            );
        }
    }

    #[test]
    fn a_stop_sequence_in_the_held_back_end_cuts_too() {
        let tokenizer = unigram(llama_decoder(), json!({}));
        let ids: Vec<u32> = (0..tokenizer.vocab_size() as u32)
            .filter(|&id| {
                ["<0x41>", "<0x42>"]
                    .contains(&tokenizer.token(id, true).unwrap_or_default().as_str())
            })
            .collect();
        let stop = Stop {
            sequences: vec!["B".into()],
            ..Stop::default()
        };
        let (text, stream) = stream(&tokenizer, &stop, true, &ids);
        assert_eq!((text.as_str(), stream.stopped()), ("A", true));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn pieces_join_to_the_decoded_whole(
            raw in proptest::collection::vec(any::<u32>(), 0..40),
            skip in any::<bool>(),
        ) {
            for (which, tokenizer) in TOKENIZERS.iter().enumerate() {
                // A few ids beyond the vocabulary too.
                let limit = tokenizer.vocab_size() as u32 + 2;
                let ids: Vec<u32> = raw.iter().map(|id| id % limit).collect();
                // Where the reference's decoder itself fails there is nothing to compare with.
                let Ok(whole) = tokenizer.decode(&ids, skip) else { continue };
                let (text, stream) = stream(tokenizer, &Stop::default(), skip, &ids);
                prop_assert_eq!(&text, &whole, "tokenizer {}, ids {:?}", which, ids);
                prop_assert_eq!(stream.text(), text);
            }
        }

        #[test]
        fn prompt_and_text_join_to_the_decoded_whole(
            raw in proptest::collection::vec(any::<u32>(), 0..40),
            cut in 0..40_usize,
        ) {
            for (which, tokenizer) in TOKENIZERS.iter().enumerate() {
                let limit = tokenizer.vocab_size() as u32 + 2;
                let ids: Vec<u32> = raw.iter().map(|id| id % limit).collect();
                let (prompt, answer) = ids.split_at(cut.min(ids.len()));
                let Ok(whole) = tokenizer.decode(&ids, true) else { continue };
                let mut stream = TextStream::new(Arc::clone(tokenizer), &Stop::default(), true);
                let mut text = stream.after_echo(prompt);
                answer.iter().for_each(|&id| text.push_str(&stream.push(id).text));
                text.push_str(&stream.finish());
                prop_assert_eq!(&text, &whole, "tokenizer {}, ids {:?}", which, ids);
            }
        }

        #[test]
        fn a_stop_cuts_a_prefix_of_the_whole(
            raw in proptest::collection::vec(any::<u32>(), 1..40),
            stops in proptest::collection::vec("[a-f .]{1,3}", 1..3),
        ) {
            let tokenizer = byte_level();
            // Letters, so that stops do appear.
            let ids: Vec<u32> = raw.iter().map(|id| tokenizer.encode(&"abcdef .é"[..1 + (id % 7) as usize]).unwrap()[0]).collect();
            let whole = tokenizer.decode(&ids, true).unwrap();
            let stop = Stop { sequences: stops.clone(), ..Stop::default() };
            let (text, stream) = stream(&tokenizer, &stop, true, &ids);
            prop_assert!(whole.starts_with(&text));
            prop_assert_eq!(stream.stopped(), stops.iter().any(|stop| whole.contains(stop.as_str())));
            prop_assert!(!stops.iter().any(|stop| text.contains(stop.as_str())));
        }
    }
}
