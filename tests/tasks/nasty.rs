//! Texts that nobody expects get an answer or an error of their own, never a panic, and leave the server as it was.

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use super::{golden, serve};

/// About seventy texts: empty, short, long, strange.
pub(crate) fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\n",
        "\t \u{a0}\u{2003}",
        "x",
        "é",
        "\u{301}",
        "🕯",
        "👩‍👩‍👧‍👦🏽",
        "\u{0}",
        "a\u{0}b\u{0}",
        "\u{feff}",
        "\u{202e}abc\u{202c}",
        "שלום עולם",
        "مرحبا بالعالم 42",
        "العربية and English",
        "日本語のテキスト",
        "ไทย",
        "한국어",
        "\u{fffd}\u{fffe}",
        "\u{10ffff}",
        "'\"\\/\u{8}\u{c}\r\n",
        "<b>&amp;</b>",
        "[CLS] [SEP] [PAD] [UNK]",
        "<s></s><pad><unk>",
        "##ing ##ed",
        "Ġ▁",
        "{}",
        "{\"inputs\": 1}",
        "null",
        "NaN",
        "-1e999",
        "....",
        "?!?!?!",
        "a-b_c/d\\e",
        "1234567890",
        "½ ⅓ ² ³ ﬁ ﬀ",
        "İıſK",
        "ß ẞ SS",
        "ＦＵＬＬＷＩＤＴＨ",
        "e\u{301}\u{301}\u{301}\u{301}",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(
        [
            "word ",
            "🕯",
            "日",
            "\u{301}",
            " ",
            "[MASK]",
            "a",
            "\n",
            "שלום ",
        ]
        .map(|part| part.repeat(300)),
    );
    texts.push("candle ".repeat(10_000));
    texts.push("x".repeat(100_000));
    texts.push((1..0x300).filter_map(char::from_u32).collect());
    texts.push((0x1f300..0x1f400).filter_map(char::from_u32).collect());
    for seed in 0..16u32 {
        let mut state = seed + 1;
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *state >> 8
        };
        let len = 1 + next(&mut state) % 40;
        texts.push(
            (0..len)
                .filter_map(|_| char::from_u32(next(&mut state) % 0x11_0000))
                .collect(),
        );
    }
    texts
}

