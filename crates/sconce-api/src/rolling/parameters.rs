//! What may stand inside `parameters` of the rolling batch.
//!
//! Names and defaults are those of DJL's vLLM rolling batch.

use std::sync::LazyLock;

use sconce_core::{GenerateParams, ServeError};
use serde_json::Map;

use super::Formatter;
use crate::fields::{Fields, nearest};
use crate::guides;
use crate::parameters::{self, Details, Neutral};

type Result<T> = std::result::Result<T, ServeError>;

/// What `parameters` ask for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) params: GenerateParams,
    pub(crate) details: Option<Details>,
    pub(crate) full_text: bool,
    pub(crate) formatter: Option<Formatter>,
    pub(crate) stream: Option<bool>,
    /// Answers to each prompt that are told, the likeliest first.
    pub(crate) n: usize,
    /// Answers to each prompt that are made.
    pub(crate) best_of: usize,
}

/// Most answers to a prompt.
const MOST_ANSWERS: i128 = 128;

/// Output formatters that DJL has and this server does not.
const REFUSED_FORMATTERS: &[&str] = &["json_chat", "jsonlines_chat", "sse_chat", "3p", "3p_stream"];

/// Reads `parameters`; every key must be known. `details` is whether details are shown unless
/// the request says otherwise.
pub(crate) fn read(mut fields: Fields, details: bool) -> Result<Asked> {
    let asked = read_all(&mut fields, details)?;
    fields
        .finish(|key| (key == "inputs").then(|| "it belongs outside of `parameters`".to_owned()))?;
    Ok(asked)
}

/// All names that may stand inside `parameters`.
pub(crate) fn names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut fields = Fields::new(Map::new());
        read_all(&mut fields, false).expect("a request without parameters is valid");
        fields.asked().to_vec()
    });
    &NAMES
}

/// Refuses what asks for a cached prompt beside `inputs`.
pub(crate) fn refuse_cached(fields: &mut Fields) -> Result<()> {
    parameters::refuse(fields, "cached_prompt", &Neutral::Empty)
}

fn read_all(fields: &mut Fields, details: bool) -> Result<Asked> {
    let lengths = parameters::lengths(fields)?;
    let mut sampling = parameters::sampling(fields)?;
    // A temperature alone asks for sampling.
    sampling.do_sample = sampling.do_sample.or(sampling.temperature.map(|_| true));
    let stop = parameters::stop(fields)?;
    let guide = guides::guide(fields)?;
    let (report, details) = parameters::report(fields, details)?;
    let (n, best_of) = answers(fields)?;
    let asked = Asked {
        params: GenerateParams {
            sampling,
            stop,
            guide,
            report,
            ..lengths
        },
        details,
        full_text: fields.flag("return_full_text")?.unwrap_or(false),
        formatter: formatter(fields)?,
        stream: fields.flag("stream")?,
        n,
        best_of,
    };
    parameters::refuse_all(fields)?;
    Ok(asked)
}

/// `n` and `best_of`: one without the other says both, as in DJL's rolling batch.
fn answers(fields: &mut Fields) -> Result<(usize, usize)> {
    let problem = format!("must be a whole number from 1 to {MOST_ANSWERS}");
    let n = fields.integer("n", 1..=MOST_ANSWERS, &problem)?;
    let least = n.unwrap_or(1);
    let problem = format!("must be a whole number from n = {least} to {MOST_ANSWERS}");
    let best_of = fields.integer("best_of", least..=MOST_ANSWERS, &problem)?;
    let best_of = best_of.unwrap_or(least);
    Ok((n.unwrap_or(best_of) as usize, best_of as usize))
}

fn formatter(fields: &mut Fields) -> Result<Option<Formatter>> {
    const KNOWN: &str = "use json, jsonlines, sse or none";
    let Some(name) = fields.text("output_formatter")? else {
        return Ok(None);
    };
    if let Some(formatter) = Formatter::parse(&name) {
        return Ok(Some(formatter));
    }
    let problem = if REFUSED_FORMATTERS.contains(&name.as_str()) {
        format!("is not supported yet; {KNOWN}")
    } else {
        let meant = nearest(&name, &["json", "jsonlines", "sse", "none"]);
        let meant = meant.map(|name| format!("; did you mean `{name}`?"));
        format!("is unknown; {KNOWN}{}", meant.unwrap_or_default())
    };
    Err(ServeError::parameter("output_formatter", name, problem))
}
