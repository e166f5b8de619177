//! What may stand inside `parameters` of a TGI request, with TGI's sentences for what is wrong.

use std::sync::LazyLock;

use sconce_core::{AskedSampling, GenerateParams, MaxTokens, Report, ServeError, Stop};
use serde_json::Map;

use crate::fields::Fields;
use crate::guides;
use crate::parameters::{self, MOST_STOP_SEQUENCES, MOST_TOKENS, MOST_TOP_TOKENS};

type Result<T> = std::result::Result<T, ServeError>;

/// What is generated where a request does not say; TGI 1.4 to 2.4.
const UNSAID: MaxTokens = MaxTokens::New(100);

/// What `parameters` ask for.
pub(super) struct Asked {
    pub(super) params: GenerateParams,
    pub(super) details: bool,
    /// Whether the prompt's tokens are told.
    pub(super) prefill: bool,
    /// Whether the prompt is put before the generated text.
    pub(super) full_text: bool,
}

/// Reads `parameters`; every key must be known.
pub(super) fn read(mut fields: Fields) -> Result<Asked> {
    let asked = read_all(&mut fields)?;
    fields.finish(|key| {
        let outer = ["inputs", "stream"].contains(&key);
        outer.then(|| "it belongs outside of `parameters`".to_owned())
    })?;
    Ok(asked)
}

/// All names that may stand inside `parameters`.
pub(super) fn names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut fields = Fields::new(Map::new());
        read_all(&mut fields).expect("a request without parameters is valid");
        fields.asked().to_vec()
    });
    &NAMES
}

fn read_all(fields: &mut Fields) -> Result<Asked> {
    refuse(fields)?;
    let positive = |key| format!("`{key}` must be strictly positive");
    let most = fields.integer(
        "max_new_tokens",
        1..=MOST_TOKENS,
        &positive("max_new_tokens"),
    )?;
    let truncate = fields.integer("truncate", 1..=MOST_TOKENS, &positive("truncate"))?;
    let details = fields.flag("details")?.unwrap_or(false);
    let prefill = fields.flag("decoder_input_details")?.unwrap_or(false);
    let problem = format!("`top_n_tokens` must be >= 0 and <= {MOST_TOP_TOKENS}");
    let top = fields.integer("top_n_tokens", 0..=MOST_TOP_TOKENS, &problem)?;
    let mut sequences = fields.texts("stop", MOST_STOP_SEQUENCES)?;
    // Another name of it in clients for TGI; TGI itself ignores it.
    sequences.extend(fields.texts("stop_sequences", MOST_STOP_SEQUENCES)?);
    let params = GenerateParams {
        max_tokens: most.map_or(UNSAID, |most| MaxTokens::New(most as usize)),
        truncate: truncate.map(|last| last as usize),
        sampling: sampling(fields)?,
        stop: Stop {
            sequences,
            ..Stop::default()
        },
        guide: guides::tgi(fields)?,
        adapter: fields.text("adapter_id")?.map(Into::into),
        report: Report {
            prompt_logprobs: prefill,
            // Alternatives are told in the events of a stream without `details` too.
            top_n_tokens: top.map_or(0, |top| top as usize),
            ..Report::default()
        },
        ..GenerateParams::default()
    };
    Ok(Asked {
        params,
        details,
        prefill,
        full_text: fields.flag("return_full_text")?.unwrap_or(false),
    })
}

/// Any of the filters asks for sampling.
fn sampling(fields: &mut Fields) -> Result<AskedSampling> {
    let above = |x: f32| x > 0.0;
    let share = |x: f32| x > 0.0 && x < 1.0;
    let mut number = |key, allowed: fn(f32) -> bool, problem: &str| {
        fields.number(key, allowed, &format!("`{key}` {problem}"))
    };
    let temperature = number("temperature", above, "must be strictly positive")?;
    let repetition_penalty = number("repetition_penalty", above, "must be strictly positive")?;
    let within = |x: f32| (-2.0..=2.0).contains(&x);
    let frequency_penalty = number("frequency_penalty", within, "must be >= -2.0 and <= 2.0")?;
    let top_p = number("top_p", share, "must be > 0.0 and < 1.0")?;
    let typical_p = number("typical_p", share, "must be > 0.0 and < 1.0")?;
    let problem = "`top_k` must be strictly positive";
    let top_k = fields.integer("top_k", 1..=i32::MAX.into(), problem)?;
    let asked = fields.flag("do_sample")?.unwrap_or(false);
    let filters = temperature.is_some_and(|t| t != 1.0)
        || top_k.is_some()
        || top_p.is_some()
        || typical_p.is_some();
    Ok(AskedSampling {
        do_sample: Some(asked || filters),
        temperature,
        top_k: top_k.map(|k| k as usize),
        top_p,
        typical_p,
        repetition_penalty,
        frequency_penalty,
        seed: parameters::seed(fields)?,
        ..AskedSampling::default()
    })
}

fn refuse(fields: &mut Fields) -> Result<()> {
    let problem = "`best_of` != 1 is not allowed for this endpoint";
    fields.integer("best_of", 1..=1, problem)?;
    if fields.flag("watermark")? == Some(true) {
        let problem = "`watermark` is not supported; leave it out";
        return Err(ServeError::parameter("watermark", true, problem));
    }
    Ok(())
}
