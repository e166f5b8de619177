//! What chat and completions have in common: lengths, sampling, stopping, the number of answers, streams.

use sconce_core::{GenerateParams, MaxTokens, ServeError};
use serde_json::{Value, json};

use super::{Habit, Stamp};
use crate::beams;
use crate::fields::Fields;
use crate::guides;
use crate::parameters::{self, Neutral, agreed};

type Result<T> = std::result::Result<T, ServeError>;

/// Most answers to a request, as at OpenAI.
pub(super) const MOST_CHOICES: i128 = 128;

/// Parameters that are not honoured and that one may still name with the value that asks for nothing.
const REFUSED: &[(&str, Neutral)] = &[
    ("store", Neutral::Flag(false)),
    ("priority", Neutral::Number(0.0)),
    ("return_tokens_as_token_ids", Neutral::Flag(false)),
    ("return_token_ids", Neutral::Flag(false)),
    ("kv_transfer_params", Neutral::Empty),
    ("mm_processor_kwargs", Neutral::Empty),
    ("logits_processors", Neutral::Empty),
    ("vllm_xargs", Neutral::Empty),
    ("cache_salt", Neutral::Empty),
];

/// Members that say who asks, or how the service bills and keeps what it is sent: none changes an answer.
const WITHOUT_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "request_id",
];

/// What both kinds of requests ask.
pub(super) struct Asked {
    pub(super) params: GenerateParams,
    /// Whether the request asks for sampling by name.
    pub(super) samples: bool,
    /// Answers to each prompt.
    pub(super) n: usize,
    pub(super) framing: Framing,
    pub(super) header: Header,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) habit: Habit,
    pub(super) streams: bool,
    /// Whether a stream ends with the number of tokens.
    pub(super) usage: bool,
}

/// What all parts of an answer begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

/// vLLM's `prompt_logprobs`: so many likeliest tokens beside each of the prompt's; `None`: it was not asked for.
pub(super) fn prompt_logprobs(fields: &mut Fields, asked: &mut Asked) -> Result<Option<usize>> {
    const KEY: &str = "prompt_logprobs";
    let count = top(fields, KEY)?;
    if let Some(count) = count {
        if asked.framing.streams {
            let problem = "are not streamed; leave them out, or stream";
            return Err(ServeError::parameter(KEY, count, problem));
        }
        asked.params.report.prompt_logprobs = true;
        asked.params.report.prompt_top = count;
    }
    Ok(count)
}

/// The parameters of one of several answers to a prompt, whose probabilities are computed for the first of them.
pub(super) fn answer(params: &GenerateParams, number: usize) -> GenerateParams {
    let mut params = parameters::seeded(params, number);
    params.report.prompt_logprobs &= number == 0;
    params
}

/// A search with as many beams as answers are made, vLLM's `use_beam_search`; `n` of them are told.
pub(super) fn search(fields: &mut Fields, asked: &mut Asked, best_of: usize) -> Result<()> {
    const KEY: &str = beams::FLAG;
    let uses = fields.flag(KEY)?.unwrap_or(false);
    let weighing = beams::weighing(fields)?;
    if uses && best_of <= 1 {
        let problem = "needs the number of beams; set best_of or n above 1";
        return Err(ServeError::parameter(KEY, true, problem));
    }
    if uses {
        let sampling = &mut asked.params.sampling;
        // Whether the request itself asks for sampling: without a word of it this API samples.
        sampling.do_sample = (sampling.do_sample == Some(true) && asked.samples).then_some(true);
        asked.params.beams = weighing.search(KEY, (best_of, asked.n), sampling)?;
        asked.params.sampling.do_sample = Some(false);
    } else {
        weighing.only_with(None)?;
    }
    beams::refuse_stream(KEY, asked.params.beams.as_ref(), asked.framing.streams)
}

