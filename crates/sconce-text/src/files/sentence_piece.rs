//! SentencePiece's model files: the pieces, the normaliser's table, and the BPE or Unigram model
//! that is made of them.
//!
//! The messages are the part of `sentencepiece_model.proto` that is used, with its field numbers.
//! As in transformers' conversion, whether a space is put in front and repeated spaces are
//! removed is the class's decision, not the file's (`add_dummy_prefix`,
//! `remove_extra_whitespaces`).

use std::collections::HashMap;

use prost::Message;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::{AddedToken, ModelWrapper};

use crate::error::TextError;
use crate::files::folder::Folder;
use crate::guard::guarded;

const UNIGRAM: i32 = 1;
const BPE_MODEL: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3", default = "1")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
    #[prost(string, optional, tag = "45", default = "<unk>")]
    unk_piece: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

/// Tokens and their scores; the id is the place.
pub(super) type Scores = Vec<(String, f64)>;

/// A model file.
pub(super) struct SentencePiece<'a> {
    folder: &'a Folder<'a>,
    name: &'static str,
    pieces: Vec<Piece>,
    trainer: TrainerSpec,
    charsmap: Vec<u8>,
}

impl<'a> SentencePiece<'a> {
    /// Reads a file whose first `least` pieces the class relies on.
    pub(super) fn read(
        folder: &'a Folder,
        name: &'static str,
        least: usize,
    ) -> Result<Self, TextError> {
        let damaged = |cause: String| folder.damaged(name, cause);
        let model = ModelProto::decode(folder.bytes(name)?.as_slice())
            .map_err(|error| damaged(format!("it is no SentencePiece model: {error}")))?;
        // Both come after the pieces in every file that SentencePiece writes.
        let (Some(trainer), Some(normalizer)) = (model.trainer_spec, model.normalizer_spec) else {
            return Err(damaged("it ends before its trainer's settings".into()));
        };
        let mut seen = HashMap::new();
        for (id, piece) in model.pieces.iter().enumerate() {
            if let Some(before) = seen.insert(piece.piece(), id) {
                let cause = format!("the ids {before} and {id} are both {:?}", piece.piece());
                return Err(damaged(cause));
            }
        }
        if model.pieces.len() <= least {
            let count = model.pieces.len();
            return Err(damaged(format!(
                "it has {count} pieces, too few for a vocabulary"
            )));
        }
        Ok(Self {
            folder,
            name,
            trainer,
            charsmap: normalizer.precompiled_charsmap.unwrap_or_default(),
            pieces: model.pieces,
        })
    }

    /// The file's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The pieces from `first` on.
    pub(super) fn scores(&self, first: usize) -> Scores {
        let pieces = self.pieces[first..].iter();
        let scores = pieces.map(|piece| (piece.piece().to_owned(), f64::from(piece.score())));
        scores.collect()
    }

    /// The piece of an id.
    pub(super) fn piece(&self, id: usize) -> &str {
        self.pieces[id].piece()
    }

    /// The id of unknown pieces.
    pub(super) fn unknown(&self) -> usize {
        usize::try_from(self.trainer.unk_id()).unwrap_or(usize::MAX)
    }

    /// Control pieces, which are special, and user-defined ones, which are so if `special` names
    /// them: neither is ever split.
    pub(super) fn tokens(&self, special: &[&str]) -> Vec<AddedToken> {
        let kept = |piece: &&Piece| matches!(piece.kind(), CONTROL | USER_DEFINED);
        let pieces = self.pieces.iter().filter(kept);
        let token = |piece: &Piece| {
            let special = piece.kind() == CONTROL || special.contains(&piece.piece());
            AddedToken::from(piece.piece(), special).normalized(false)
        };
        pieces.map(token).collect()
    }

    /// The normaliser's table of replacements, if the file has one.
    pub(super) fn charsmap(&self) -> Result<Option<Precompiled>, TextError> {
        if self.charsmap.is_empty() {
            return Ok(None);
        }
        let table = guarded(|| Ok(Precompiled::from(&self.charsmap)?));
        let table = table.map_err(|cause| {
            self.damaged(format!("its table of normalised characters: {cause}"))
        })?;
        Ok(Some(table))
    }

    /// The model that the file was trained for, over `scores`.
    pub(super) fn model(
        &self,
        scores: Scores,
        unknown: usize,
        byte_fallback: bool,
    ) -> Result<ModelWrapper, TextError> {
        match self.trainer.model_type() {
            UNIGRAM => {
                let model = guarded(|| Unigram::from(scores, Some(unknown), byte_fallback));
                Ok(model.map_err(|cause| self.damaged(cause))?.into())
            }
            BPE_MODEL => self.bpe(scores, byte_fallback),
            other => Err(self.damaged(format!(
                "its model_type is {other}, but must be 1 (Unigram) or 2 (BPE)"
            ))),
        }
    }

    fn bpe(&self, scores: Scores, byte_fallback: bool) -> Result<ModelWrapper, TextError> {
        let unknown = self.trainer.unk_piece();
        if !scores.iter().any(|(token, _)| token == unknown) {
            return Err(self.damaged(format!("it has no piece {unknown:?}, its unknown piece")));
        }
        let ids = self.pieces.iter().map(Piece::piece).zip(0..).collect();
        let merges = merges(&scores, ids);
        let tokens = scores.into_iter().map(|(token, _)| token);
        let vocab: Vocab = tokens.zip(0..).collect();
        let model = guarded(|| {
            BPE::builder()
                .vocab_and_merges(vocab, merges)
                .unk_token(unknown.to_owned())
                .fuse_unk(true)
                .byte_fallback(byte_fallback)
                .build()
        });
        Ok(model.map_err(|cause| self.damaged(cause))?.into())
    }

    fn damaged(&self, cause: impl Into<String>) -> TextError {
        self.folder.damaged(self.name, cause)
    }
}

/// All ways to join two pieces to a third, the best score first, as `generate_merges` of
/// transformers orders them. `ids` are those of the pieces that can be joined.
pub(super) fn merges(scores: &Scores, mut ids: HashMap<&str, usize>) -> Merges {
    // Gemma's tab is spelled as a byte in its first files.
    if let (None, Some(&tab)) = (ids.get("\t"), ids.get("<0x09>")) {
        ids.insert("\t", tab);
    }
    let mut merges = Vec::new();
    for (token, score) in scores {
        let cuts = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at));
        let known = cuts
            .filter_map(|(left, right)| Some(((*ids.get(left)?, *ids.get(right)?), (left, right))));
        let mut local: Vec<_> = known.collect();
        local.sort_by_key(|&(ids, _)| ids);
        // Adding zero makes -0 and 0 equal.
        merges.extend(local.into_iter().map(|(_, (left, right))| {
            let lengths = (left.chars().count(), right.chars().count());
            (score + 0.0, lengths, left, right)
        }));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let pair = |(_, _, left, right): (f64, _, &str, &str)| (left.to_owned(), right.to_owned());
    merges.into_iter().map(pair).collect()
}
