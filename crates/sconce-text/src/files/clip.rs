//! CLIP's BPE: `vocab.json` with `merges.txt`, lower case, words ended by `</w>` instead of begun by a space.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::utils::{Lowercase, Sequence as Normalizers};
use tokenizers::normalizers::{NFC, NormalizerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::byte_level::{FILES, MERGES, VOCAB, merges, vocab};
use crate::files::class::Class;
use crate::files::folder::Folder;
use crate::files::roles::{Form, Role, Roles};
use crate::guard::guarded;

const END: &str = "<|endoftext|>";
const END_OF_WORD: &str = "</w>";

/// `CLIPConverter`'s: contractions, words, single digits, the rest.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub(super) const CLASSES: &[Class] = &[Class {
    names: &["CLIPTokenizer"],
    model_types: &["clip", "clip_text_model"],
    files: FILES,
    roles: &[
        Role::new("bos_token", "<|startoftext|>", Form::Exact),
        Role::new("eos_token", END, Form::Exact),
        Role::new("unk_token", END, Form::Exact),
        Role::new("pad_token", END, Form::Exact),
    ],
    clean_up: false,
    parts,
}];

fn parts(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let reason = "a token, as it goes around every text";
    let begin = roles.need(folder, "bos_token", reason)?;
    let end = roles.need(folder, "eos_token", reason)?;
    let unknown = roles.need(folder, "unk_token", "a token, as texts may lack others")?;
    let text = folder.lines(MERGES)?;
    // The first line tells the version.
    let lines = text.split('\n').enumerate().skip(1);
    let lines = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
    let (vocab, merges) = (vocab(folder)?, merges(folder, lines)?);
    let model = guarded(|| {
        BPE::builder()
            .vocab_and_merges(vocab, merges)
            .end_of_word_suffix(END_OF_WORD.into())
            .unk_token(unknown.into())
            .build()
    });
    let model = model.map_err(|cause| folder.damaged(MERGES, cause))?;
    let regexes = guarded(|| {
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
        let words = SplitPattern::Regex(WORDS.into());
        Ok::<_, tokenizers::Error>((
            spaces,
            Split::new(words, SplitDelimiterBehavior::Removed, true)?,
        ))
    });
    let (spaces, words) = regexes.map_err(|cause| folder.damaged(VOCAB, cause))?;
    let normalizers: Vec<NormalizerWrapper> = vec![NFC.into(), spaces.into(), Lowercase.into()];
    let pieces: Vec<PreTokenizerWrapper> =
        vec![words.into(), ByteLevel::new(false, true, true).into()];
    Ok(Parts {
        model: model.into(),
        tokens: Vec::new(),
        normalizer: Some(Normalizers::new(normalizers).into()),
        pre_tokenizer: Some(Sequence::new(pieces).into()),
        decoder: ByteLevel::default().into(),
        frame: Some(Frame::new(
            &[begin, "$A", end],
            &[begin, "$A", end, end, "$B", end],
        )),
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}
