//! Generation parameters that several dialects have: names, ranges, texts.
//!
//! Each dialect composes its `parameters` of these readers; which of them it has and what it
//! implies (whether a temperature alone asks for sampling, say) is its own. Parameters that
//! cannot be honoured are accepted at the value that asks for nothing and refused by name
//! otherwise.

use sconce_core::{AskedSampling, GenerateParams, MaxTokens, Report, ServeError, Stop};
use serde_json::{Map, Value};

use crate::fields::Fields;

type Result<T> = std::result::Result<T, ServeError>;

pub(crate) const MOST_STOP_SEQUENCES: usize = 64;
const MOST_BIASES: usize = 1024;
const MOST_STOP_IDS: usize = 256;
pub(crate) const MOST_TOP_TOKENS: i128 = 20;
/// Lengths above this are mistakes; the context of the model limits them further.
pub(crate) const MOST_TOKENS: i128 = u32::MAX as i128;
/// At or below this, dividing logits by the temperature overflows; vLLM is greedy there too.
const GREEDY_TEMPERATURE: f32 = 1e-5;
const TEMPERATURE: &str =
    "must be a number of at least 0; 0 means greedy, 1 leaves the probabilities as they are";

/// The value of a parameter that asks for nothing.
pub(crate) enum Neutral {
    Number(f64),
    Flag(bool),
    /// Null, `""`, `[]` or `{}`.
    Empty,
}

/// What is shown of a generation in `details`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Details {
    /// The prompt's tokens.
    pub(crate) prefill: bool,
    /// The likeliest alternatives of each token.
    pub(crate) top_tokens: bool,
}

/// Parameters of vLLM and of other servers of its schema that this one does not honour yet.
pub(crate) const REFUSED: &[(&str, Neutral)] = &[
    ("n", Neutral::Number(1.0)),
    ("best_of", Neutral::Number(1.0)),
    ("num_beams", Neutral::Number(1.0)),
    ("num_return_sequences", Neutral::Number(1.0)),
    ("use_beam_search", Neutral::Flag(false)),
    ("length_penalty", Neutral::Number(1.0)),
    ("early_stopping", Neutral::Flag(false)),
    ("no_repeat_ngram_size", Neutral::Number(0.0)),
    ("watermark", Neutral::Flag(false)),
    ("use_cache", Neutral::Flag(true)),
    ("spaces_between_special_tokens", Neutral::Flag(true)),
    ("bad_words", Neutral::Empty),
    ("bad_sequences", Neutral::Empty),
    ("allowed_token_ids", Neutral::Empty),
    ("adapters", Neutral::Empty),
    ("adapter_id", Neutral::Empty),
];

/// A length in tokens, at least 1.
pub(crate) fn length(
    fields: &mut Fields,
    key: &'static str,
    unsaid: &str,
) -> Result<Option<usize>> {
    let problem = format!("must be an integer from 1 to {MOST_TOKENS}; leave it out for {unsaid}");
    let length = fields.integer(key, 1..=MOST_TOKENS, &problem)?;
    Ok(length.map(|length| length as usize))
}

/// `max_new_tokens` and `min_new_tokens`, with the default of the LMI schema.
pub(crate) fn lengths(fields: &mut Fields) -> Result<GenerateParams> {
    let unsaid = GenerateParams::default().max_tokens.bound();
    let most = length(fields, "max_new_tokens", &unsaid.to_string())?.unwrap_or(unsaid);
    let problem = format!(
        "must be an integer from 0 to max_new_tokens = {most}; lower it or raise max_new_tokens"
    );
    let least = fields.integer("min_new_tokens", 0..=most as i128, &problem)?;
    Ok(GenerateParams {
        max_tokens: MaxTokens::New(most),
        min_new_tokens: least.map_or(0, |least| least as usize),
        truncate: truncate(fields)?,
        ..GenerateParams::default()
    })
}

