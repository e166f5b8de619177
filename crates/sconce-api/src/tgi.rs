//! Text Generation Inference's own API: `/generate`, `/generate_stream`, the compatible route `/`
//! and `/info`.
//!
//! `parameters` reads what is inside `parameters`, `render` writes answers. Names, texts and
//! layouts follow TGI 3.3 (`router/src/{lib,server,validation}.rs`).

mod parameters;
mod render;

use sconce_core::{Generate, ServeError};
use serde::Serialize;
use serde_json::Value;

use crate::dialect::{Accepted, Answer};
use crate::payload::Payload;

use parameters::Asked;
use render::{Document, Events};

/// The routes of TGI that generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Route {
    /// `/` and `/invocations`: the member `stream` decides; a whole answer is a list.
    #[default]
    Compatible,
    /// `/generate`: one whole answer.
    Generate,
    /// `/generate_stream`: always a stream.
    GenerateStream,
}

/// What a request asks, and how it is answered.
pub(crate) fn accept(mut payload: Payload<'_>, route: Route) -> Result<Accepted, ServeError> {
    payload.refuse_chat()?;
    let prompt = prompt(payload.fields.take("inputs"))?;
    let inner = payload.parameters()?;
    let asked_to_stream = payload.fields.flag("stream")?.unwrap_or(false);
    payload.finish(parameters::names())?;
    let stream = match route {
        Route::Compatible => asked_to_stream,
        Route::Generate => false,
        Route::GenerateStream => true,
    };
    let Asked {
        params,
        details,
        prefill,
        full_text,
    } = parameters::read(inner)?;
    if stream && prefill {
        let problem = "`decoder_input_details` == true is not supported when streaming tokens";
        return Err(ServeError::parameter(
            "decoder_input_details",
            true,
            problem,
        ));
    }
    let before = full_text.then(|| prompt.clone());
    let answer = if stream {
        Answer::stream(Events::new(details, before))
    } else {
        Answer::whole(Document {
            details: details || prefill,
            before,
            list: route == Route::Compatible,
        })
    };
    Ok(Accepted {
        prompts: vec![Generate::new(prompt, params)],
        answer,
    })
}

fn prompt(inputs: Option<Value>) -> Result<String, ServeError> {
    match inputs {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None => Err(ServeError::Malformed("missing field `inputs`".into())),
        Some(Value::String(_)) => Err(ServeError::Malformed("`inputs` cannot be empty".into())),
        Some(other) => Err(ServeError::parameter(
            "inputs",
            other,
            "`inputs` must be a string",
        )),
    }
}

/// `{"error":"…","error_type":"…"}`.
pub(crate) fn failure(failure: &ServeError) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body {
        error: String,
        error_type: &'static str,
    }
    let (error, error_type) = sentence(failure);
    serde_json::to_vec(&Body { error, error_type }).expect("a struct of texts serialises")
}

/// TGI's sentence for a failure, with what it leaves out, and its class.
fn sentence(failure: &ServeError) -> (String, &'static str) {
    let invalid = |text: String| (format!("Input validation error: {text}"), "validation");
    match failure {
        ServeError::Parameter {
            key,
            value,
            problem,
        } if problem.contains(&format!("`{key}`")) => invalid(format!("{problem}. Given: {value}")),
        ServeError::TooLong { prompt, new, limit } => invalid(format!(
            "`inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {prompt} `inputs` tokens \
             and {new} `max_new_tokens`"
        )),
        ServeError::PromptTooLong { prompt, limit } => invalid(format!(
            "`inputs` must have less than {limit} tokens. Given: {prompt}"
        )),
        ServeError::Malformed(_)
        | ServeError::Parameter { .. }
        | ServeError::BodyTooLarge { .. }
        | ServeError::Unnamed
        | ServeError::UnknownModel(_)
        | ServeError::UnknownRoute
        | ServeError::OtherTask { .. } => invalid(failure.to_string()),
        ServeError::QueueFull { .. }
        | ServeError::Crowded { .. }
        | ServeError::AdaptersInUse { .. } => ("Model is overloaded".into(), "overloaded"),
        ServeError::NoMemory { .. } => (failure.to_string(), "overloaded"),
        ServeError::Timeout { .. } | ServeError::Stalled { .. } => (
            format!("Incomplete generation: {failure}"),
            "incomplete_generation",
        ),
        ServeError::NotReady { .. } | ServeError::Draining | ServeError::WorkerLost { .. } => {
            (format!("unhealthy: {failure}"), "healthcheck")
        }
        ServeError::Engine { .. } | ServeError::BadAnswer { .. } => (
            format!("Request failed during generation: {failure}"),
            "generation",
        ),
    }
}

/// What `/info` tells of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info<'a> {
    /// The hub's name of the model, or that under which it is served.
    pub model_id: &'a str,
    /// Its commit on the hub.
    pub model_sha: Option<&'a str>,
    /// Requests that may be in the server at the same time.
    pub max_concurrent_requests: usize,
    /// The longest prompt, in tokens, if it is known.
    pub max_input_tokens: Option<usize>,
    /// The longest prompt and answer together, in tokens, if it is known.
    pub max_total_tokens: Option<usize>,
}

/// The body of `/info`, compact, with TGI's members in its order.
pub fn info(info: &Info<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        model_id: &'a str,
        model_sha: Option<&'a str>,
        model_pipeline_tag: &'a str,
        max_concurrent_requests: usize,
        max_best_of: usize,
        max_stop_sequences: usize,
        max_input_tokens: Option<usize>,
        max_total_tokens: Option<usize>,
        validation_workers: usize,
        max_client_batch_size: usize,
        router: &'a str,
        version: &'a str,
        sha: Option<&'a str>,
        docker_label: Option<&'a str>,
    }
    let body = Body {
        model_id: info.model_id,
        model_sha: info.model_sha,
        model_pipeline_tag: "text-generation",
        max_concurrent_requests: info.max_concurrent_requests,
        max_best_of: 1,
        max_stop_sequences: crate::parameters::MOST_STOP_SEQUENCES,
        max_input_tokens: info.max_input_tokens,
        max_total_tokens: info.max_total_tokens,
        // A request has one prompt, and whoever takes it off the connection reads it.
        validation_workers: 1,
        max_client_batch_size: 1,
        router: "sconce",
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    };
    serde_json::to_vec(&body).expect("a struct of texts and numbers serialises")
}

#[cfg(test)]
mod tests;
