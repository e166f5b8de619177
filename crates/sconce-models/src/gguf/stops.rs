//! Which tokens end a text, as a GGUF file tells: by keys, and by names that chat models give their end of a turn.

use sconce_nn::weights::gguf::Metadata;
use serde_json::Value;

use crate::config_error::ConfigError;

/// Keys of single tokens.
const KEYS: [&str; 3] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
];

/// Tokens that end a turn whatever the file says, if they are control tokens. Converters keep one end token, where a
/// `generation_config.json` names several; llama.cpp goes by names like these as well.
const NAMES: [&str; 8] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>",
];

/// Number of control tokens among the types of tokens.
const CONTROL: f64 = 3.0;

/// The ids, without repeats; null where the file names none.
pub(super) fn ids(metadata: &Metadata) -> Result<Value, ConfigError> {
    let mut ids = Vec::new();
    for key in KEYS {
        ids.extend(metadata.whole(key)?);
    }
    let tokens = metadata
        .texts("tokenizer.ggml.tokens")?
        .into_iter()
        .flatten();
    let types = metadata
        .numbers("tokenizer.ggml.token_type")?
        .into_iter()
        .flatten();
    let turns = (0u64..)
        .zip(tokens.zip(types))
        .filter(|(_, (token, kind))| *kind == CONTROL && NAMES.contains(token));
    ids.extend(turns.map(|(id, _)| id));
    ids.sort_unstable();
    ids.dedup();
    Ok(if ids.is_empty() {
        Value::Null
    } else {
        Value::from(ids)
    })
}
