//! Multi-model endpoints: loading, unloading, and what the client sees meanwhile.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use sconce_testkit::client::Answer;
use serde_json::Value;

use super::{Container, Emulator, Seen, chunks, error, json};
use crate::ModelFolder;

const TARGET: &str = "x-amzn-sagemaker-target-model";

/// A container with room for so many models.
fn holding(room: usize) -> Container {
    let loaded = Mutex::new(HashSet::new());
    Container::new(move |seen| answer(&mut loaded.lock().unwrap(), room, seen))
}

fn answer(loaded: &mut HashSet<String>, room: usize, seen: &Seen) -> Response {
    if seen.path == "/models" {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let name = asked["model_name"].as_str().unwrap().to_owned();
        return match loaded.len() {
            _ if loaded.contains(&name) => json(409, "{}"),
            full if full >= room => json(507, "{\"message\":\"no memory\"}"),
            _ => {
                loaded.insert(name);
                json(200, "{}")
            }
        };
    }
    let name = seen.path.split('/').nth(2).unwrap();
    match seen.method.as_str() {
        "DELETE" if loaded.remove(name) => json(200, "{}"),
        "POST" if loaded.contains(name) => json(200, "\"answered\""),
        _ => json(404, "{}"),
    }
}

fn start(container: &Container) -> Emulator {
    Emulator::start(container, |settings| {
        settings.multi_model = Some(ModelFolder::Below("/srv".into()));
    })
}

fn ask(emulator: &Emulator, target: &str) -> Answer {
    emulator.invoke(&[(TARGET, target)], b"x")
}

/// Methods and paths, names of models left out.
fn steps(container: &Container) -> Vec<String> {
    let step = |seen: Seen| {
        let known = ["", "models", "invoke"];
        let parts = seen.path.split('/');
        let parts = parts.map(|part| if known.contains(&part) { part } else { "N" });
        format!("{} {}", seen.method, parts.collect::<Vec<_>>().join("/"))
    };
    container.seen().into_iter().map(step).collect()
}

#[test]
fn a_model_is_loaded_once_and_asked_by_its_opaque_name() {
    let container = holding(2);
    let emulator = start(&container);
    for _ in 0..2 {
        assert_eq!(ask(&emulator, "a.tar.gz").text(), "\"answered\"");
    }
    assert_eq!(
        steps(&container),
        [
            "POST /models",
            "POST /models/N/invoke",
            "POST /models/N/invoke"
        ]
    );
    let seen = container.seen();
    let load: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(load["url"], "/srv/a");
    let name = load["model_name"].as_str().unwrap();
    assert_eq!(seen[1].path, format!("/models/{name}/invoke"));
    assert_eq!(seen[1].headers[TARGET], "a.tar.gz");
    let answer = emulator.invoke(&[], b"x");
    assert_eq!((answer.status, error(&answer).1), (400, "ValidationError"));
    assert!(answer.text().contains("TargetModel is missing"));
}

#[test]
fn the_model_that_was_asked_longest_ago_makes_room() {
    let container = holding(2);
    let emulator = start(&container);
    for target in ["a", "b", "a", "c", "a", "b"] {
        assert_eq!(ask(&emulator, target).status, 200, "{target}");
    }
    let steps = steps(&container);
    let count = |step: &str| steps.iter().filter(|other| *other == step).count();
    // `c` drives `b` out, and `b` then `c`; `a` stays.
    assert_eq!(count("DELETE /models/N"), 2, "{steps:?}");
    assert_eq!(count("POST /models"), 4 + 2, "{steps:?}");
}

#[test]
fn a_model_that_never_fits_or_is_lost_is_told_and_tried_again() {
    let container = holding(0);
    let emulator = start(&container);
    for _ in 0..2 {
        let answer = ask(&emulator, "a");
        let (status, name, body) = error(&answer);
        assert_eq!((status, name), (424, "ModelError"));
        assert_eq!(body["OriginalStatusCode"], 507);
    }
    assert_eq!(steps(&container), ["POST /models"; 2]);

    let lost = Container::new(|seen| match seen.path.as_str() {
        "/models" => json(200, "{}"),
        _ => json(404, "{}"),
    });
    let emulator = start(&lost);
    for _ in 0..2 {
        assert_eq!(
            ask(&emulator, "a").json().unwrap()["OriginalStatusCode"],
            404
        );
    }
    assert_eq!(
        steps(&lost)
            .iter()
            .filter(|step| *step == "POST /models")
            .count(),
        2
    );
}

#[test]
fn a_load_that_outlasts_the_call_goes_on() {
    let container = Container::new(|seen| match seen.path.as_str() {
        "/models" => chunks(&["{"], false).into_response(),
        _ => json(200, "1"),
    });
    let emulator = Emulator::start(&container, |settings| {
        settings.multi_model = Some(ModelFolder::Platform);
        settings.invoke_timeout = Duration::from_millis(500);
    });
    for _ in 0..2 {
        let answer = ask(&emulator, "a");
        assert_eq!(
            (answer.status, error(&answer).1),
            (429, "ModelNotReadyException")
        );
    }
    assert_eq!(
        steps(&container),
        ["POST /models"],
        "one load for both calls"
    );
}
