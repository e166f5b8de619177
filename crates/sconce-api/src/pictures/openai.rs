//! OpenAI's `/v1/images/generations`; arguments of diffusers that it lacks may stand beside its own.

use sconce_core::{Answered, Ask, Draw, ServeError};
use serde_json::{Value, json};

use super::parameters::{format, guidance, seed, some_texts, steps};
use super::render::{in_base64, pictures};
use crate::dialect::Answer;
use crate::fields::Fields;
use crate::payload;
use crate::tasks::{AcceptedTask, TaskForm};

/// The most pictures, as there.
const MOST: i128 = 10;

/// Understands a request that came at `created`, in seconds since 1970.
pub fn generations(body: &[u8], created: u64) -> Result<AcceptedTask, ServeError> {
    let Value::Object(object) = payload::value(body)? else {
        let problem = "the body must be an object with `prompt`";
        return Err(ServeError::Malformed(problem.into()));
    };
    let mut fields = Fields::new(object);
    let Some(prompt) = fields.text("prompt")? else {
        let problem = "`prompt` is missing: it must be a text";
        return Err(ServeError::Malformed(problem.into()));
    };
    let count = fields.integer("n", 1..=MOST, "must be a whole number from 1 to 10")?;
    let [width, height] = size(fields.text("size")?)?;
    match fields.text("response_format")?.as_deref() {
        None | Some("b64_json") => {}
        Some(other) => {
            let problem = "must be b64_json: pictures are not kept under addresses";
            return Err(ServeError::parameter("response_format", other, problem));
        }
    }
    for (key, only) in [
        ("quality", ["auto", "standard"]),
        ("background", ["auto", "opaque"]),
    ] {
        if let Some(value) = fields
            .text(key)?
            .filter(|value| !only.contains(&value.as_str()))
        {
            let problem = format!("must be {}: this model knows no other", only.join(" or "));
            return Err(ServeError::parameter(key, value, problem));
        }
    }
    // Neither who asks nor the name of the only model changes what is answered.
    fields.text("user")?;
    fields.text("model")?;
    let draw = Draw {
        prompts: vec![prompt],
        negative: some_texts(&mut fields, "negative_prompt")?,
        images_per_prompt: count.map_or(1, |count| count as usize),
        steps: steps(&mut fields)?,
        guidance: guidance(&mut fields)?,
        seed: seed(&mut fields)?,
        format: format(&mut fields)?,
        height,
        width,
        ..Draw::default()
    };
    fields.finish(|_| None)?;
    Ok(AcceptedTask {
        asks: vec![Ask::Draw(Box::new(draw))],
        answer: Answer::Task(Box::new(Generations { created })),
    })
}

/// Width and height.
fn size(text: Option<String>) -> Result<[Option<usize>; 2], ServeError> {
    let Some(text) = text.filter(|text| text != "auto") else {
        return Ok([None, None]);
    };
    let side = |text: &str| text.parse().ok().filter(|side| (8..=8192).contains(side));
    let both = text
        .split_once('x')
        .and_then(|(width, height)| Some([side(width)?, side(height)?]));
    let problem = "must be auto, or width and height in pixels as in 512x768";
    match both {
        Some([width, height]) => Ok([Some(width), Some(height)]),
        None => Err(ServeError::parameter("size", text, problem)),
    }
}

/// OpenAI's list of pictures.
struct Generations {
    created: u64,
}

impl TaskForm for Generations {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let data = pictures(answers).map(|picture| json!({"b64_json": in_base64(picture)}));
        let format = pictures(answers)
            .next()
            .map(|picture| picture.format.name());
        let answer = json!({
            "created": self.created,
            "data": data.collect::<Vec<_>>(),
            "output_format": format,
        });
        answer.to_string().into_bytes()
    }
}
