//! A tokenizer from a vocabulary at hand, which is how GGUF files keep one: a list of tokens with their kinds, and
//! merges or scores. The names of the keys are left to whoever reads the file.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
};

use crate::error::TextError;
use crate::files::sentence_piece::{self, Scores};
use crate::files::{llama, pre_tokenizers};
use crate::guard::guarded;

/// A vocabulary and how it is used. Ids are places in `tokens`.
pub struct Vocabulary<'a> {
    /// The file it is from, for messages.
    pub path: &'a Path,
    /// The kind of tokenizer.
    pub model: VocabularyModel<'a>,
    /// All tokens.
    pub tokens: Vec<&'a str>,
    /// Their kinds, as many as tokens.
    pub kinds: Vec<TokenKind>,
    /// The token in front of a text, if `add_bos` wants one.
    pub bos: Option<u32>,
    /// The token behind a text, if `add_eos` wants one.
    pub eos: Option<u32>,
    /// Whether a text begins with `bos`; `None`: as is usual for the kind.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos`.
    pub add_eos: bool,
}

/// The two kinds of tokenizers that decoders have.
pub enum VocabularyModel<'a> {
    /// BPE over bytes in GPT-2's spelling.
    ByteLevel {
        /// The name of the way to cut words.
        pre: &'a str,
        /// Pairs of tokens with a space between them, the first to be joined first.
        merges: Vec<&'a str>,
    },
    /// BPE of SentencePiece: the pair with the best score is joined first.
    SentencePiece {
        /// As many as tokens.
        scores: Vec<f64>,
        /// The token for what cannot be said otherwise.
        unknown: u32,
        /// Whether a space is put in front of a text, also behind special tokens.
        prefix: bool,
    },
}

/// What a token is for, as SentencePiece tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// What cannot be said otherwise; written in a text it is found like a control token.
    Unknown,
    /// Found before a text is cut, and left out of answers.
    Control,
    /// Found before a text is cut.
    UserDefined,
    /// A place without a token.
    Unused,
    /// A byte.
    Byte,
}

impl TokenKind {
    /// The kind of that number, from 1 to 6.
    pub fn of(number: f64) -> Option<Self> {
        let kinds = [
            (1.0, Self::Normal),
            (2.0, Self::Unknown),
            (3.0, Self::Control),
            (4.0, Self::UserDefined),
            (5.0, Self::Unused),
            (6.0, Self::Byte),
        ];
        let found = kinds.iter().find(|(known, _)| *known == number);
        found.map(|(_, kind)| *kind)
    }
}

/// What a kind of tokenizer makes of its vocabulary.
struct Parts {
    model: ModelWrapper,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: DecoderWrapper,
    /// Whether a text begins with a token where the file does not say.
    begins: bool,
}

