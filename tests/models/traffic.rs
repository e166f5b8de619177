//! Requests on their way while models are registered, scaled and removed: whoever was let in gets the whole answer of
//! the model that was asked, and nobody else notices.

use std::sync::atomic::AtomicUsize;
use std::thread::{Scope, ScopedJoinHandle};

use serde_json::Value;

use super::*;
use crate::support::stream_text;

/// Clients that ask for a known continuation, one after the other, until `done`; how many got it.
fn asking<'scope>(
    scope: &'scope Scope<'scope, '_>,
    host: &'scope Host,
    path: &'scope str,
    run: &'scope Run,
    done: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, usize>> {
    let client = move |streams: bool| {
        move || {
            let mut count = 0;
            while !done.load(SeqCst) {
                if streams {
                    let asked = host.client.stream(path, &question(run, true));
                    assert_eq!(stream_text(&mut asked.unwrap()), run.text);
                } else {
                    answers(&host.client, path, run);
                }
                count += 1;
            }
            count
        }
    };
    [false, false, true]
        .map(|streams| scope.spawn(client(streams)))
        .into()
}

#[test]
fn models_come_and_go_beside_requests_and_none_of_these_is_lost_or_wrong() {
    let host = Host::empty(&[]);
    let llama = host.folder("llama", "steady", ROLLING);
    let gpt2 = host.folder("gpt2", "guest", ROLLING);
    host.registered("steady", &llama, "");
    let (steady, guest) = (known("llama"), known("gpt2"));
    let (done, right, gone) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        let over = Over(&done);
        let steadies = asking(scope, &host, "/predictions/steady", &steady, &done);
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let asked = host
                        .client
                        .post("/predictions/guest", &question(&guest, false));
                    let answer = asked.unwrap();
                    match answer.status {
                        200 => {
                            assert_eq!(generated(&answer.json().unwrap()), guest.text);
                            right.fetch_add(1, SeqCst);
                        }
                        // It has gone, or is on its way.
                        404 | 503 => {
                            gone.fetch_add(1, SeqCst);
                        }
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
            });
        }
        for round in 0..6 {
            host.registered("guest", &gpt2, "");
            // It answers from the moment that its registration has been answered.
            answers(&host.client, "/predictions/guest", &guest);
            let scaled = host
                .client
                .request("PUT", "/models/guest?min_worker=1&max_worker=4", &[], b"")
                .unwrap();
            assert_eq!(scaled.status, 200, "{}", scaled.text());
            let seen = right.load(SeqCst);
            until("requests reach the guest", || right.load(SeqCst) > seen);
            let deleted = host.delete("guest");
            assert_eq!(deleted.status, 200, "round {round}: {}", deleted.text());
        }
        drop(over);
        for client in steadies {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert!(right.load(SeqCst) >= 6 && gone.load(SeqCst) > 0);
    assert_eq!(host.list(), [("steady".into(), "READY".into())]);
}

#[test]
fn a_model_that_is_removed_finishes_the_streams_that_it_has_begun() {
    let host = Host::empty(&[]);
    // Long enough to be at it for a while, on a machine of any speed.
    let dir = host.folder("llama", "m", ROLLING);
    host.registered("m", &dir, "");
    let parameters = json!({"max_new_tokens": 240, "do_sample": false, "ignore_eos_token": true});
    let ask =
        |stream: bool| json!({"inputs": "The candle", "stream": stream, "parameters": parameters});
    let whole = host.client.post("/predictions/m", &ask(false)).unwrap();
    let text = generated(&whole.json().unwrap());
    let mut streams: Vec<_> = (0..4)
        .map(|_| host.client.stream("/predictions/m", &ask(true)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| host.delete("m"));
        for stream in &mut streams {
            assert_eq!(stream_text(stream), text);
        }
        assert_eq!(deleting.join().unwrap().status, 200);
    });
    assert_eq!(host.list(), []);
    let refused = host.client.post("/predictions/m", &ask(false)).unwrap();
    assert_eq!(refused.status, 404);
}

/// Answers when a file lies beside it; says that it has begun with another.
const PATIENT: &str = r#"
import os, time
from djl_python import Output

def handle(inputs):
    if inputs.is_empty():
        return None
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    return Output().add("whole")
"#;

#[test]
fn removing_waits_for_the_answer_that_is_being_made() {
    if !crate::python_mode::python() {
        return;
    }
    let host = Host::empty(&[]);
    let dir = host.code("patient", PATIENT, "");
    host.registered("patient", &dir, "");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            host.client
                .post_bytes("/predictions/patient", &[], b"x")
                .unwrap()
        });
        until("the handler has begun", || dir.join("begun").exists());
        let deleting = scope.spawn(|| host.delete("patient"));
        until("it takes nothing new", || {
            host.list() == [("patient".into(), "UNLOADING".into())]
        });
        let refused = host
            .client
            .post_bytes("/predictions/patient", &[], b"y")
            .unwrap();
        assert_eq!(refused.status, 404, "{}", refused.text());
        assert!(!deleting.is_finished());
        // Nobody else may have the name before it has gone; whoever asks for it waits.
        let next = scope.spawn(|| host.register("patient", &dir, ""));
        std::fs::write(dir.join("go"), "").unwrap();
        let answer = asking.join().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "whole".into()));
        assert_eq!(deleting.join().unwrap().status, 200);
        assert_eq!(next.join().unwrap().status, 200);
    });
    let answer = host
        .client
        .post_bytes("/predictions/patient", &[], b"z")
        .unwrap();
    assert_eq!((answer.status, answer.text()), (200, "whole".into()));
}