/// Reads what both have in common. `most` is the length that was read before, if one was.
pub(super) fn read(
    fields: &mut Fields,
    (habit, stamp, prefix): (Habit, Stamp<'_>, &str),
    most: MaxTokens,
) -> Result<Asked> {
    let problem = "must be a whole number from 0; lower it or raise max_tokens";
    let bound = most.bound().min(parameters::MOST_TOKENS as usize);
    let least = fields.integer("min_tokens", 0..=bound as i128, problem)?;
    let mut sampling = parameters::sampling(fields)?;
    // OpenAI samples unless told otherwise; a temperature of 0 has told.
    let samples = sampling.do_sample.unwrap_or(sampling.temperature.is_some());
    sampling.do_sample = Some(sampling.do_sample.unwrap_or(true));
    let mut params = GenerateParams {
        max_tokens: most,
        min_new_tokens: least.map_or(0, |least| least as usize),
        truncate: parameters::truncate(fields)?,
        sampling,
        stop: parameters::stop(fields)?,
        guide: guides::guide(fields)?,
        ..GenerateParams::default()
    };
    params.report.skip_special_tokens = fields.flag("skip_special_tokens")?.unwrap_or(true);
    let problem = format!("must be a whole number from 1 to {MOST_CHOICES}");
    let n = fields.integer("n", 1..=MOST_CHOICES, &problem)?;
    let framing = framing(fields, habit)?;
    let named = fields.text("model")?;
    service(fields)?;
    Ok(Asked {
        params,
        samples,
        n: n.map_or(1, |n| n as usize),
        framing,
        header: Header {
            id: format!("{prefix}-{}", stamp.id.replace('-', "")),
            created: stamp.created,
            model: named.unwrap_or_else(|| stamp.model.to_owned()),
        },
    })
}

/// Refuses what nobody took.
pub(super) fn finish(mut fields: Fields) -> Result<()> {
    for (key, neutral) in REFUSED {
        parameters::refuse(&mut fields, key, neutral)?;
    }
    parameters::refuse_all(&mut fields)?;
    fields.finish(|_| None)
}

/// So many most likely tokens beside each.
pub(super) fn top(fields: &mut Fields, key: &'static str) -> Result<Option<usize>> {
    let most = parameters::MOST_TOP_TOKENS;
    let problem = format!("must be a whole number from 0 to {most}");
    let top = fields.integer(key, 0..=most, &problem)?;
    Ok(top.map(|top| top as usize))
}

fn framing(fields: &mut Fields, habit: Habit) -> Result<Framing> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let options = match fields.take("stream_options") {
        None => None,
        Some(options) if !streams => {
            let problem = "is for streams only; set stream to true or leave it out";
            return Err(ServeError::parameter("stream_options", options, problem));
        }
        Some(Value::Object(options)) => Some(options),
        Some(other) => {
            let problem = "must be an object such as {\"include_usage\": true}";
            return Err(ServeError::parameter("stream_options", other, problem));
        }
    };
    let mut usage = false;
    if let Some(options) = options {
        let mut options = Fields::new(options);
        usage = options.flag("include_usage")?.unwrap_or(false);
        parameters::refuse(&mut options, "include_obfuscation", &Neutral::Flag(false))?;
        parameters::refuse(
            &mut options,
            "continuous_usage_stats",
            &Neutral::Flag(false),
        )?;
        options.finish(|_| Some("stream_options has include_usage only".into()))?;
    }
    Ok(Framing {
        habit,
        streams,
        usage,
    })
}

/// What concerns OpenAI's service and no answer.
fn service(fields: &mut Fields) -> Result<()> {
    for key in WITHOUT_EFFECT {
        fields.take(key);
    }
    match fields.take("service_tier") {
        None => Ok(()),
        Some(tier) if tier == json!("auto") || tier == json!("default") => Ok(()),
        Some(tier) => {
            let problem = "must be auto or default: there is one tier";
            Err(ServeError::parameter("service_tier", tier, problem))
        }
    }
}

/// One length from the keys that mean the same.
pub(super) fn most(
    fields: &mut Fields,
    keys: &[&'static str],
    unsaid: &str,
) -> Result<Option<usize>> {
    let mut most = None;
    for key in keys {
        most = agreed(key, most, parameters::length(fields, key, unsaid)?)?;
    }
    Ok(most)
}
