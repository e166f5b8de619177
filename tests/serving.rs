//! The built program over HTTP on a tiny checkpoint: answers, streams, batches, seeds.

use std::thread;

use sconce_testkit::client::Client;
use sconce_testkit::golden::Golden;
use serde_json::{Value, json};

use crate::support::{generated, ready, ready_with, stream_text};

const PROMPT: &str = "The quick brown fox";

#[test]
fn a_whole_answer_is_one_object_and_a_stream_ends_with_the_same_text() {
    for model in ["llama", "gpt2", "gpt_neox"] {
        let server = ready(model, "");
        let client = Client::new(server.address());
        let body = json!({"inputs": PROMPT, "parameters": {"max_new_tokens": 20}});
        let whole = client.post("/invocations", &body).unwrap();
        assert_eq!(whole.status, 200, "{model}: {}", whole.text());
        assert_eq!(whole.header("content-type"), Some("application/json"));
        let text = generated(&whole.json().unwrap());

        let mut stream = client
            .stream("/invocations", &json!({"inputs": PROMPT, "stream": true, "parameters": {"max_new_tokens": 20, "details": true}}))
            .unwrap();
        assert_eq!(stream.headers["content-type"], "application/jsonlines");
        let lines: Vec<Value> = stream
            .lines()
            .unwrap()
            .iter()
            .map(|(_, line)| serde_json::from_str(line).unwrap())
            .collect();
        let pieces: String = lines
            .iter()
            .map(|line| line["token"]["text"].as_str().unwrap())
            .collect();
        let last = lines.last().unwrap();
        assert_eq!(
            (pieces.as_str(), generated(last).as_str()),
            (text.as_str(), text.as_str()),
            "{model}"
        );
        assert_eq!(last["details"]["generated_tokens"], lines.len());
    }
}

#[test]
fn prompts_in_a_list_are_answered_in_order() {
    let server = ready("llama", "");
    let client = Client::new(server.address());
    let one = |prompt: &str| {
        let answer = client
            .post("/invocations", &json!({"inputs": prompt}))
            .unwrap();
        generated(&answer.json().unwrap())
    };
    let prompts = ["Once upon", "a time", "there was"];
    let answer = client
        .post("/invocations", &json!({"inputs": prompts}))
        .unwrap()
        .json()
        .unwrap();
    let texts: Vec<String> = answer.as_array().unwrap().iter().map(generated).collect();
    assert_eq!(texts, prompts.map(one));
}

#[test]
fn details_hold_prefill_and_alternatives_and_the_prompt_can_be_returned() {
    let server = ready("gpt2", "");
    let client = Client::new(server.address());
    let parameters = json!({
        "max_new_tokens": 3, "details": true, "decoder_input_details": true, "top_n_tokens": 2,
        "return_full_text": true,
    });
    let body = json!({"inputs": PROMPT, "parameters": parameters});
    let answer = client.post("/invocations", &body).unwrap().json().unwrap();
    assert!(generated(&answer).starts_with(PROMPT), "{answer}");
    let details = &answer["details"];
    assert_eq!(details["finish_reason"], "length");
    assert_eq!(details["tokens"].as_array().unwrap().len(), 3);
    let prefill = details["prefill"].as_array().unwrap();
    assert!(prefill[0]["log_prob"].is_null() && prefill[1]["log_prob"].as_f64().unwrap() < 0.0);
    let greedy = &details["tokens"][0];
    assert_eq!(
        details["top_tokens"][0][0]["id"], greedy["id"],
        "the likeliest token was picked"
    );
    assert_eq!(details["top_tokens"][0].as_array().unwrap().len(), 2);
}

#[test]
fn the_model_answers_under_its_name_and_other_names_are_not_found() {
    let server = ready("llama", "");
    let client = Client::new(server.address());
    let body = json!({"inputs": PROMPT});
    assert_eq!(
        client.post("/predictions/llama", &body).unwrap().status,
        200
    );
    assert_eq!(
        client.post("/models/llama/invoke", &body).unwrap().status,
        200
    );
    let missing = client.post("/predictions/other", &body).unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("other"), "{}", missing.text());
    assert_eq!(client.get("/ping").unwrap().status, 200);
}

