//! The arguments of diffusers' pipelines. Ranges that do not depend on the model are checked here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sconce_core::{Draw, PictureFormat, ServeError};
use serde_json::{Map, Value};

use crate::fields::Fields;

/// The most steps of any scheduler: as many as models are trained with.
const MOST_STEPS: i128 = 1000;

/// The most pictures of a text; the model may allow fewer.
const MOST_IMAGES: i128 = 64;

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// As JSON, also one picture.
    pub(super) is_json: bool,
    /// With a picture of what there is every so many steps.
    pub(super) preview_every: Option<usize>,
}

/// Reads `parameters`; every key must be understood.
pub(super) fn read(parameters: Map<String, Value>) -> Result<(Draw, Shape), ServeError> {
    let mut fields = Fields::new(parameters);
    let size = |fields: &mut Fields, key: &'static str| {
        let problem = "must be a number of pixels from 8 to 8192";
        let found = fields.integer(key, 8..=8192, problem)?;
        Ok::<_, ServeError>(found.map(|side| side as usize))
    };
    let images = "must be a whole number from 1 to 64";
    let draw = Draw {
        prompts: Vec::new(),
        prompts_2: some_texts(&mut fields, "prompt_2")?,
        negative: some_texts(&mut fields, "negative_prompt")?,
        negative_2: some_texts(&mut fields, "negative_prompt_2")?,
        images_per_prompt: fields
            .integer("num_images_per_prompt", 1..=MOST_IMAGES, images)?
            .map_or(1, |images| images as usize),
        steps: steps(&mut fields)?,
        guidance: guidance(&mut fields)?,
        guidance_rescale: number(&mut fields, "guidance_rescale", 0.0..=1.0, "from 0 to 1")?
            .unwrap_or(0.0),
        height: size(&mut fields, "height")?,
        width: size(&mut fields, "width")?,
        seed: seed(&mut fields)?,
        strength: number(&mut fields, "strength", 0.0..=1.0, "from 0 to 1")?,
        eta: number(&mut fields, "eta", 0.0..=1.0, "from 0 to 1")?.unwrap_or(0.0),
        clip_skip: fields
            .integer(
                "clip_skip",
                0..=64,
                "must be a number of layers from 0 to 64",
            )?
            .map(|skip| skip as usize),
        scheduler: fields.text("scheduler")?,
        image: picture(&mut fields, "image")?,
        mask: picture(&mut fields, "mask_image")?,
        original_size: pair(&mut fields, "original_size")?,
        target_size: pair(&mut fields, "target_size")?,
        crop: pair(&mut fields, "crops_coords_top_left")?.unwrap_or_default(),
        aesthetic_scores: [
            number(&mut fields, "aesthetic_score", 0.0..=100.0, "from 0 to 100")?,
            number(
                &mut fields,
                "negative_aesthetic_score",
                0.0..=100.0,
                "from 0 to 100",
            )?,
        ],
        format: format(&mut fields)?,
        tells: None,
    };
    let every = "must be a number of steps of at least 1";
    let shape = Shape {
        is_json: match fields.text("response_format")?.as_deref() {
            None | Some("image") => false,
            Some("b64_json") => true,
            Some(other) => {
                let problem = "must be image, or b64_json for JSON with pictures in base64";
                return Err(ServeError::parameter("response_format", other, problem));
            }
        },
        preview_every: fields
            .integer("preview_every", 1..=MOST_STEPS, every)?
            .map(|every| every as usize),
    };
    fields.finish(cure)?;
    Ok((draw, shape))
}

/// What to do about arguments of pipelines that are not taken.
fn cure(key: &str) -> Option<String> {
    let text = match key {
        "generator" => "is an object of torch; send `seed`",
        "output_type" => {
            "is png here; `output_format` says otherwise, and `response_format` asks for JSON"
        }
        "prompt_embeds" | "negative_prompt_embeds" | "latents" => {
            "is a tensor; send texts and a `seed`"
        }
        "ip_adapter_image" | "cross_attention_kwargs" => {
            "belongs to adapters, which are not served"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The format of files.
pub(super) fn format(fields: &mut Fields) -> Result<PictureFormat, ServeError> {
    match fields.text("output_format")?.as_deref() {
        None => Ok(PictureFormat::default()),
        Some("jpg") => Ok(PictureFormat::Jpeg),
        Some(name) => {
            let found = PictureFormat::ALL
                .into_iter()
                .find(|format| format.name() == name);
            let problem = "must be png, jpeg or webp";
            found.ok_or_else(|| ServeError::parameter("output_format", name, problem))
        }
    }
}

/// Steps of the scheduler.
pub(super) fn steps(fields: &mut Fields) -> Result<Option<usize>, ServeError> {
    let problem = "must be a whole number from 1 to 1000, the steps that models are trained with";
    let found = fields.integer("num_inference_steps", 1..=MOST_STEPS, problem)?;
    Ok(found.map(|steps| steps as usize))
}

/// How much the prompt counts.
pub(super) fn guidance(fields: &mut Fields) -> Result<Option<f64>, ServeError> {
    number(fields, "guidance_scale", 0.0..=1000.0, "from 0 to 1000")
}

/// The seed of torch's generator; negative ones count from the end, as there.
pub(super) fn seed(fields: &mut Fields) -> Result<Option<u64>, ServeError> {
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    let problem = "must be a whole number of 64 bits, as torch's manual_seed takes";
    let found = fields.integer("seed", range, problem)?;
    Ok(found.map(|seed| seed as u64))
}

/// A number within a range, in double precision.
pub(super) fn number(
    fields: &mut Fields,
    key: &'static str,
    range: std::ops::RangeInclusive<f64>,
    words: &str,
) -> Result<Option<f64>, ServeError> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    let found = value.as_f64().filter(|number| range.contains(number));
    let problem = || format!("must be a number {words}");
    match found {
        Some(number) => Ok(Some(number)),
        None => Err(ServeError::parameter(key, value, problem())),
    }
}

/// A text, or several; they may be empty.
pub(super) fn some_texts(
    fields: &mut Fields,
    key: &'static str,
) -> Result<Vec<String>, ServeError> {
    let problem = "must be a text or a list of texts";
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(ServeError::parameter(key, other, problem)),
    };
    match fields.take(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.into_iter().map(text).collect(),
        Some(one) => Ok(vec![text(one)?]),
    }
}

fn pair(fields: &mut Fields, key: &'static str) -> Result<Option<[usize; 2]>, ServeError> {
    let Some(value) = fields.take(key) else {
        return Ok(None);
    };
    let side = |item: &Value| {
        item.as_u64()
            .filter(|side| *side <= 65536)
            .map(|side| side as usize)
    };
    let both = value.as_array().and_then(|items| match items.as_slice() {
        [one, other] => Some([side(one)?, side(other)?]),
        _ => None,
    });
    match both {
        Some(both) => Ok(Some(both)),
        None => {
            let problem = "must be a list of two numbers of pixels, height before width";
            Err(ServeError::parameter(key, value, problem))
        }
    }
}

/// A file as base64, or as a data URL.
pub(super) fn picture(
    fields: &mut Fields,
    key: &'static str,
) -> Result<Option<Vec<u8>>, ServeError> {
    let Some(text) = fields.text(key)? else {
        return Ok(None);
    };
    let encoded = match text.split_once(";base64,") {
        Some((head, encoded)) if head.starts_with("data:") => encoded,
        _ => text.as_str(),
    };
    let packed: String = encoded
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    let problem = "must be the file of a picture in base64; addresses are not fetched";
    match BASE64_STANDARD.decode(packed) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(ServeError::parameter(key, text, problem)),
    }
}
