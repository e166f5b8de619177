//! `tokenizer.json`, with the added and special tokens that `tokenizer_config.json` names.

use std::path::Path;

use crate::error::TextError;
use crate::guard::guarded;
use crate::json::not_json;
use crate::settings::Settings;

/// The tokenizer that the file's bytes describe. Truncation and padding are not applied.
pub(super) fn build(
    path: &Path,
    bytes: &[u8],
    settings: &Settings,
) -> Result<tokenizers::Tokenizer, TextError> {
    guarded(|| parse(bytes, settings)).map_err(|cause| {
        match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Err(error) => not_json(path, &error),
            Ok(_) => TextError::NotTokenizer {
                path: path.into(),
                cause,
            },
        }
    })
}

fn parse(bytes: &[u8], settings: &Settings) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
    inner.with_truncation(None)?;
    inner.with_padding(None);
    inner.add_tokens(settings.added.iter().cloned())?;
    // A role whose token has no id would get one beyond the model's embedding; it stays text.
    let named = settings.named.iter().filter_map(|token| {
        let id = inner.token_to_id(&token.content)?;
        let known = inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id);
        Some(known.unwrap_or(token).clone().special(true))
    });
    let named: Vec<_> = named.collect();
    inner.add_special_tokens(named)?;
    Ok(inner)
}
