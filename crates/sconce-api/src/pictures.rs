//! Requests for pictures and their answers, in the forms of DJL Serving's stable-diffusion handler of 2023: JSON
//! `{"prompt": …, "parameters": {…}}`, a text that is the prompt, or a form with a picture as `data` and the JSON as
//! `json`. Pictures may also be base64 within the JSON. Parameters are the arguments of diffusers' pipelines.
//!
//! One picture is answered as its file, several, or one where it is asked for, as JSON with base64; with `stream` there is
//! a line of JSON for every step before. `openai` is the same for OpenAI's route.

pub mod openai;
mod parameters;
mod render;
#[cfg(test)]
mod tests;

use mime::Mime;
use sconce_core::{Ask, Draw, Preview, ServeError};
use serde_json::{Map, Value};

use crate::content::{self, ROUTING, Raw};
use crate::dialect::Answer;
use crate::fields::Fields;
use crate::payload;
use crate::tasks::AcceptedTask;
use parameters::{Shape, picture, read};
use render::{Files, Lines};

/// Files of a form.
#[derive(Default)]
struct Attached {
    image: Option<Vec<u8>>,
    mask: Option<Vec<u8>>,
}

/// Understands a request, or says why not.
pub fn accept(raw: &Raw<'_>) -> Result<AcceptedTask, ServeError> {
    let (object, attached) = body(raw)?;
    let mut fields = Fields::new(object);
    let prompts = texts(&mut fields)?;
    let parameters = match fields.take("parameters") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => {
            let problem = "must be an object of names and values";
            return Err(ServeError::parameter("parameters", other, problem));
        }
    };
    let streams = fields.flag("stream")?.unwrap_or(false);
    let [image, mask] = [
        picture(&mut fields, "image")?,
        picture(&mut fields, "mask_image")?,
    ];
    fields.finish(|_| Some("arguments of the pipeline belong into `parameters`".to_owned()))?;
    let (mut draw, shape) = read(parameters)?;
    draw.prompts = prompts;
    for (key, found, given) in [
        ("image", &mut draw.image, [image, attached.image]),
        ("mask_image", &mut draw.mask, [mask, attached.mask]),
    ] {
        for file in given.into_iter().flatten() {
            if found.replace(file).is_some() {
                let problem = "is given twice; send it as a part of the form, or in JSON";
                return Err(ServeError::parameter(key, "a picture", problem));
            }
        }
    }
    Ok(answered(draw, shape, streams))
}

/// With the form that its answer has.
fn answered(mut draw: Draw, shape: Shape, streams: bool) -> AcceptedTask {
    draw.tells = streams.then(|| shape.preview_every.map_or(Preview::None, Preview::Every));
    let is_json = shape.is_json || draw.prompts.len() * draw.images_per_prompt != 1;
    let format = draw.format;
    let answer = match streams {
        true => Answer::Stream(Box::new(Lines)),
        false => Answer::Task(Box::new(Files { format, is_json })),
    };
    AcceptedTask {
        asks: vec![Ask::Draw(Box::new(draw))],
        answer,
    }
}

/// The prompt, a text or several.
fn texts(fields: &mut Fields) -> Result<Vec<String>, ServeError> {
    const PROBLEM: &str = "must be a text or a list of texts";
    let found = fields.take("prompt").or_else(|| fields.take("inputs"));
    match found {
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(items)) if !items.is_empty() => {
            let text = |item: Value| match item {
                Value::String(text) => Ok(text),
                other => Err(ServeError::parameter("prompt", other, PROBLEM)),
            };
            items.into_iter().map(text).collect()
        }
        Some(other) => Err(ServeError::parameter("prompt", other, PROBLEM)),
        None => Err(ServeError::Malformed(
            "the request has no prompt: send {\"prompt\": \"a text\", \"parameters\": {…}}".into(),
        )),
    }
}

/// The JSON of a body, and pictures beside it.
fn body(raw: &Raw<'_>) -> Result<(Map<String, Value>, Attached), ServeError> {
    if let Some(fields) = content::fields(raw)? {
        return form(fields);
    }
    let kind = raw
        .content_type
        .and_then(|value| value.parse::<Mime>().ok());
    match kind.as_ref().map(Mime::type_) {
        Some(mime::TEXT) => {
            let text = std::str::from_utf8(raw.body).map_err(|error| {
                ServeError::Malformed(format!("the prompt is not UTF-8: {error}"))
            })?;
            let prompt = Value::String(text.to_owned());
            Ok((Map::from_iter([("prompt".to_owned(), prompt)]), Attached::default()))
        }
        Some(mime::IMAGE) => Err(ServeError::Malformed(
            "a picture alone has no prompt: send multipart/form-data with the picture as `data` and \
             {\"prompt\": \"…\", \"parameters\": {…}} as `json`"
                .into(),
        )),
        _ => Ok((object(raw.body)?, Attached::default())),
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ServeError> {
    match payload::value(bytes)? {
        Value::Object(object) => Ok(object),
        other => Err(ServeError::parameter(
            "the body",
            other,
            "must be an object {\"prompt\": …, \"parameters\": {…}}, or text/plain",
        )),
    }
}

/// Parts of a form: `data` is a picture, `json` the request, others are its members.
fn form(fields: Vec<(String, bytes::Bytes)>) -> Result<(Map<String, Value>, Attached), ServeError> {
    let (mut all, mut attached) = (Map::new(), Attached::default());
    for (name, bytes) in fields {
        match name.as_str() {
            "data" | "image" => attached.image = Some(bytes.to_vec()),
            "mask" | "mask_image" => attached.mask = Some(bytes.to_vec()),
            "json" => all.extend(object(&bytes)?),
            routing if ROUTING.contains(&routing) => {}
            _ => {
                let text = std::str::from_utf8(&bytes).map_err(|error| {
                    ServeError::Malformed(format!("the part `{name}` is not UTF-8: {error}"))
                })?;
                // Arguments are JSON; a prompt is a text.
                let value = match name.as_str() {
                    "prompt" | "inputs" => Value::String(text.to_owned()),
                    _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
                };
                all.insert(name, value);
            }
        }
    }
    Ok((all, attached))
}
