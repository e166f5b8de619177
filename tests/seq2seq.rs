//! Models that read a text and write another: the numbers, the tokens and the answers of transformers on every folder of
//! `models/seq2seq`, and what bad requests get.

mod model;
mod streams;
mod tokens;
mod wrong;

use serde::Deserialize;

use crate::folders::{Folders, Golden as OfFolder};

pub(crate) const FOLDERS: Folders = Folders {
    path: "seq2seq",
    least: 14,
};

type Golden = OfFolder<Run>;

/// A text, what the decoder is given, and the logits behind each of its tokens.
#[derive(Deserialize)]
struct Run {
    text: String,
    ids: Vec<u32>,
    given: Vec<u32>,
    rows: Vec<Vec<f32>>,
}

#[test]
fn every_answer_is_that_of_the_pipeline() {
    FOLDERS.compare_answers();
}

#[test]
fn a_text_among_others_gets_the_bytes_that_it_gets_alone() {
    for name in [
        "t5-summarization",
        "bart-text2text-generation",
        "nllb-translation",
    ] {
        FOLDERS.compare_company(name, "option.max_rolling_batch_size=9");
    }
}

#[test]
fn a_model_on_two_ranks_answers_as_one_does() {
    for name in ["nllb-translation", "wide-t5-text2text-generation"] {
        FOLDERS.compare_company(
            name,
            "option.tensor_parallel_degree=2\noption.max_rolling_batch_size=9",
        );
        FOLDERS.compare_one(name, "option.tensor_parallel_degree=2");
    }
}