/// The request of a task for a text, in several forms.
fn bodies(task: &str, text: &str) -> Vec<Value> {
    match task {
        "question-answering" => vec![
            json!({"inputs": {"question": text, "context": "The candle is cold."}}),
            json!({"inputs": {"question": "What?", "context": text}, "parameters": {"handle_impossible_answer": true}}),
            json!({"inputs": {"question": text, "context": text}, "parameters": {"max_seq_len": 20, "doc_stride": 3}}),
        ],
        "fill-mask" => vec![
            json!({"inputs": text}),
            json!({"inputs": format!("[MASK] {text} [MASK]"), "parameters": {"tokenizer_kwargs": {"truncation": true}}}),
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
        "text-ranking" => vec![
            json!({"query": text, "texts": ["a", text]}),
            json!([{"text": text, "text_pair": text}]),
            json!({"inputs": {"query": "a", "texts": [text]}, "parameters": {"truncation": false}}),
        ],
        _ => vec![
            json!({"inputs": text}),
            json!({"inputs": [text, "fine"], "parameters": {"truncation": true}}),
            json!({"inputs": text, "parameters": {"truncation": true, "max_length": 3}}),
        ],
    }
}

const FOLDERS: [&str; 11] = [
    "bert-text-classification",
    "roberta-text-classification",
    "xlm-roberta-token-classification",
    "bert-token-classification",
    "deberta-question-answering",
    "roberta-question-answering",
    "bert-fill-mask",
    "modernbert-feature-extraction",
    "bert-zero-shot-classification",
    "roberta-sentences",
    "bert-ranking",
];

#[test]
fn strange_texts_get_an_answer_or_an_error_of_their_own() {
    for name in FOLDERS {
        let golden = golden(name);
        let serving = serve(name, &format!("option.task={}", golden.task));
        let client = Client::new(serving.server.address());
        let good = &golden.requests[0];
        let good = json!({"inputs": good.inputs, "parameters": good.parameters});
        let before = client.post("/invocations", &good).unwrap().body;
        let (mut answered, mut refused) = (0, 0);
        for text in texts() {
            for body in bodies(&golden.task, &text) {
                let answer = client.post("/invocations", &body).unwrap();
                let shown: String = body.to_string().chars().take(160).collect();
                match answer.status {
                    200 => answered += 1,
                    424 => {
                        let told = answer.json().unwrap();
                        let text = told["error"].as_str().unwrap_or_default();
                        assert!(
                            text.len() > 20 && !text.contains("panic"),
                            "{name}, {shown}: {told}"
                        );
                        assert_eq!(told["code"], 424, "{name}, {shown}");
                        refused += 1;
                    }
                    other => panic!("{name}, {shown}: {other} {:?}", answer.json()),
                }
            }
        }
        assert!(
            answered > 50,
            "{name}: {answered} answered, {refused} refused"
        );
        assert_eq!(
            client.post("/invocations", &good).unwrap().body,
            before,
            "{name}"
        );
        let log = serving.server.log();
        assert!(!log.contains("panicked"), "{name}: {log}");
    }
}

/// A folder, a body, and parts of what is said of it.
type Wrong = (&'static str, Value, &'static [&'static str]);

fn wrong_for_classes() -> Vec<Wrong> {
    vec![
        (
            "bert-text-classification",
            json!({}),
            &["must be an object {\"text\""],
        ),
        (
            "bert-text-classification",
            json!({"inputs": []}),
            &["no input"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": [1]}),
            &["`inputs` is 1"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": "a", "parameters": {"top_k": 0}}),
            &["`top_k` is 0", "at least 1"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": "a", "parameters": {"topk": 2}}),
            &["`topk`", "did you mean `top_k`?"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": "a", "top_k": 2}),
            &["`top_k` is 2", "inside `parameters`"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": "a", "parameters": {"function_to_apply": "relu"}}),
            &["sigmoid, softmax"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": {"text": "a", "text_par": "b"}}),
            &["`text_par`", "text_pair"],
        ),
        (
            "bert-text-classification",
            json!({"inputs": "a ".repeat(200)}),
            &["has 202 tokens", "takes 96", "truncation=true"],
        ),
        (
            "bert-token-classification",
            json!({"inputs": "a", "parameters": {"stride": 3}}),
            &["`stride`", "aggregation_strategy"],
        ),
        (
            "bert-token-classification",
            json!({"inputs": "a ".repeat(200), "parameters": {"stride": 94, "aggregation_strategy": "max"}}),
            &["`stride` is 94", "94 tokens"],
        ),
        (
            "bert-token-classification",
            json!({"inputs": "a", "parameters": {"aggregation_strategy": "sum"}}),
            &["none, simple, first"],
        ),
    ]
}

fn wrong_for_other_tasks() -> Vec<Wrong> {
    vec![
        (
            "bert-question-answering",
            json!({"inputs": "a"}),
            &["question", "context"],
        ),
        (
            "bert-question-answering",
            json!({"question": "a"}),
            &["question", "context"],
        ),
        (
            "bert-question-answering",
            json!({"question": "", "context": "a"}),
            &["`question`", "cannot be empty"],
        ),
        (
            "bert-question-answering",
            json!({"question": "a ".repeat(200), "context": "b ".repeat(5)}),
            &["`question`", "has 200 tokens", "96"],
        ),
        (
            "bert-question-answering",
            json!({"inputs": {"question": "a", "context": "b"}, "parameters": {"max_seq_len": 400}}),
            &["at most 96"],
        ),
        (
            "bert-fill-mask",
            json!({"inputs": "no mask"}),
            &["has no [MASK]"],
        ),
        (
            "bert-zero-shot-classification",
            json!({"inputs": "a"}),
            &["candidate_labels", "1 to"],
        ),
        (
            "bert-zero-shot-classification",
            json!({"inputs": "a", "parameters": {"candidate_labels": ["b"], "hypothesis_template": "c"}}),
            &["must contain {}"],
        ),
        (
            "bert-sentences",
            json!({"inputs": "a", "parameters": {"dimensions": 25}}),
            &["`dimensions` is 25", "at most 24"],
        ),
        (
            "bert-sentences",
            json!({"inputs": "a", "parameters": {"prompt_name": "qery"}}),
            &["must be one of", "query"],
        ),
        (
            "bert-ranking",
            json!({"query": "a", "texts": []}),
            &["nothing to rank"],
        ),
        ("bert-ranking", json!({"inputs": "a"}), &["text_pair"]),
    ]
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let cases = [wrong_for_classes(), wrong_for_other_tasks()].concat();
    let mut served: Option<(&str, super::Serving)> = None;
    for (name, body, parts) in &cases {
        if served.as_ref().is_none_or(|(served, _)| served != name) {
            served = Some((
                name,
                serve(name, &format!("option.task={}", golden(name).task)),
            ));
        }
        let (_, serving) = served.as_ref().unwrap();
        let answer = Client::new(serving.server.address())
            .post("/invocations", body)
            .unwrap();
        let told = answer.json().unwrap();
        assert_eq!(answer.status, 424, "{name}, {body}: {told}");
        for part in *parts {
            assert!(
                told["error"].as_str().unwrap_or_default().contains(part),
                "{name}, {body}: {part} is not in {told}"
            );
        }
    }
}