/// The bodies of 32 requests of different kinds and lengths.
fn mixture() -> Vec<Value> {
    (0..32)
        .map(|at| {
            let prompt = format!("{} {PROMPT} number {at}", "and then ".repeat(at % 7));
            let parameters = if at % 2 == 0 {
                json!({"max_new_tokens": 10 + at, "do_sample": true, "seed": at, "temperature": 1.2})
            } else {
                json!({"max_new_tokens": 10 + at, "repetition_penalty": 1.1})
            };
            json!({"inputs": prompt, "stream": true, "parameters": parameters})
        })
        .collect()
}

/// Sends the bodies at once; every third client leaves after its second token.
fn all_at_once(client: &Client, bodies: &[Value]) -> Vec<Option<String>> {
    thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(at, body)| {
                scope.spawn(move || {
                    let mut stream = client.stream("/invocations", body).unwrap();
                    if at % 3 == 2 {
                        stream.line().unwrap();
                        stream.line().unwrap();
                        return None;
                    }
                    Some(stream_text(&mut stream))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn thirty_two_streams_answer_as_alone_while_a_third_is_cancelled() {
    let bodies = mixture();
    let alone = {
        let server = ready("llama", "option.enable_prefix_caching=false\n");
        let client = Client::new(server.address());
        let solo = |body: &Value| stream_text(&mut client.stream("/invocations", body).unwrap());
        bodies.iter().map(solo).collect::<Vec<_>>()
    };
    let server = ready("llama", "option.max_rolling_batch_prefill_tokens=24\n");
    let client = Client::new(server.address());
    let mut resident = Vec::new();
    for round in 0..10 {
        for (at, text) in all_at_once(&client, &bodies).into_iter().enumerate() {
            assert!(
                text.is_none_or(|text| text == alone[at]),
                "round {round}, request {at}"
            );
        }
        resident.push(server.resident_kib().unwrap());
    }
    // The first rounds touch what is reserved; after them nothing may grow.
    let (early, late) = (resident[3], resident[9]);
    assert!(
        late <= early + 4096,
        "resident memory grows: {resident:?} KiB"
    );
}

#[test]
fn two_ranks_answer_as_one() {
    let body = json!({"inputs": PROMPT, "parameters": {"max_new_tokens": 24}});
    let answers = ["", "option.tensor_parallel_degree=2\n"].map(|properties| {
        let server = ready("llama", properties);
        let answer = Client::new(server.address())
            .post("/invocations", &body)
            .unwrap();
        generated(&answer.json().unwrap())
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn the_checkpoint_s_own_sampling_counts_when_asked_for_and_requests_have_the_last_word() {
    let generation = r#"{"eos_token_id": 2, "repetition_penalty": 1.9}"#;
    let file = ("generation_config.json", generation);
    let own = ready_with(
        "llama",
        &[
            (
                "serving.properties",
                "option.rolling_batch=auto\noption.generation_config=auto",
            ),
            file,
        ],
    );
    let plain = ready_with(
        "llama",
        &[("serving.properties", "option.rolling_batch=auto"), file],
    );
    let answer = |server: &crate::support::Serving, parameters: Value| {
        let client = Client::new(server.address());
        let body = json!({"inputs": PROMPT, "parameters": parameters});
        let answer = client.post("/invocations", &body).unwrap();
        generated(&answer.json().unwrap())
    };
    let penalised = answer(&plain, json!({"repetition_penalty": 1.9}));
    assert_ne!(answer(&plain, json!({})), penalised);
    assert_eq!(answer(&own, json!({})), penalised);
    assert_eq!(
        answer(&own, json!({"repetition_penalty": 1})),
        answer(&plain, json!({}))
    );
}

#[test]
fn families_answer_over_http_as_transformers_does_also_across_the_border_of_a_long_rope() {
    for model in ["phi3-longrope", "mixtral", "bloom", "opt-350m"] {
        let server = ready(model, "");
        let client = Client::new(server.address());
        let golden = Golden::tiny(model).unwrap();
        for run in &golden.runs {
            let parameters = json!({"max_new_tokens": run.greedy.len(), "ignore_eos_token": true});
            let body = json!({"inputs": run.prompt, "parameters": parameters});
            let answer = client.post("/invocations", &body).unwrap();
            let text = generated(&answer.json().unwrap());
            assert_eq!(text, run.text, "{model}: {}", run.prompt);
        }
    }
}
