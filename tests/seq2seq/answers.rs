//! Answers over HTTP are those of the pipelines, and a text's answer does not depend on those beside it.

use sconce_testkit::client::Client;
use serde_json::json;

use super::{Request, goldens, serve};
use crate::tasks::difference;

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
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} differ:\n{}", wrong.join("\n"));
}

#[test]
fn a_text_among_others_gets_the_bytes_that_it_gets_alone() {
    for name in [
        "t5-summarization",
        "bart-text2text-generation",
        "nllb-translation",
    ] {
        let golden = super::golden(name);
        let properties = format!(
            "option.task={}\noption.max_rolling_batch_size=9",
            golden.task
        );
        let serving = serve(name, &properties);
        let address = serving.server.address();
        let ask = |request: &Request| {
            let body = json!({"inputs": request.inputs, "parameters": request.parameters});
            Client::new(address)
                .post("/invocations", &body)
                .unwrap()
                .body
        };
        let requests = || golden.requests.iter();
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
