//! The files of a tokenizer: which ones a folder has decides how they are read.
//!
//! `tokenizer.json` wins. Without it the tokenizer class is chosen (`class`), the files of its
//! kind become the parts of a tokenizer (`byte_level`, `word_piece`, `llama`, `unigram`, `mapped`), and
//! `assemble` puts these together with the special and added tokens. This is what transformers'
//! `convert_slow_tokenizer.py` does when it makes a fast tokenizer of a slow one; everything
//! outside of here sees only the result. A `vocabulary` may also be at hand, from a GGUF file.

mod assemble;
mod byte_level;
mod class;
mod clip;
mod folder;
#[cfg(test)]
mod goldens;
mod llama;
mod mapped;
mod nllb;
mod pre_tokenizers;
#[cfg(test)]
mod refusals;
mod roles;
mod sentence_piece;
mod tokenizer_json;
mod unigram;
mod vocabulary;
mod word_piece;

use std::path::Path;

use crate::error::TextError;
use crate::json::read_bytes;
use crate::settings::Settings;
use crate::source::Source;

pub use vocabulary::{TokenKind, Vocabulary, VocabularyModel};

/// A tokenizer as its files describe it.
pub(crate) struct Read {
    pub(crate) inner: tokenizers::Tokenizer,
    /// What cuts texts, if that is another.
    pub(crate) source: Option<Source>,
    /// Whether decoded text is cleaned up where the configuration does not say.
    pub(crate) clean_up: bool,
    /// Whether an added token decodes as it is written, also if it is normalised.
    pub(crate) added_as_written: bool,
}

/// Reads the tokenizer of a folder, whatever its form.
pub(crate) fn read(dir: &Path, settings: &Settings) -> Result<Read, TextError> {
    let path = dir.join("tokenizer.json");
    let mut read = match read_bytes(&path)? {
        Some(bytes) => Read {
            inner: tokenizer_json::build(&path, &bytes, settings)?,
            source: None,
            clean_up: false,
            added_as_written: false,
        },
        None => {
            let folder = folder::Folder::read(dir)?;
            let class = class::choose(&folder)?;
            let (inner, source) = assemble::assemble(&folder, class)?;
            Read {
                inner,
                source,
                clean_up: class.clean_up,
                // transformers 4 with tokenizers below 0.23, whose conversion this is.
                added_as_written: true,
            }
        }
    };
    read.inner.set_encode_special_tokens(settings.split_special);
    Ok(read)
}
