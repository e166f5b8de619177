//! Requests of each task for a text, in several forms; the first is the plain one.

use serde_json::{Value, json};

/// Requests of a task for a text; `name` is the folder, whose model may want languages named.
pub(super) fn of(task: &str, name: &str, text: &str) -> Vec<Value> {
    match task {
        "question-answering" => vec![
            json!({"inputs": {"question": text, "context": "The candle is cold."}}),
            json!({"inputs": {"question": "What?", "context": text}, "parameters": {"handle_impossible_answer": true}}),
            json!({"inputs": {"question": text, "context": text}, "parameters": {"max_seq_len": 20, "doc_stride": 3}}),
        ],
        "fill-mask" => vec![
            json!({"inputs": format!("[MASK] {text} [MASK]"), "parameters": {"tokenizer_kwargs": {"truncation": true}}}),
            json!({"inputs": text}),
            json!({"inputs": "a [MASK]", "parameters": {"targets": [text, "hall"]}}),
        ],
        "token-classification" => vec![
            json!({"inputs": text}),
            json!({"inputs": text, "parameters": {"aggregation_strategy": "average"}}),
            json!({"inputs": text, "parameters": {"aggregation_strategy": "simple", "stride": 5}}),
        ],
        "zero-shot-classification" => vec![
            json!({"inputs": text, "parameters": {"candidate_labels": ["a", "b"]}}),
            json!({"inputs": "a", "parameters": {"candidate_labels": [text, "b"], "multi_label": true}}),
            json!({"inputs": "a", "parameters": {"candidate_labels": text, "hypothesis_template": text}}),
        ],
        "text-embedding" => vec![
            json!({"inputs": text}),
            json!({"inputs": [text, text], "parameters": {"truncate": false, "dimensions": 3}}),
            json!({"inputs": "a", "parameters": {"prompt_name": text}}),
        ],
        "sentence-similarity" => vec![
            json!({"inputs": {"source_sentence": text, "sentences": ["a", text]}}),
            json!({"inputs": {"source_sentence": "a", "sentences": [text]}}),
            json!({"inputs": {"source_sentence": text, "sentences": []}}),
        ],
        "text-ranking" => vec![
            json!({"query": text, "texts": ["a", text]}),
            json!([{"text": text, "text_pair": text}]),
            json!({"inputs": {"query": "a", "texts": [text]}, "parameters": {"truncation": false}}),
        ],
        "text-classification" | "feature-extraction" => vec![
            json!({"inputs": text}),
            json!({"inputs": [text, "fine"], "parameters": {"truncation": true}}),
            json!({"inputs": text, "parameters": {"truncation": true, "max_length": 3}}),
        ],
        "conversational" => vec![
            json!({"inputs": {"text": text}, "parameters": {"max_new_tokens": 3}}),
            json!({"inputs": {"text": "a", "past_user_inputs": [text], "generated_responses": [text]},
                   "parameters": {"max_new_tokens": 2}}),
            json!({"inputs": [{"role": "system", "content": text}, {"role": "user", "content": text}],
                   "parameters": {"max_new_tokens": 2, "stop_sequence": text}}),
        ],
        _ => written(name, text),
    }
}

/// Requests for texts that a model writes.
fn written(name: &str, text: &str) -> Vec<Value> {
    let languages = match name.split('-').next() {
        Some("nllb") => json!({"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}),
        Some("mbart") => json!({"src_lang": "en_XX", "tgt_lang": "de_DE"}),
        _ => json!({}),
    };
    let with = |mut parameters: Value| {
        let all = parameters.as_object_mut().unwrap();
        all.extend(languages.as_object().unwrap().clone());
        parameters
    };
    vec![
        json!({"inputs": text, "parameters": with(json!({"max_new_tokens": 4}))}),
        json!({"inputs": [text, "fine"], "parameters": with(json!({"truncation": true, "max_new_tokens": 3, "num_beams": 1}))}),
        json!({"inputs": "fine", "parameters": with(json!({"max_new_tokens": 3, "stop_sequence": text}))}),
    ]
}
