//! Other routes and forms: OpenAI's and TEI's, CSV, the task that a folder says by itself, and what does not fit.

use std::path::Path;
use std::process::Command;

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use super::FOLDERS;
use crate::folders::difference;
use crate::support::{PROGRAM, edit, failed_start, ready};

fn vectors(name: &str, parameters: &Value) -> Value {
    let golden = FOLDERS.golden::<Value>(name);
    let found = golden
        .requests
        .iter()
        .find(|request| request.parameters == *parameters);
    found.unwrap().answer.clone()
}

#[test]
fn openai_s_embeddings_are_normalised_and_counted() {
    let golden = FOLDERS.golden::<Value>("bert-sentences");
    let serving = FOLDERS.serve("bert-sentences", "");
    let client = Client::new(serving.address());
    let texts = &golden.requests[0].inputs;
    let answer = client
        .post("/v1/embeddings", &json!({"input": texts, "model": "m"}))
        .unwrap();
    let body = answer.json().unwrap();
    assert_eq!(answer.status, 200, "{body}");
    let got: Vec<Value> = body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["embedding"].clone())
        .collect();
    assert_eq!(
        difference(&Value::from(got), &golden.requests[0].answer, "data"),
        None
    );
    assert_eq!(
        (&body["object"], &body["model"], &body["data"][2]["index"]),
        (&json!("list"), &json!("m"), &json!(2))
    );
    assert!(body["usage"]["prompt_tokens"].as_u64() > Some(20), "{body}");
    let base64 = json!({"input": texts[0], "encoding_format": "base64"});
    let body = client
        .post("/v1/embeddings", &base64)
        .unwrap()
        .json()
        .unwrap();
    let text = body["data"][0]["embedding"].as_str().unwrap().to_owned();
    // 24 numbers of 4 bytes.
    assert_eq!(text.len(), 128);
    let short = client
        .post(
            "/v1/embeddings",
            &json!({"input": texts[1], "dimensions": 5}),
        )
        .unwrap()
        .json()
        .unwrap();
    let want = vectors("bert-sentences", &json!({"dimensions": 5}));
    assert_eq!(
        difference(&short["data"][0]["embedding"], &want[0], "data"),
        None
    );
    let ids = json!({"input": [[2, 9, 3], [2, 3]]});
    let body = client.post("/v1/embeddings", &ids).unwrap().json().unwrap();
    assert_eq!(body["usage"]["total_tokens"], 5);
    for (bad, part) in [
        (json!({}), "`input` is missing"),
        (json!({"input": [[2, 100_000]]}), "the vocabulary ends at"),
        (json!({"input": "a ".repeat(300)}), "tokens"),
        (
            json!({"input": "a", "encoding_format": "int8"}),
            "float or base64",
        ),
    ] {
        let answer = client.post("/v1/embeddings", &bad).unwrap();
        let body = answer.json().unwrap();
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(
            body["error"]["message"].as_str().unwrap().contains(part),
            "{body}"
        );
    }
}