/// The parameters of each answer to one prompt: with a seed, each has another.
pub(crate) fn seeded(params: &GenerateParams, answer: usize) -> GenerateParams {
    let mut params = params.clone();
    let seed = &mut params.sampling.seed;
    *seed = seed.map(|seed| seed.wrapping_add(answer as u64));
    params
}

/// `truncate` of TGI and `truncate_prompt_tokens` of vLLM.
pub(crate) fn truncate(fields: &mut Fields) -> Result<Option<usize>> {
    let tgi = length(fields, "truncate", "the whole prompt")?;
    let vllm = length(fields, "truncate_prompt_tokens", "the whole prompt")?;
    agreed("truncate", tgi, vllm)
}

/// How tokens are picked; a temperature of 0 means greedy.
pub(crate) fn sampling(fields: &mut Fields) -> Result<AskedSampling> {
    let asked = fields.flag("do_sample")?;
    let temperature = fields.number("temperature", |t| t >= 0.0, TEMPERATURE)?;
    let cold = temperature.is_some_and(|t| t <= GREEDY_TEMPERATURE);
    let top_k = fields.integer(
        "top_k",
        -1..=MOST_TOKENS,
        "must be an integer of at least 1; 0 or -1 keeps all tokens",
    )?;
    let share = |x: f32| x > 0.0 && x <= 1.0;
    let penalty = |x: f32| (-2.0..=2.0).contains(&x);
    Ok(AskedSampling {
        do_sample: if cold { Some(false) } else { asked },
        temperature: temperature.filter(|_| !cold),
        top_k: top_k.map(|k| k.max(0) as usize),
        top_p: fields.number(
            "top_p",
            share,
            "must be above 0 and at most 1; 1 keeps all tokens",
        )?,
        min_p: fields.number(
            "min_p",
            |x| (0.0..=1.0).contains(&x),
            "must be a number from 0 to 1; 0 keeps all tokens",
        )?,
        typical_p: fields.number(
            "typical_p",
            share,
            "must be above 0 and at most 1; 1 keeps all tokens",
        )?,
        repetition_penalty: fields.number(
            "repetition_penalty",
            |x| (0.01..=100.0).contains(&x),
            "must be a number from 0.01 to 100; 1 means no penalty",
        )?,
        frequency_penalty: fields.number(
            "frequency_penalty",
            penalty,
            "must be a number from -2 to 2; 0 means none",
        )?,
        presence_penalty: fields.number(
            "presence_penalty",
            penalty,
            "must be a number from -2 to 2; 0 means none",
        )?,
        logit_bias: logit_bias(fields)?,
        seed: seed(fields)?,
    })
}

/// Numbers that are added to the logits of tokens, by their ids.
fn logit_bias(fields: &mut Fields) -> Result<Option<Vec<(u32, f32)>>> {
    const KEY: &str = "logit_bias";
    let wanted = format!(
        "must be an object of at most {MOST_BIASES} token ids with numbers from -100 to 100"
    );
    let object = match fields.take(KEY) {
        None => return Ok(None),
        Some(Value::Object(object)) if object.len() <= MOST_BIASES => object,
        Some(other) => return Err(ServeError::parameter(KEY, other, wanted)),
    };
    let mut biases = Vec::with_capacity(object.len());
    for (id, bias) in object {
        let number = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        match (id.parse(), number) {
            (Ok(id), Some(number)) => biases.push((id, number as f32)),
            _ => {
                let key = format!("{KEY}.{id}");
                return Err(ServeError::parameter(key, bias, wanted));
            }
        }
    }
    Ok(Some(biases))
}

pub(crate) fn seed(fields: &mut Fields) -> Result<Option<u64>> {
    let problem = format!(
        "must be an integer from 0 to {}; leave it out for a random one",
        u64::MAX
    );
    let seed = fields.integer("seed", 0..=u64::MAX.into(), &problem)?;
    Ok(seed.map(|seed| seed as u64))
}

