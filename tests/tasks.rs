//! The tasks of encoders over HTTP: the answers of transformers' pipelines on every folder of `models/tasks`, and what
//! bad requests get.

mod logits;
mod minilm;
mod routes;
mod wrong;

use serde::Deserialize;

use crate::folders::{Folders, Golden as OfFolder};

pub(crate) const FOLDERS: Folders = Folders {
    path: "tasks",
    least: 60,
};

type Golden = OfFolder<Run>;

/// Texts, their tokens, and the model's numbers.
#[derive(Deserialize)]
struct Run {
    text: String,
    pair: Option<String>,
    ids: Vec<u32>,
    types: Vec<u32>,
    rows: Vec<Vec<f32>>,
}

#[test]
fn every_answer_is_that_of_the_pipeline() {
    FOLDERS.compare_answers();
}

#[test]
fn a_text_among_others_gets_the_bytes_that_it_gets_alone() {
    let properties = "batch_size=64\noption.max_batch_tokens=50\nmax_batch_delay=5";
    for name in [
        "bert-text-classification",
        "modernbert-token-classification",
        "deberta-fill-mask",
    ] {
        FOLDERS.compare_company(name, properties);
    }
}
