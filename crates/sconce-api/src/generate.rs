//! What the dialects that take keyword arguments of transformers' `generate` have in common: which of them nobody here
//! honours, which say nothing, and how token ids and counts are written.

use sconce_core::ServeError;
use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::parameters::{self, MOST_TOKENS, Neutral};

type Result<T> = std::result::Result<T, ServeError>;

/// Longest list of tokens, and most words that are not written.
pub(crate) const MOST_IDS: usize = 256;

/// Arguments that are not honoured anywhere.
const REFUSED: &[(&str, Neutral)] = &[
    ("num_beam_groups", Neutral::Number(1.0)),
    ("diversity_penalty", Neutral::Number(0.0)),
    ("penalty_alpha", Neutral::Number(0.0)),
    ("encoder_repetition_penalty", Neutral::Number(1.0)),
    ("epsilon_cutoff", Neutral::Number(0.0)),
    ("eta_cutoff", Neutral::Number(0.0)),
    ("guidance_scale", Neutral::Number(1.0)),
    ("force_words_ids", Neutral::Empty),
    ("constraints", Neutral::Empty),
    ("suppress_tokens", Neutral::Empty),
    ("begin_suppress_tokens", Neutral::Empty),
    ("sequence_bias", Neutral::Empty),
    ("exponential_decay_length_penalty", Neutral::Empty),
    ("max_time", Neutral::Empty),
    ("renormalize_logits", Neutral::Flag(false)),
    ("return_dict_in_generate", Neutral::Flag(false)),
    ("output_scores", Neutral::Flag(false)),
    ("output_logits", Neutral::Flag(false)),
    ("output_attentions", Neutral::Flag(false)),
    ("output_hidden_states", Neutral::Flag(false)),
];

/// Arguments that say nothing anywhere: they act on padding or on speed.
const WITHOUT_EFFECT: &[&str] = &["pad_token_id", "bos_token_id", "use_cache"];

/// Takes what is left of the arguments: those of [`REFUSED`] and of the dialect's own list are refused unless they say
/// what would happen anyhow, those without effect are let pass.
pub(crate) fn rest(
    fields: &mut Fields,
    refused: &'static [(&'static str, Neutral)],
    without_effect: &[&'static str],
) -> Result<()> {
    for (key, neutral) in REFUSED.iter().chain(refused) {
        parameters::refuse(fields, key, neutral)?;
    }
    for key in WITHOUT_EFFECT.iter().chain(without_effect) {
        fields.take(key);
    }
    Ok(())
}

/// A number of tokens or texts of at least `from`.
pub(crate) fn count(fields: &mut Fields, key: &'static str, from: i128) -> Result<Option<usize>> {
    let problem = format!("must be an integer from {from} to {MOST_TOKENS}");
    let found = fields.integer(key, from..=MOST_TOKENS, &problem)?;
    Ok(found.map(|count| count as usize))
}

/// A list of token ids; a single one is a list too.
pub(crate) fn ids(fields: &mut Fields, key: &'static str) -> Result<Option<Vec<u32>>> {
    match fields.take(key) {
        None => Ok(None),
        Some(ids @ Value::Array(_)) => list(key, ids).map(Some),
        Some(id) => list(key, Value::Array(vec![id])).map(Some),
    }
}

/// The token ids in a list that stands under `key`.
pub(crate) fn list(key: &'static str, ids: Value) -> Result<Vec<u32>> {
    let mut alone = Fields::new(Map::from_iter([(key.to_owned(), ids)]));
    alone.ids(key, MOST_IDS)
}
