//! Workers of several processes, each of which knows its rank.

use std::time::{Duration, Instant};

use sconce_core::ServeError;
use sconce_python::Ranks;

use crate::support::{Model, ask, python, recovers, says, text};

const CODE: &str = r#"
import os, json
from djl_python import Output

told = None

def handle(inputs):
    global told
    rank = os.environ["RANK"]
    with open(f"calls-{rank}", "a") as f:
        f.write("init\n" if inputs.is_empty() else inputs.get_as_string() + "\n")
    if inputs.is_empty():
        told = {k: inputs.get_property(k) for k in ("tensor_parallel_degree", "pipeline_parallel_degree")}
        return None
    if inputs.get_as_string() == "rank 1 dies" and rank == "1":
        os._exit(6)
    variables = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"]
    return Output().add({**told, **{v: os.environ[v] for v in variables}})
"#;

fn split(all_answer: bool) -> Model {
    let mut model = Model::new(CODE);
    model.settings.ranks = Some(Ranks {
        tensor: 2,
        pipeline: 1,
        all_answer,
        mpirun: None,
    });
    model
}

fn calls(model: &Model, rank: usize) -> String {
    std::fs::read_to_string(model.path(&format!("calls-{rank}"))).unwrap()
}

#[test]
fn every_rank_loads_and_the_first_answers() {
    if !python() {
        return;
    }
    let model = split(false);
    let pool = model.pool();
    let answer: serde_json::Value = serde_json::from_str(&text(ask(&pool, "x"))).unwrap();
    let wanted = serde_json::json!({
        "tensor_parallel_degree": 2, "pipeline_parallel_degree": 1,
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
    });
    assert_eq!(answer, wanted);
    assert_eq!(
        (calls(&model, 0), calls(&model, 1)),
        ("init\nx\n".into(), "init\n".into())
    );
}

#[test]
fn all_ranks_get_requests_if_they_are_to() {
    if !python() {
        return;
    }
    let model = split(true);
    let pool = model.pool();
    for what in ["x", "y"] {
        let answer: serde_json::Value = serde_json::from_str(&text(ask(&pool, what))).unwrap();
        assert_eq!(answer["RANK"], "0");
    }
    // The first rank's answer does not wait for the other's.
    let until = Instant::now() + Duration::from_secs(20);
    while calls(&model, 1) != "init\nx\ny\n" {
        assert!(Instant::now() < until, "{}", calls(&model, 1));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_rank_that_dies_is_named_and_all_are_started_again() {
    if !python() {
        return;
    }
    let model = split(true);
    let pool = model.pool();
    // The first rank may have answered before the other one's death is noticed.
    if let Err(error) = ask(&pool, "rank 1 dies") {
        let ServeError::WorkerLost { cause, .. } = &error else {
            panic!("{error}")
        };
        says(cause, &["of rank 1 ended with exit code 6"]);
    }
    assert!(recovers(&pool, "x") < Duration::from_secs(10));
    assert_eq!(calls(&model, 0).matches("init").count(), 2);
}
