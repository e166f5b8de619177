//! What may stand inside `parameters`: names, ranges, defaults.
//!
//! Names and defaults are those of DJL's vLLM rolling batch. Parameters that cannot be honoured
//! are accepted at the value that asks for nothing and refused by name otherwise.

use std::sync::LazyLock;

use sconce_core::{AskedSampling, GenerateParams, Report, ServeError, Stop};
use serde_json::{Map, Value};

use super::{Details, Formatter, agreed};
use crate::fields::{Fields, nearest};

type Result<T> = std::result::Result<T, ServeError>;

const MOST_STOP_SEQUENCES: usize = 64;
const MOST_STOP_IDS: usize = 256;
const MOST_TOP_TOKENS: i128 = 20;
/// Lengths above this are mistakes; the context of the model limits them further.
const MOST_TOKENS: i128 = u32::MAX as i128;
/// At or below this, dividing logits by the temperature overflows; vLLM is greedy there too.
const GREEDY_TEMPERATURE: f32 = 1e-5;

/// What `parameters` ask for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) params: GenerateParams,
    pub(super) details: Option<Details>,
    pub(super) full_text: bool,
    pub(super) formatter: Option<Formatter>,
    pub(super) stream: Option<bool>,
}

/// The value of a parameter that asks for nothing.
enum Neutral {
    Number(f64),
    Flag(bool),
    /// Null, `""`, `[]` or `{}`.
    Empty,
}

/// Parameters that other servers honour and this one does not yet.
const REFUSED: &[(&str, Neutral)] = &[
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
    ("truncate", Neutral::Empty),
    ("truncate_prompt_tokens", Neutral::Empty),
    ("logit_bias", Neutral::Empty),
    ("bad_words", Neutral::Empty),
    ("bad_sequences", Neutral::Empty),
    ("allowed_token_ids", Neutral::Empty),
    ("grammar", Neutral::Empty),
    ("response_format", Neutral::Empty),
    ("structured_outputs", Neutral::Empty),
    ("guided_json", Neutral::Empty),
    ("guided_regex", Neutral::Empty),
    ("guided_choice", Neutral::Empty),
    ("guided_grammar", Neutral::Empty),
    ("guided_decoding_backend", Neutral::Empty),
    ("adapters", Neutral::Empty),
    ("adapter_id", Neutral::Empty),
];

/// Output formatters that DJL has and this server does not.
const REFUSED_FORMATTERS: &[&str] = &[
    "json_chat",
    "jsonlines_chat",
    "sse_chat",
    "3p",
    "3p_stream",
    "none",
];

/// Reads `parameters`; every key must be known.
pub(super) fn read(parameters: Map<String, Value>) -> Result<Asked> {
    let mut fields = Fields::new(parameters);
    let asked = read_all(&mut fields)?;
    fields
        .finish(|key| (key == "inputs").then(|| "it belongs outside of `parameters`".to_owned()))?;
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

/// Refuses what asks for an adapter or a cached prompt beside `inputs`.
pub(super) fn refuse_adapters(fields: &mut Fields) -> Result<()> {
    refuse(fields, "adapters", &Neutral::Empty)?;
    refuse(fields, "cached_prompt", &Neutral::Empty)
}

fn read_all(fields: &mut Fields) -> Result<Asked> {
    let (max_new_tokens, min_new_tokens) = lengths(fields)?;
    let sampling = sampling(fields)?;
    let stop = stop(fields)?;
    let (report, details) = report(fields)?;
    let asked = Asked {
        params: GenerateParams {
            max_new_tokens,
            min_new_tokens,
            sampling,
            stop,
            report,
        },
        details,
        full_text: fields.flag("return_full_text")?.unwrap_or(false),
        formatter: formatter(fields)?,
        stream: fields.flag("stream")?,
    };
    for (key, neutral) in REFUSED {
        refuse(fields, key, neutral)?;
    }
    Ok(asked)
}

fn lengths(fields: &mut Fields) -> Result<(usize, usize)> {
    let default = GenerateParams::default();
    let problem = format!(
        "must be an integer from 1 to {MOST_TOKENS}; leave it out for {}",
        default.max_new_tokens
    );
    let most = fields.integer("max_new_tokens", 1..=MOST_TOKENS, &problem)?;
    let most = most.map_or(default.max_new_tokens, |most| most as usize);
    let problem = format!(
        "must be an integer from 0 to max_new_tokens = {most}; lower it or raise max_new_tokens"
    );
    let least = fields.integer("min_new_tokens", 0..=most as i128, &problem)?;
    Ok((most, least.map_or(0, |least| least as usize)))
}

fn sampling(fields: &mut Fields) -> Result<AskedSampling> {
    let asked = fields.flag("do_sample")?;
    let temperature = fields.number(
        "temperature",
        |t| t >= 0.0,
        "must be a number of at least 0; 0 means greedy, 1 leaves the probabilities as they are",
    )?;
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
        seed: seed(fields)?,
    })
}

fn seed(fields: &mut Fields) -> Result<Option<u64>> {
    let problem = format!(
        "must be an integer from 0 to {}; leave it out for a random one",
        u64::MAX
    );
    let seed = fields.integer("seed", 0..=u64::MAX.into(), &problem)?;
    Ok(seed.map(|seed| seed as u64))
}

fn stop(fields: &mut Fields) -> Result<Stop> {
    let mut sequences = fields.texts("stop_sequences", MOST_STOP_SEQUENCES)?;
    sequences.extend(fields.texts("stop", MOST_STOP_SEQUENCES)?);
    let eos_token = fields.flag("ignore_eos_token")?;
    let eos = fields.flag("ignore_eos")?;
    Ok(Stop {
        sequences,
        token_ids: fields.ids("stop_token_ids", MOST_STOP_IDS)?,
        keep_in_text: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
        ignore_eos: agreed("ignore_eos_token", eos_token, eos)?.unwrap_or(false),
    })
}

/// Alternatives and the prompt's probabilities are shown inside `details` only, so that without
/// `details` they are checked and not computed.
fn report(fields: &mut Fields) -> Result<(Report, Option<Details>)> {
    let shown = fields.flag("details")?.unwrap_or(false);
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

fn formatter(fields: &mut Fields) -> Result<Option<Formatter>> {
    let Some(name) = fields.text("output_formatter")? else {
        return Ok(None);
    };
    if let Some(formatter) = Formatter::parse(&name) {
        return Ok(Some(formatter));
    }
    let known = ["json", "jsonlines", "sse"];
    let problem = if REFUSED_FORMATTERS.contains(&name.as_str()) {
        "is not supported yet; use json, jsonlines or sse".to_owned()
    } else {
        let meant = nearest(&name, &known).map(|name| format!("; did you mean `{name}`?"));
        format!(
            "is unknown; use json, jsonlines or sse{}",
            meant.unwrap_or_default()
        )
    };
    Err(ServeError::parameter("output_formatter", name, problem))
}

fn refuse(fields: &mut Fields, key: &'static str, neutral: &Neutral) -> Result<()> {
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

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
