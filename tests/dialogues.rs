//! Dialogues answered by a model that only continues texts, as transformers' pipeline answered them; what it cannot keep to
//! is named, and a checkpoint without a template does not start.

use std::process::Command;

use serde_json::{Value, json};

use crate::folders::Folders;
use crate::support::{PROGRAM, failed_start};

pub(crate) const FOLDERS: Folders = Folders {
    path: "dialogues",
    least: 1,
};

const GPT2: &str = "gpt2-conversational";

#[test]
fn every_answer_is_that_of_the_pipeline() {
    FOLDERS.compare_answers();
}

#[test]
fn a_dialogue_among_others_gets_the_bytes_that_it_gets_alone() {
    FOLDERS.compare_company(GPT2, "option.max_rolling_batch_size=9");
}

#[test]
fn what_cannot_be_kept_to_is_named() {
    let asked = |parameters: Value| json!({"inputs": {"text": "a"}, "parameters": parameters});
    FOLDERS.refuse(
        GPT2,
        "",
        &[
            (
                asked(json!({"num_beams": 2, "do_sample": true})),
                &["`do_sample` is true", "num_beams above 1"],
            ),
            (
                asked(json!({"no_repeat_ngram_size": 3})),
                &["`no_repeat_ngram_size` is 3", "leave it out"],
            ),
            (asked(json!({"bad_words_ids": [[5]]})), &["`bad_words_ids`"]),
            (asked(json!({"truncation": true})), &["`truncation`"]),
            (
                asked(json!({"stop_sequence": ""})),
                &["`stop_sequence`", "no tokens"],
            ),
            (
                asked(json!({"eos_token_id": 100_000})),
                &["`eos_token_id`", "100000", "vocabulary ends at"],
            ),
            (json!({"inputs": {"text": "candle ".repeat(400)}}), &["160"]),
            (
                json!({"inputs": [{"role": "assistant", "content": "a"}]}),
                &["must end with a message of the user"],
            ),
        ],
    );
}

#[test]
fn a_checkpoint_without_a_template_answers_no_dialogues_and_check_says_so() {
    let folder = crate::support::tiny("gpt2");
    let told = failed_start(&folder, "option.task=conversational", |_| {});
    assert!(
        told.contains("conversational needs a chat_template")
            && told.contains("tokenizer_config.json"),
        "{told}"
    );
    let output = Command::new(PROGRAM)
        .args(["check", "--json"])
        .arg(&folder)
        .env("OPTION_TASK", "conversational")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["reasons"][0]["code"], "template-missing", "{report}");
}