#[test]
fn tei_s_routes_embed_rank_and_predict() {
    let golden = FOLDERS.golden::<Value>("bert-sentences");
    let serving = FOLDERS.serve("bert-sentences", "");
    let client = Client::new(serving.address());
    let texts = &golden.requests[0].inputs;
    let got = client
        .post("/embed", &json!({"inputs": texts}))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(difference(&got, &golden.requests[0].answer, "embed"), None);
    let long = client
        .post("/embed", &json!({"inputs": "a ".repeat(300)}))
        .unwrap();
    assert_eq!(
        (long.status, &long.json().unwrap()["error_type"]),
        (422, &json!("Validation"))
    );
    let cut = json!({"inputs": "a ".repeat(300), "truncate": true});
    assert_eq!(client.post("/embed", &cut).unwrap().status, 200);
    assert_eq!(
        client
            .post("/rerank", &json!({"query": "a", "texts": ["b"]}))
            .unwrap()
            .status,
        422
    );
    let ranker = FOLDERS.golden::<Value>("bert-ranking");
    let serving = FOLDERS.serve("bert-ranking", "");
    let client = Client::new(serving.address());
    let inputs = &ranker.requests[0].inputs;
    let body = json!({"query": inputs["query"], "texts": inputs["texts"], "truncate": true, "return_text": true});
    let got = client.post("/rerank", &body).unwrap().json().unwrap();
    let got = got.as_array().unwrap();
    assert!(
        got.windows(2)
            .all(|pair| pair[0]["score"].as_f64() >= pair[1]["score"].as_f64())
    );
    for rank in got {
        let at = rank["index"].as_u64().unwrap() as usize;
        assert_eq!(
            difference(&rank["score"], &ranker.requests[0].answer[at][0], "score"),
            None
        );
        assert_eq!(rank["text"], inputs["texts"][at]);
    }
    let serving = FOLDERS.serve("bert-text-classification", "");
    let client = Client::new(serving.address());
    let golden = FOLDERS.golden::<Value>("bert-text-classification");
    let all = golden
        .requests
        .iter()
        .find(|request| request.parameters == json!({"top_k": null}))
        .unwrap();
    let nested: Vec<Value> = all
        .inputs
        .as_array()
        .unwrap()
        .iter()
        .map(|text| json!([text]))
        .collect();
    let got = client
        .post("/predict", &json!({"inputs": nested}))
        .unwrap()
        .json()
        .unwrap();
    for (got, want) in got
        .as_array()
        .unwrap()
        .iter()
        .zip(all.answer.as_array().unwrap())
    {
        for (got, want) in got.as_array().unwrap().iter().zip(want.as_array().unwrap()) {
            assert_eq!(got["label"], want["label"]);
            assert_eq!(difference(&got["score"], &want["score"], "score"), None);
        }
    }
}

#[test]
fn models_that_generate_text_have_no_such_routes() {
    let serving = ready("llama", "");
    let client = Client::new(serving.address());
    for route in ["/v1/embeddings", "/embed", "/rerank", "/predict"] {
        let answer = client.post(route, &json!({"inputs": "a"})).unwrap();
        let text = answer.json().unwrap().to_string();
        assert_eq!(answer.status, 404, "{route}");
        assert!(text.contains("the model is text-generation"), "{text}");
    }
    let encoder = FOLDERS.serve("bert-text-classification", "");
    let client = Client::new(encoder.address());
    let answer = client.post("/generate", &json!({"inputs": "a"})).unwrap();
    assert_eq!(answer.status, 422);
    assert!(
        answer.json().unwrap()["error"]
            .as_str()
            .unwrap()
            .contains("generates no text")
    );
}

#[test]
fn csv_has_texts_or_questions() {
    let serving = FOLDERS.serve("bert-question-answering", "");
    let client = Client::new(serving.address());
    let csv = "question,context\nWho?,\"Ada Lovelace, in London\"\nWhere?,In the hall\n";
    let answer = client
        .post_bytes(
            "/invocations",
            &[("content-type", "text/csv")],
            csv.as_bytes(),
        )
        .unwrap();
    let body = answer.json().unwrap();
    assert_eq!(answer.status, 200, "{body}");
    assert_eq!(body.as_array().unwrap().len(), 2);
    let text = client
        .post_bytes("/invocations", &[("content-type", "text/plain")], b"hello")
        .unwrap();
    assert_eq!(text.status, 424);
}

#[test]
fn similarity_is_the_cosine_of_sentence_transformers() {
    for name in ["bert-sentences", "mpnet-sentences", "distilbert-sentences"] {
        let text = std::fs::read(FOLDERS.root().join(name).join("golden.json")).unwrap();
        let golden: Value = serde_json::from_slice(&text).unwrap();
        let serving = FOLDERS.serve(name, "option.task=sentence-similarity");
        let compare = &golden["similarity"][0];
        let body = json!({"inputs": compare["inputs"]});
        let got = Client::new(serving.address())
            .post("/invocations", &body)
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(difference(&got, &compare["answer"], name), None);
    }
}

