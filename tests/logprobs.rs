//! Log-probabilities of prompts, in the words of each dialect: those that transformers' logits say.

use sconce_testkit::client::Client;
use sconce_testkit::golden::{Golden, Run};
use serde_json::{Value, json};

use crate::support::{Serving, ready};

/// Of transformers' logits after each token of a prompt: what is likely behind it, the likeliest first.
fn likely(run: &Run) -> Vec<Vec<(usize, f64)>> {
    let row = |logits: &[f32]| {
        let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| f64::from(x - peak).exp()).sum();
        let of = |(id, x): (usize, &f32)| (id, f64::from(x - peak) - sum.ln());
        let mut all: Vec<_> = logits.iter().enumerate().map(of).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    };
    run.logits.chunks_exact(run.vocab).map(row).collect()
}

/// Rank, from 1, and log-probability of each token but the first.
fn wanted(run: &Run) -> Vec<(usize, f64)> {
    let of = |(row, id): (Vec<(usize, f64)>, &u32)| {
        let at = row.iter().position(|(other, _)| *other == *id as usize);
        let at = at.unwrap();
        (at + 1, row[at].1)
    };
    likely(run).into_iter().zip(&run.ids[1..]).map(of).collect()
}

fn ask(serving: &Serving, route: &str, body: &Value) -> Value {
    let answer = Client::new(serving.address()).post(route, body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().unwrap()
}

#[track_caller]
fn close(got: &Value, want: f64) {
    let got = got.as_f64().unwrap();
    // What the tolerance of a logit lets a difference of two be.
    assert!((got - want).abs() < 1e-3, "{got} is not {want}");
}

#[test]
fn completions_tell_of_prompts_as_vllm_does_and_echo_them_with_theirs() {
    for folder in ["llama", "gpt2", "mistral"] {
        let serving = ready(folder, "");
        for run in &Golden::tiny(folder).unwrap().runs {
            let body = json!({
                "model": "m", "prompt": run.ids, "max_tokens": 2, "temperature": 0, "prompt_logprobs": 3, "logprobs": 2,
                "echo": true, "n": 2,
            });
            let answer = ask(&serving, "/v1/completions", &body);
            for choice in answer["choices"].as_array().unwrap() {
                check_vllm(&choice["prompt_logprobs"], run);
                let lists = &choice["logprobs"];
                assert_eq!(lists["token_logprobs"][0], Value::Null);
                assert_eq!(lists["top_logprobs"][0], Value::Null);
                for (at, (_, logprob)) in wanted(run).into_iter().enumerate() {
                    close(&lists["token_logprobs"][at + 1], logprob);
                    let listed = lists["top_logprobs"][at + 1].as_object().unwrap();
                    let best = likely(run)[at][0].1;
                    assert!(
                        listed
                            .values()
                            .any(|one| (one.as_f64().unwrap() - best).abs() < 1e-3)
                    );
                }
                let tokens = lists["tokens"].as_array().unwrap();
                assert_eq!(tokens.len(), run.ids.len() + 2);
            }
        }
    }
}

/// `prompt_logprobs` with three alternatives.
fn check_vllm(told: &Value, run: &Run) {
    let told = told.as_array().unwrap();
    assert_eq!((told.len(), &told[0]), (run.ids.len(), &Value::Null));
    let likely = likely(run);
    for (at, (rank, logprob)) in wanted(run).into_iter().enumerate() {
        let listed = told[at + 1].as_object().unwrap();
        let own = &listed[&run.ids[at + 1].to_string()];
        close(&own["logprob"], logprob);
        assert_eq!(own["rank"], rank, "token {}", at + 1);
        assert!(own["decoded_token"].is_string());
        assert_eq!(listed.len(), if rank <= 3 { 3 } else { 4 });
        for (rank, (id, logprob)) in likely[at][..3].iter().enumerate() {
            close(&listed[&id.to_string()]["logprob"], *logprob);
            assert_eq!(listed[&id.to_string()]["rank"], rank + 1);
        }
    }
}

#[test]
fn lmi_and_tgi_tell_of_prompts_in_details() {
    for (properties, route, name) in [
        ("", "/invocations", "log_prob"),
        ("option.tgi_compat=true", "/invocations", "logprob"),
        ("", "/generate", "logprob"),
    ] {
        let serving = ready("gpt2", properties);
        for run in &Golden::tiny("gpt2").unwrap().runs {
            let parameters =
                json!({"max_new_tokens": 2, "details": true, "decoder_input_details": true});
            let body = json!({"inputs": run.prompt, "parameters": parameters});
            let answer = ask(&serving, route, &body);
            let answer = answer.get(0).unwrap_or(&answer);
            let prefill = answer["details"]["prefill"].as_array().unwrap();
            let ids: Vec<u64> = prefill
                .iter()
                .map(|one| one["id"].as_u64().unwrap())
                .collect();
            assert!(
                ids.iter()
                    .zip(&run.ids)
                    .all(|(id, want)| *id == u64::from(*want))
            );
            assert_eq!(
                (ids.len(), &prefill[0][name]),
                (run.ids.len(), &Value::Null)
            );
            for (told, (_, want)) in prefill[1..].iter().zip(wanted(run)) {
                close(&told[name], want);
            }
        }
    }
}

#[test]
fn chats_tell_of_what_their_template_writes_and_streams_tell_nothing() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let files = [
        ("serving.properties", "option.rolling_batch=auto\n"),
        ("chat_template.jinja", template),
    ];
    let serving = crate::support::ready_with("gpt2", &files);
    let run = &Golden::tiny("gpt2").unwrap().runs[3];
    let mut body = json!({
        "model": "m", "messages": [{"role": "user", "content": run.prompt}], "max_tokens": 1, "prompt_logprobs": 3,
    });
    let answer = ask(&serving, "/v1/chat/completions", &body);
    check_vllm(&answer["prompt_logprobs"], run);
    body["stream"] = json!(true);
    let refused = Client::new(serving.address())
        .post("/v1/chat/completions", &body)
        .unwrap();
    assert!(
        refused.status == 400 && refused.text().contains("`prompt_logprobs` is 3"),
        "{}",
        refused.text()
    );
}