impl Vocabulary<'_> {
    /// Builds the tokenizer.
    pub(crate) fn build(&self) -> Result<Tokenizer, TextError> {
        self.check()?;
        let parts = match &self.model {
            VocabularyModel::ByteLevel { pre, merges } => self.byte_level(pre, merges),
            VocabularyModel::SentencePiece {
                scores,
                unknown,
                prefix,
            } => self.sentence_piece(scores, *unknown, *prefix),
        }?;
        let mut inner = Tokenizer::new(parts.model);
        inner.with_pre_tokenizer(parts.pre_tokenizer);
        inner.with_decoder(Some(parts.decoder));
        guarded(|| {
            inner.with_normalizer(parts.normalizer)?;
            inner.add_tokens(self.added())
        })
        .map_err(|cause| self.damaged(cause))?;
        if let Some(frame) = self.frame(parts.begins)? {
            inner.with_post_processor(Some(frame));
        }
        Ok(inner)
    }

    /// Lists of equal length, in which no token stands twice.
    fn check(&self) -> Result<(), TextError> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(self.damaged("its vocabulary is empty"));
        }
        if self.kinds.len() != count {
            return Err(self.damaged(format!(
                "it has {count} tokens, but {} types of tokens",
                self.kinds.len()
            )));
        }
        let mut seen = HashMap::with_capacity(count);
        for (id, token) in self.used() {
            if let Some(before) = seen.insert(token, id) {
                return Err(
                    self.damaged(format!("its tokens {before} and {id} are both {token:?}"))
                );
            }
        }
        Ok(())
    }

    /// Ids and tokens, without the places that have none.
    fn used(&self) -> impl Iterator<Item = (u32, &str)> {
        let all = self.tokens.iter().zip(&self.kinds).zip(0..);
        all.filter(|((_, kind), _)| **kind != TokenKind::Unused)
            .map(|((token, _), id)| (id, *token))
    }

    fn vocab(&self) -> Vocab {
        let owned = self.used().map(|(id, token)| (token.to_owned(), id));
        owned.collect()
    }

    fn byte_level(&self, pre: &str, merges: &[&str]) -> Result<Parts, TextError> {
        let Some(pre) = pre_tokenizers::find(pre) else {
            return Err(self.damaged_by(
                format!("its pre-tokenizer {pre:?} is not supported"),
                pre_tokenizers::supported(),
            ));
        };
        let split = |(at, merge): (usize, &&str)| {
            // A token of a space would be spelled otherwise, so that the first space is between the two.
            let (left, right) = merge.split_once(' ').ok_or_else(|| {
                self.damaged(format!(
                    "its merge {at} is {merge:?}, but must be two tokens"
                ))
            })?;
            Ok((left.to_owned(), right.to_owned()))
        };
        let merges: Merges = merges
            .iter()
            .enumerate()
            .map(split)
            .collect::<Result<_, _>>()?;
        let vocab = self.vocab();
        let model = guarded(|| {
            BPE::builder()
                .vocab_and_merges(vocab, merges)
                .ignore_merges(pre.ignore_merges)
                .build()
        });
        Ok(Parts {
            model: model.map_err(|cause| self.damaged(cause))?.into(),
            normalizer: pre.normalizer(),
            pre_tokenizer: Some(pre.pre_tokenizer().map_err(|cause| self.damaged(cause))?),
            decoder: ByteLevel::default().into(),
            begins: pre.begins,
        })
    }

    fn sentence_piece(
        &self,
        scores: &[f64],
        unknown: u32,
        prefix: bool,
    ) -> Result<Parts, TextError> {
        if scores.len() != self.tokens.len() {
            return Err(self.damaged(format!(
                "it has {} tokens, but {} scores",
                self.tokens.len(),
                scores.len()
            )));
        }
        let unknown = self.token(unknown, "unknown token")?;
        let vocab = self.vocab();
        let scored: Scores = self
            .used()
            .map(|(id, token)| (token.to_owned(), scores[id as usize]))
            .collect();
        let ids = vocab
            .iter()
            .map(|(token, id)| (token.as_str(), *id as usize));
        let merges = sentence_piece::merges(&scored, ids.collect());
        let broken = |cause: String| self.damaged(cause);
        let steps = llama::steps(prefix).map_err(broken)?;
        let model = guarded(|| {
            BPE::builder()
                .vocab_and_merges(vocab, merges)
                .unk_token(unknown.to_owned())
                .fuse_unk(true)
                .byte_fallback(true)
                .build()
        });
        Ok(Parts {
            model: model.map_err(broken)?.into(),
            normalizer: Some(steps.normalizer),
            pre_tokenizer: None,
            decoder: steps.decoder,
            begins: true,
        })
    }

    /// Tokens that are found before a text is cut.
    fn added(&self) -> Vec<AddedToken> {
        let tokens = self.tokens.iter().zip(&self.kinds);
        let added = tokens.filter_map(|(token, kind)| match kind {
            TokenKind::Control | TokenKind::Unknown => Some(AddedToken::from(*token, true)),
            TokenKind::UserDefined => Some(AddedToken::from(*token, false)),
            _ => None,
        });
        added
            .filter(|token| !token.content.is_empty())
            .map(|token| token.normalized(false))
            .collect()
    }

    /// The tokens around a text.
    fn frame(&self, begins: bool) -> Result<Option<TemplateProcessing>, TextError> {
        let mut tokens = Vec::new();
        let mut single = Vec::new();
        if self.add_bos.unwrap_or(begins) {
            let bos = self
                .bos
                .ok_or_else(|| self.damaged("texts begin with a token, but it names none"))?;
            let token = self.token(bos, "first token")?;
            single.push(token.to_owned());
            tokens.push((token.to_owned(), bos));
        }
        single.push("$A".to_owned());
        if self.add_eos {
            let eos = self
                .eos
                .ok_or_else(|| self.damaged("texts end with a token, but it names none"))?;
            let token = self.token(eos, "last token")?;
            single.push(token.to_owned());
            tokens.push((token.to_owned(), eos));
        }
        if tokens.is_empty() {
            return Ok(None);
        }
        let built = guarded(|| {
            let template = TemplateProcessing::builder()
                .try_single(single)?
                .special_tokens(tokens)
                .build()?;
            Ok(template)
        });
        built.map(Some).map_err(|cause| self.damaged(cause))
    }

    fn token(&self, id: u32, what: &str) -> Result<&str, TextError> {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        match (self.tokens.get(place), self.kinds.get(place)) {
            (Some(token), Some(kind)) if *kind != TokenKind::Unused => Ok(token),
            _ => Err(self.damaged(format!(
                "its {what} has the id {id}, but it has no such one among its {} tokens",
                self.tokens.len()
            ))),
        }
    }

    fn damaged(&self, cause: impl Into<String>) -> TextError {
        TextError::Damaged {
            path: self.path.to_owned(),
            cause: cause.into(),
        }
    }

    fn damaged_by(&self, cause: String, supported: String) -> TextError {
        TextError::Vocabulary {
            path: self.path.to_owned(),
            cause,
            supported,
        }
    }
}
