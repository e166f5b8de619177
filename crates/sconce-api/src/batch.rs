//! The static batches: a list of prompts in, a list of texts with the prompts before them out.
//!
//! The DeepSpeed and Hugging Face handlers pass `parameters` to the method `generate` of
//! transformers, that of FasterTransformer has names of its own; `parameters` reads both. The
//! answer is a list even for one prompt. With `option.enable_streaming` each line has one piece
//! of text per prompt instead, see `stream`.

mod parameters;
mod stream;

use sconce_core::{Generate, MaxTokens, ServeError};
use serde::Serialize;

use crate::beams;
use crate::dialect::{Accepted, Answer, Finished, Whole};
use crate::json;
use crate::payload::Payload;

use parameters::Asked;
use stream::Lines;

/// A request of the DeepSpeed and Hugging Face handlers.
pub(crate) fn generate(payload: Payload<'_>, streaming: bool) -> Result<Accepted, ServeError> {
    accept(payload, streaming, &parameters::GENERATE)
}

/// A request of the FasterTransformer handler.
pub(crate) fn faster_transformer(
    payload: Payload<'_>,
    streaming: bool,
) -> Result<Accepted, ServeError> {
    accept(payload, streaming, &parameters::FASTER_TRANSFORMER)
}

fn accept(
    mut payload: Payload<'_>,
    streaming: bool,
    parameters: &parameters::Schema,
) -> Result<Accepted, ServeError> {
    payload.refuse_chat()?;
    let prompts = payload.prompts()?.texts;
    let inner = payload.parameters()?;
    // Clients of other dialects send it; a static batch streams by configuration only.
    payload.fields.flag("stream")?;
    payload.finish(&parameters.names())?;
    let Asked {
        mut params,
        full_text,
    } = parameters.read(inner)?;
    beams::refuse_stream("num_beams", params.beams.as_ref(), streaming)?;
    if streaming {
        parameters.adapt_to_streaming(&mut params);
    }
    params.report.echo = full_text && !streaming;
    let count = prompts.len();
    let generate = |prompt: String| Generate::new(prompt, params.clone());
    Ok(Accepted {
        prompts: prompts.into_iter().map(generate).collect(),
        answer: if streaming {
            Answer::stream(Lines::new(count))
        } else {
            Answer::whole(Texts)
        },
    })
}

/// Generated texts, each after its prompt if that was asked for.
struct Texts;

impl Whole for Texts {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn keeps_tokens(&self) -> bool {
        false
    }

    fn body(&self, finished: &[Finished]) -> Vec<u8> {
        #[derive(Serialize)]
        struct Text {
            generated_text: String,
        }
        let text = |Finished { output, .. }: &Finished| Text {
            generated_text: format!("{}{}", output.echo, output.text),
        };
        let texts = finished.iter().flat_map(Finished::texts);
        json::indented(&texts.map(text).collect::<Vec<_>>())
    }
}

/// What DJL generates where a request does not say: by its own loop for streams, and by
/// FasterTransformer.
const UNSAID: MaxTokens = MaxTokens::New(50);

#[cfg(test)]
mod tests;