/// Loads when a file lies beside it.
const SLOW_START: &str = r#"
import os, time
from djl_python import Output

open("loading", "w").close()
while not os.path.exists("loaded"):
    time.sleep(0.01)

def handle(inputs):
    return None if inputs.is_empty() else Output().add("here")
"#;

#[test]
fn a_model_that_is_removed_while_it_loads_ends_before_it_answers_anything() {
    if !crate::python_mode::python() {
        return;
    }
    let host = Host::empty(&[]);
    let native = host.folder("llama", "native", ROLLING);
    host.registered("native", &native, "");
    let dir = host.code("slow", SLOW_START, "");
    std::thread::scope(|scope| {
        let registering = scope.spawn(|| host.register("slow", &dir, ""));
        until("it is loading", || dir.join("loading").exists());
        let pending = host
            .client
            .post_bytes("/predictions/slow", &[], b"x")
            .unwrap();
        assert_eq!(pending.status, 503, "{}", pending.text());
        assert_eq!(pending.header("retry-after"), Some("5"));
        let scaled = host
            .client
            .request("PUT", "/models/slow?min_worker=2", &[], b"")
            .unwrap();
        assert_eq!(scaled.status, 503, "{}", scaled.text());
        let again = host.register("slow", &dir, "");
        assert_eq!(again.status, 409, "{}", again.text());
        let deleting = scope.spawn(|| host.delete("slow"));
        let registered = registering.join().unwrap();
        assert_eq!(registered.status, 503, "{}", registered.text());
        assert!(
            registered
                .text()
                .contains("unregistered while it was loading")
        );
        // The others do not wait with it.
        answers(&host.client, "/predictions/native", &known("llama"));
        std::fs::write(dir.join("loaded"), "").unwrap();
        assert_eq!(deleting.join().unwrap().status, 200);
    });
    assert_eq!(host.list(), [("native".into(), "READY".into())]);
    // With nobody waiting it is accepted at once, and told by the list when it is there.
    std::fs::remove_file(dir.join("loaded")).unwrap();
    let scheduled = host.register("slow", &dir, "&synchronous=false");
    assert_eq!(scheduled.status, 202, "{}", scheduled.text());
    let state = |name: &str| {
        let list = host.list();
        let found = list.into_iter().find(|(known, _)| known == name);
        found.map(|(_, status)| status)
    };
    assert_eq!(state("slow").as_deref(), Some("PENDING"));
    assert_eq!(host.ping().0, 200, "the server does not wait for it");
    std::fs::write(dir.join("loaded"), "").unwrap();
    until("it is there", || state("slow").as_deref() == Some("READY"));
}

#[test]
fn versions_of_a_name_take_turns_also_where_a_form_names_it() {
    let host = Host::empty(&[]);
    let first = host.folder("llama", "first", ROLLING);
    let second = host.folder("gpt2", "second", ROLLING);
    host.registered("m", &first, "&model_version=1");
    host.registered("m", &second, "&model_version=2");
    answers(&host.client, "/predictions/m/1", &known("llama"));
    answers(&host.client, "/predictions/m/2", &known("gpt2"));
    let texts = [known("llama"), known("gpt2")];
    assert_eq!(texts[0].prompt, texts[1].prompt);
    let parameters = question(&texts[0], false)["parameters"].to_string();
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"model_name\"\r\n\r\nm\r\n--b\r\n\
         Content-Disposition: form-data; name=\"inputs\"\r\n\r\n{}\r\n--b\r\n\
         Content-Disposition: form-data; name=\"parameters\"\r\n\r\n{parameters}\r\n--b--\r\n",
        texts[0].prompt
    );
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let by_form = || {
        host.client
            .post_bytes("/invocations", &kind, form.as_bytes())
            .unwrap()
    };
    let by_path = || {
        host.client
            .post("/predictions/m", &question(&texts[0], false))
            .unwrap()
    };
    let asks: [&dyn Fn() -> Answer; 2] = [&by_form, &by_path];
    for ask in asks {
        let got: Vec<String> = (0..4)
            .map(|_| {
                let answer = ask();
                assert_eq!(answer.status, 200, "{}", answer.text());
                generated(&answer.json().unwrap())
            })
            .collect();
        assert_ne!(got[0], got[1], "they take turns");
        assert_eq!((&got[0], &got[1]), (&got[2], &got[3]));
        assert!(texts.iter().all(|run| got.contains(&run.text)), "{got:?}");
    }
    let described = host.client.get("/models/m").unwrap().json().unwrap();
    let versions: Vec<_> = described.as_array().unwrap().iter().collect();
    let version = |at: usize| versions[at]["version"].as_str();
    assert_eq!((version(0), version(1)), (Some("1"), Some("2")));
    // One of them goes; the other answers for the name.
    let gone = host.delete("m/1");
    assert_eq!(gone.status, 200, "{}", gone.text());
    for _ in 0..2 {
        answers(&host.client, "/predictions/m", &known("gpt2"));
    }
    let missing = host.client.post("/predictions/m/1", &Value::Null).unwrap();
    assert_eq!(missing.status, 404);
    assert_eq!(host.delete("m").status, 200);
    assert_eq!(host.list(), []);
}

#[test]
fn a_signal_ends_a_server_whose_models_still_load() {
    if !crate::python_mode::python() {
        return;
    }
    let mut host = Host::empty(&[]);
    let dir = host.code("slow", SLOW_START, "");
    let scheduled = host.register("slow", &dir, "&synchronous=false");
    assert_eq!(scheduled.status, 202);
    until("it is loading", || dir.join("loading").exists());
    host.server.terminate().unwrap();
    let status = host.server.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", host.server.log());
}