/// When generation ends early, with the names of LMI and of vLLM.
pub(crate) fn stop(fields: &mut Fields) -> Result<Stop> {
    let mut sequences = fields.texts("stop_sequences", MOST_STOP_SEQUENCES)?;
    sequences.extend(fields.texts("stop", MOST_STOP_SEQUENCES)?);
    let eos_token = fields.flag("ignore_eos_token")?;
    let eos = fields.flag("ignore_eos")?;
    Ok(Stop {
        sequences,
        token_ids: fields.ids("stop_token_ids", MOST_STOP_IDS)?,
        keep_in_text: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
        ignore_eos: agreed("ignore_eos_token", eos_token, eos)?.unwrap_or(false),
        ..Stop::default()
    })
}

/// What `details` show. Alternatives and the prompt's probabilities are shown inside `details` only, so that without
/// `details` they are checked and not computed.
///
/// `unsaid` is the default of `details`.
pub(crate) fn report(fields: &mut Fields, unsaid: bool) -> Result<(Report, Option<Details>)> {
    let shown = fields.flag("details")?.unwrap_or(unsaid);
    let problem = format!("must be an integer from 0 to {MOST_TOP_TOKENS}; 0 lists none");
    let top = fields.integer("top_n_tokens", 0..=MOST_TOP_TOKENS, &problem)?;
    let top = match (top, logprobs(fields)?) {
        (Some(top), _) => top as usize,
        // Every token in `details` has its own log-probability: 1, DJL's default, adds nothing.
        (None, count) => count.filter(|count| *count > 1).unwrap_or(0),
    };
    let asked = fields.flag("decoder_input_details")?;
    let problem = "must be 0 or 1: alternatives for the prompt's tokens are not reported";
    let count = fields.integer("prompt_logprobs", 0..=1, problem)?;
    let prefill = asked.unwrap_or(count == Some(1));
    let report = Report {
        prompt_logprobs: shown && prefill,
        top_n_tokens: if shown { top } else { 0 },
        skip_special_tokens: fields.flag("skip_special_tokens")?.unwrap_or(true),
        ..Report::default()
    };
    let details = Details {
        prefill,
        top_tokens: top > 0,
    };
    Ok((report, shown.then_some(details)))
}

/// A number of alternatives, or a flag as in the chat schema.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>> {
    let Some(value) = fields.take("logprobs") else {
        return Ok(None);
    };
    if let Some(flag) = value.as_bool() {
        return Ok(Some(flag.into()));
    }
    let problem = format!("must be true, false or an integer from 0 to {MOST_TOP_TOKENS}");
    let mut alone = Fields::new(Map::from_iter([("logprobs".to_owned(), value)]));
    let count = alone.integer("logprobs", 0..=MOST_TOP_TOKENS, &problem)?;
    Ok(count.map(|count| count as usize))
}

/// Takes a parameter that may only ask for nothing.
pub(crate) fn refuse(fields: &mut Fields, key: &'static str, neutral: &Neutral) -> Result<()> {
    let Some(value) = fields.take(key) else {
        return Ok(());
    };
    let (same, accepted) = match neutral {
        Neutral::Number(number) => (value.as_f64() == Some(*number), number.to_string()),
        Neutral::Flag(flag) => (value.as_bool() == Some(*flag), flag.to_string()),
        Neutral::Empty => (is_empty(&value), "null".to_owned()),
    };
    if same {
        return Ok(());
    }
    let problem = format!("is not supported yet; leave it out (only {accepted} is accepted)");
    Err(ServeError::parameter(key, value, problem))
}

/// Takes all of [`REFUSED`].
pub(crate) fn refuse_all(fields: &mut Fields) -> Result<()> {
    REFUSED
        .iter()
        .try_for_each(|(key, neutral)| refuse(fields, key, neutral))
}

/// One value from two keys that mean the same.
pub(crate) fn agreed<T: PartialEq + std::fmt::Display>(
    key: &str,
    one: Option<T>,
    other: Option<T>,
) -> Result<Option<T>> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            let problem = "is given twice with different values; keep one of them";
            Err(ServeError::parameter(
                key,
                format!("both {one} and {other}"),
                problem,
            ))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
