//! Answers with pictures: the file itself, JSON, or lines of JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sconce_core::task::TaskAnswer;
use sconce_core::{Answered, Output, Picture, PictureFormat, Progressed, ServeError, Token};
use serde::Serialize;
use serde_json::{Value, json};

use crate::dialect::Stream;
use crate::tasks::TaskForm;

/// Files, or one as it is.
pub(super) struct Files {
    pub(super) format: PictureFormat,
    pub(super) is_json: bool,
}

/// The pictures of all answers.
pub(super) fn pictures(answers: &[Answered]) -> impl Iterator<Item = &Picture> {
    answers.iter().flat_map(|answered| match &answered.answer {
        TaskAnswer::Pictures(pictures) => pictures.as_slice(),
        _ => &[],
    })
}

/// A file in base64.
pub(super) fn in_base64(picture: &Picture) -> String {
    BASE64_STANDARD.encode(&picture.bytes)
}

impl TaskForm for Files {
    fn content_type(&self) -> &'static str {
        match self.is_json {
            true => "application/json",
            false => self.format.content_type(),
        }
    }

    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        if self.is_json {
            return whole(pictures(answers)).to_string().into_bytes();
        }
        pictures(answers)
            .next()
            .map(|picture| picture.bytes.clone())
            .unwrap_or_default()
    }
}

/// All pictures as JSON, with the seed, and what the safety checker said of each.
fn whole<'a>(pictures: impl Iterator<Item = &'a Picture>) -> Value {
    let pictures: Vec<&Picture> = pictures.collect();
    let images: Vec<String> = pictures.iter().map(|picture| in_base64(picture)).collect();
    let mut answer = json!({
        "images": images,
        "output_format": pictures.first().map(|picture| picture.format.name()),
        "seed": pictures.first().map(|picture| picture.seed),
    });
    let flagged: Option<Vec<bool>> = pictures.iter().map(|picture| picture.flagged).collect();
    if let (Some(flagged), Some(object)) = (flagged, answer.as_object_mut()) {
        object.insert("nsfw_content_detected".into(), flagged.into());
    }
    answer
}

/// A line for every step, and one with the pictures.
pub(super) struct Lines;

/// A step.
#[derive(Serialize)]
struct Step {
    step: usize,
    steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<String>,
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl Stream for Lines {
    fn content_type(&self) -> &'static str {
        "application/jsonlines"
    }

    fn token(&mut self, _: usize, _: Token) -> Vec<u8> {
        Vec::new()
    }

    fn done(&mut self, _: usize, _: &Output) -> Vec<u8> {
        Vec::new()
    }

    fn progress(&mut self, _: usize, progressed: &Progressed) -> Vec<u8> {
        line(&Step {
            step: progressed.step,
            steps: progressed.steps,
            preview: progressed.preview.as_ref().map(in_base64),
        })
    }

    fn answered(&mut self, _: usize, answered: &Answered) -> Vec<u8> {
        line(&whole(pictures(std::slice::from_ref(answered))))
    }

    fn fail(&mut self, error: &ServeError, code: u16) -> Vec<u8> {
        line(&json!({"error": error.to_string(), "code": code}))
    }
}