#[test]
fn a_check_plans_the_memory_and_tells_what_does_not_fit() {
    let check = |name: &str, task: &str| {
        let mut command = Command::new(PROGRAM);
        command
            .arg("check")
            .arg(FOLDERS.root().join(name))
            .arg("--json");
        command.args(["--bandwidth", "20"]).env_clear();
        let output = command.env("OPTION_TASK", task).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = check("bert-fill-mask", "auto");
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["model"]["task"], "fill-mask");
    let plan = &report["encoder"];
    assert!(plan["weights_bytes"].as_u64() > Some(20_000), "{plan}");
    assert!(plan["activations_bytes"].as_u64() > Some(1 << 20), "{plan}");
    let (code, report) = check("bert-fill-mask", "ner");
    assert_eq!(
        (code, &report["reasons"][0]["code"]),
        (Some(1), &json!("task-does-not-fit"))
    );
}

/// What the log of a start that fails says.
fn failure(name: &str, properties: &str, change: impl Fn(&Path)) -> String {
    failed_start(&FOLDERS.root().join(name), properties, change)
}

#[test]
fn what_does_not_fit_is_refused_before_a_weight_is_read() {
    let nothing = |_: &Path| {};
    let cases = [
        (
            failure("bert-fill-mask", "option.task=text-classification", nothing),
            "BertForMaskedLM has no head for text-classification: a head with random weights is not served; this \
             checkpoint does fill-mask, feature-extraction, text-embedding, sentence-similarity",
        ),
        (
            failure(
                "bert-text-classification",
                "option.task=zero-shot-classification",
                nothing,
            ),
            "needs a class whose name begins with entail, and the classes are gloomy, bright, neutral",
        ),
        (
            failure(
                "bert-text-classification",
                "option.task=text-ranking",
                nothing,
            ),
            "needs one class, the score",
        ),
        (
            failure("bert-feature-extraction", "", nothing),
            "the task cannot be told from BertModel; set option.task",
        ),
        (
            failure("bert-feature-extraction", "option.task=fill-mask", |dir| {
                edit(dir, "config.json", |c| {
                    c["architectures"] = json!(["BertForMaskedLM"])
                });
            }),
            "no trained head for this task",
        ),
        (
            failure("bert-text-classification", "", |dir| {
                edit(dir, "config.json", |c| c["id2label"]["3"] = json!("more"));
            }),
            "tensor `classifier.weight` has shape [3, 24] where config.json asks for [4, 24]: [id2label",
        ),
        (
            failure(
                "bert-text-classification",
                "option.max_model_len=97",
                nothing,
            ),
            "option.max_model_len = 97: the model's context is 96 tokens",
        ),
        (
            failure("bert-text-classification", "", |dir| {
                edit(dir, "config.json", |c| c["num_hidden_layers"] = json!(1));
            }),
            "gives no place to: bert.encoder.layer.1",
        ),
    ];
    for (log, part) in cases {
        assert!(log.contains(part), "{part}\nis not in\n{log}");
    }
}

#[test]
fn the_folder_says_its_task_and_other_types_of_weights_serve_too() {
    for (name, route) in [
        ("bert-sentences", "text-embedding"),
        ("bert-token-classification", "token-classification"),
    ] {
        let golden = FOLDERS.golden::<Value>(name);
        let serving = FOLDERS.serve(name, "option.dtype=fp32");
        assert!(
            serving.log().contains(&format!("for {route}:")),
            "{}",
            serving.log()
        );
        let request = &golden.requests[0];
        let body = json!({"inputs": request.inputs, "parameters": request.parameters});
        let got = Client::new(serving.address())
            .post("/invocations", &body)
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(difference(&got, &request.answer, name), None);
    }
}
