//! Wrong requests are told what is wrong with them.

use serde_json::json;

use super::FOLDERS;

#[test]
fn wrong_requests_for_classes_say_what_is_wrong() {
    FOLDERS.refuse(
        "bert-text-classification",
        "",
        &[
            (json!({}), &["must be an object {\"text\""]),
            (json!({"inputs": []}), &["no input"]),
            (json!({"inputs": [1]}), &["`inputs` is 1"]),
            (
                json!({"inputs": "a", "parameters": {"top_k": 0}}),
                &["`top_k` is 0", "at least 1"],
            ),
            (
                json!({"inputs": "a", "parameters": {"topk": 2}}),
                &["`topk`", "did you mean `top_k`?"],
            ),
            (
                json!({"inputs": "a", "top_k": 2}),
                &["`top_k` is 2", "inside `parameters`"],
            ),
            (
                json!({"inputs": "a", "parameters": {"function_to_apply": "relu"}}),
                &["sigmoid, softmax"],
            ),
            (
                json!({"inputs": {"text": "a", "text_par": "b"}}),
                &["`text_par`", "text_pair"],
            ),
            (
                json!({"inputs": "a ".repeat(200)}),
                &["has 202 tokens", "takes 96", "truncation=true"],
            ),
        ],
    );
    FOLDERS.refuse("bert-token-classification", "", &[
        (json!({"inputs": "a", "parameters": {"stride": 3}}),
            &["`stride`", "aggregation_strategy"]),
        (json!({"inputs": "a ".repeat(200), "parameters": {"stride": 94, "aggregation_strategy": "max"}}),
            &["`stride` is 94", "94 tokens"]),
        (json!({"inputs": "a", "parameters": {"aggregation_strategy": "sum"}}),
            &["none, simple, first"]),
    ]);
}

#[test]
fn wrong_requests_for_other_tasks_say_what_is_wrong() {
    FOLDERS.refuse("bert-question-answering", "", &[
        (json!({"inputs": "a"}),
            &["question", "context"]),
        (json!({"question": "a"}),
            &["question", "context"]),
        (json!({"question": "", "context": "a"}),
            &["`question`", "cannot be empty"]),
        (json!({"question": "a ".repeat(200), "context": "b ".repeat(5)}),
            &["`question`", "has 200 tokens", "96"]),
        (json!({"inputs": {"question": "a", "context": "b"}, "parameters": {"max_seq_len": 400}}),
            &["at most 96"]),
    ]);
    FOLDERS.refuse(
        "bert-fill-mask",
        "",
        &[(json!({"inputs": "no mask"}), &["has no [MASK]"])],
    );
    FOLDERS.refuse("bert-zero-shot-classification", "", &[
        (json!({"inputs": "a"}),
            &["candidate_labels", "1 to"]),
        (json!({"inputs": "a", "parameters": {"candidate_labels": ["b"], "hypothesis_template": "c"}}),
            &["must contain {}"]),
    ]);
    FOLDERS.refuse(
        "bert-sentences",
        "",
        &[
            (
                json!({"inputs": "a", "parameters": {"dimensions": 25}}),
                &["`dimensions` is 25", "at most 24"],
            ),
            (
                json!({"inputs": "a", "parameters": {"prompt_name": "qery"}}),
                &["must be one of", "query"],
            ),
        ],
    );
    FOLDERS.refuse(
        "bert-ranking",
        "",
        &[
            (json!({"query": "a", "texts": []}), &["nothing to rank"]),
            (json!({"inputs": "a"}), &["text_pair"]),
        ],
    );
}
