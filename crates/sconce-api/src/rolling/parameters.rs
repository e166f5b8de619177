//! What may stand inside `parameters` of the rolling batch.
//!
//! Names and defaults are those of DJL's vLLM rolling batch.

use std::sync::LazyLock;

use sconce_core::{AskedSampling, BeamSearch, GenerateParams, ServeError};
use serde_json::Map;

use super::Formatter;
use crate::beams;
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
    let answers = answers(fields, &mut sampling)?;
    let asked = Asked {
        params: GenerateParams {
            sampling,
            beams: answers.search,
            stop,
            guide,
            report,
            ..lengths
        },
        details,
        full_text: fields.flag("return_full_text")?.unwrap_or(false),
        formatter: formatter(fields)?,
        stream: fields.flag("stream")?,
        n: answers.n,
        best_of: answers.best_of,
    };
    parameters::refuse_all(fields)?;
    Ok(asked)
}

/// How many answers there are, and whether they are searched together.
struct Answers {
    n: usize,
    best_of: usize,
    search: Option<BeamSearch>,
}

/// `n` and `best_of`: one without the other says both, as in DJL's rolling batch, where `num_beams` says both too.
fn answers(fields: &mut Fields, sampling: &mut AskedSampling) -> Result<Answers> {
    let problem = format!("must be a whole number from 1 to {MOST_ANSWERS}");
    let n = fields.integer("n", 1..=MOST_ANSWERS, &problem)?;
    let least = n.unwrap_or(1);
    let problem = format!("must be a whole number from n = {least} to {MOST_ANSWERS}");
    let best_of = fields.integer("best_of", least..=MOST_ANSWERS, &problem)?;
    let beams = beams::count(fields, "num_beams")?;
    let uses = fields.flag(beams::FLAG)?;
    let weighing = beams::weighing(fields)?;
    let (n, best_of) = (
        n.map(|n| n as usize),
        best_of.map(|best_of| best_of as usize),
    );
    let (key, beams) = match (beams, uses) {
        (Some(beams), _) if beams > 1 => ("num_beams", beams),
        (Some(beams), Some(true)) => {
            let problem = "is no search, for which use_beam_search asks; raise it or leave one out";
            return Err(ServeError::parameter("num_beams", beams, problem));
        }
        (None, Some(true)) => (beams::FLAG, best_of.or(n).unwrap_or(1)),
        _ => ("num_beams", 1),
    };
    if key == beams::FLAG && beams == 1 {
        let problem = "needs the number of beams; set num_beams, or best_of or n, above 1";
        return Err(ServeError::parameter(key, true, problem));
    }
    if beams > 1 {
        for (other, value) in [("n", n), ("best_of", best_of)] {
            if let Some(value) = value.filter(|value| *value > beams) {
                let problem = format!("must be at most num_beams = {beams}");
                return Err(ServeError::parameter(other, value, problem));
            }
        }
    }
    let n = n.or(best_of);
    let told = n.unwrap_or(beams);
    let search = weighing.search(key, (beams, told), sampling)?;
    weighing.only_with(search.as_ref())?;
    Ok(Answers {
        n: told,
        best_of: best_of.unwrap_or(told).max(beams),
        search,
    })
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
