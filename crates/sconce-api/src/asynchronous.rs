//! The asynchronous mode of LMI: the request of the rolling batch, mapped to vLLM's completions,
//! and an answer in the manner of TGI.
//!
//! `render` writes answers. Where a name means something else here than in the rolling batch
//! (`top_n_tokens` is a number of answers, the default is to sample), it is read here.

mod render;

use std::sync::LazyLock;

use sconce_core::{Generate, GenerateParams, MaxTokens, ServeError};
use serde::Serialize;
use serde_json::Map;

use crate::beams;
use crate::dialect::{Accepted, Answer};
use crate::error::with_prefix;
use crate::fields::Fields;
use crate::guides;
use crate::parameters::{self, Neutral};
use crate::payload::Payload;
use crate::rolling::parameters::refuse_cached;

use render::{Document, Lines};

/// What `parameters` ask for.
struct Asked {
    params: GenerateParams,
    details: bool,
    full_text: bool,
}

/// What a request asks, and how it is answered.
pub(crate) fn accept(mut payload: Payload<'_>) -> Result<Accepted, ServeError> {
    let prompts = payload.prompts()?;
    let prompt = prompts.only("DJL answers the first of several only; send one string")?;
    let inner = payload.parameters()?;
    let stream = payload.fields.flag("stream")?.unwrap_or(false);
    // Whatever the name, there is one model.
    payload.fields.text("model")?;
    refuse_cached(&mut payload.fields)?;
    payload.finish(names())?;
    let asked = read(inner)?;
    beams::refuse_stream("num_beams", asked.params.beams.as_ref(), stream)?;
    let before = asked.full_text.then(|| prompt.clone());
    let answer = if stream {
        Answer::stream(Lines::new(asked.details, before, &asked.params))
    } else {
        Answer::whole(Document {
            details: asked.details,
            before,
            seed: asked.params.sampling.seed,
            stop_token_ids: asked.params.stop.token_ids.clone(),
        })
    };
    Ok(Accepted {
        prompts: vec![Generate::new(prompt, asked.params)],
        answer,
    })
}

/// `{"error":"…","code":…}`, compact.
pub(crate) fn failure(failure: &ServeError, code: u16) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        error: String,
        code: u16,
    }
    let error = with_prefix("Input parsing failed: ", failure);
    serde_json::to_vec(&Body { error, code }).expect("a struct of text and number serialises")
}

fn read(mut fields: Fields) -> Result<Asked, ServeError> {
    let asked = read_all(&mut fields)?;
    fields.finish(|key| {
        let outer = ["inputs", "stream"].contains(&key);
        outer.then(|| "it belongs outside of `parameters`".to_owned())
    })?;
    Ok(asked)
}

/// All names that may stand inside `parameters`.
fn names() -> &'static [&'static str] {
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut fields = Fields::new(Map::new());
        read_all(&mut fields).expect("a request without parameters is valid");
        fields.asked().to_vec()
    });
    &NAMES
}

fn read_all(fields: &mut Fields) -> Result<Asked, ServeError> {
    let one = Neutral::Number(1.0);
    parameters::refuse(fields, "top_n_tokens", &one)?;
    let mut params = parameters::lengths(fields)?;
    if let Some(most) = parameters::length(fields, "max_tokens", "30")? {
        params.max_tokens = MaxTokens::New(most);
    }
    let mut sampling = parameters::sampling(fields)?;
    let beams = beams::count(fields, "num_beams")?.unwrap_or(1);
    let weighing = beams::weighing(fields)?;
    let mut asked = sampling.clone();
    // Nobody asks for sampling by leaving it open.
    asked.do_sample = asked.do_sample.or(asked.temperature.map(|_| true));
    let search = weighing.search("num_beams", (beams, 1), &mut asked)?;
    weighing.only_with(search.as_ref())?;
    sampling.do_sample = sampling.do_sample.or(search.map(|_| false));
    // vLLM samples unless told otherwise; a temperature of 0 has told.
    sampling.do_sample = Some(sampling.do_sample.unwrap_or(true));
    let stop = parameters::stop(fields)?;
    let guide = guides::guide(fields)?;
    let (report, shown) = parameters::report(fields, false)?;
    let asked = Asked {
        params: GenerateParams {
            sampling,
            beams: search,
            stop,
            guide,
            report,
            ..params
        },
        details: shown.is_some(),
        full_text: fields.flag("return_full_text")?.unwrap_or(false),
    };
    parameters::refuse_all(fields)?;
    Ok(asked)
}

#[cfg(test)]
mod tests;
