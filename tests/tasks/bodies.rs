//! Answers are those of the pipelines: the same keys in the same order, equal texts, labels and places, scores within
//! 1e-4; and a text's answer does not depend on those beside it.

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use super::{goldens, serve};

const TOLERANCE: f64 = 1e-4;

/// The first difference between two answers, with its place.
pub(crate) fn difference(got: &Value, want: &Value, place: &str) -> Option<String> {
    match (got, want) {
        (Value::Number(got), Value::Number(want)) if got.is_f64() || want.is_f64() => {
            let (got, want) = (got.as_f64()?, want.as_f64()?);
            let apart = (got - want).abs() / want.abs().max(1.0);
            (apart.is_nan() || apart > TOLERANCE).then(|| format!("{place}: {got}, not {want}"))
        }
        (Value::Array(got), Value::Array(want)) if got.len() == want.len() => {
            let pairs = got.iter().zip(want).enumerate();
            pairs
                .filter_map(|(at, (got, want))| difference(got, want, &format!("{place}[{at}]")))
                .next()
        }
        (Value::Object(got), Value::Object(want)) if got.keys().eq(want.keys()) => {
            let pairs = got.iter().zip(want.values());
            pairs
                .filter_map(|((key, got), want)| difference(got, want, &format!("{place}.{key}")))
                .next()
        }
        (got, want) if got == want => None,
        (got, want) => Some(format!("{place}: {got}, not {want}")),
    }
}

#[test]
fn every_answer_is_that_of_the_pipeline() {
    let mut wrong = Vec::new();
    for golden in goldens() {
        let serving = serve(&golden.name, &format!("option.task={}", golden.task));
        let client = Client::new(serving.server.address());
        for request in &golden.requests {
            let body = json!({"inputs": request.inputs, "parameters": request.parameters});
            let answer = client.post("/invocations", &body).unwrap();
            let got = answer.json().unwrap();
            let case = format!("{}: {body}", golden.name);
            if answer.status != 200 {
                wrong.push(format!("{case}: {} {got}", answer.status));
            } else if let Some(difference) = difference(&got, &request.answer, "answer") {
                wrong.push(format!("{case}: {difference}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_text_among_others_gets_the_bytes_that_it_gets_alone() {
    for name in [
        "bert-text-classification",
        "modernbert-token-classification",
        "deberta-fill-mask",
    ] {
        let golden = super::golden(name);
        let serving = serve(
            name,
            "batch_size=64\noption.max_batch_tokens=50\nmax_batch_delay=5",
        );
        let address = serving.server.address();
        let requests = || golden.requests.iter();
        let ask = |request: &super::Request| {
            let body = json!({"inputs": request.inputs, "parameters": request.parameters});
            Client::new(address)
                .post("/invocations", &body)
                .unwrap()
                .body
        };
        let alone: Vec<_> = requests().map(ask).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let twice = requests().chain(requests());
            let threads: Vec<_> = twice
                .map(|request| scope.spawn(move || ask(request)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for (at, body) in together.iter().enumerate() {
            assert_eq!(*body, alone[at % alone.len()], "{name}, request {at}");
        }
    }
}
