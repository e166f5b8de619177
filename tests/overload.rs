//! The end under load, and more requests than the server takes. Nothing here depends on how fast a machine is: what that
//! costs is measured by `benches/soak.rs`.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use crate::support::{generated, ready, stream_text};

const STREAMS: usize = 50;

fn ask(tokens: usize, stream: bool) -> Value {
    json!({
        "inputs": "Once", "stream": stream,
        "parameters": {"max_new_tokens": tokens, "do_sample": false, "ignore_eos_token": true},
    })
}

#[test]
fn sigterm_in_the_middle_of_fifty_streams_loses_none() {
    let mut server = ready("llama", "option.max_rolling_batch_size=64\n");
    let client = Client::new(server.address());
    let expected = stream_text(&mut client.stream("/invocations", &ask(200, true)).unwrap());
    let (started, together) = (AtomicUsize::new(0), Barrier::new(STREAMS + 1));
    std::thread::scope(|scope| {
        let streaming = || {
            together.wait();
            let mut stream = client.stream("/invocations", &ask(200, true)).unwrap();
            stream.line().unwrap();
            started.fetch_add(1, SeqCst);
            stream_text(&mut stream)
        };
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(streaming)).collect();
        together.wait();
        // Who has not begun by then would be refused, which is right, and not what is meant here.
        while started.load(SeqCst) < STREAMS {
            std::thread::yield_now();
        }
        server.terminate().unwrap();
        for stream in streams {
            assert_eq!(stream.join().unwrap(), expected);
        }
    });
    let status = server.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[test]
fn ten_times_as_many_as_fit_are_answered_or_told_to_come_again() {
    let server = ready(
        "llama",
        "option.max_rolling_batch_size=2\njob_queue_size=2\n",
    );
    let client = Client::new(server.address());
    let text = {
        let answer = client.post("/invocations", &ask(24, false)).unwrap();
        generated(&answer.json().unwrap())
    };
    let load = || {
        let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let together = Barrier::new(40);
        std::thread::scope(|scope| {
            for number in 0..40 {
                let (client, text, together) = (&client, &text, &together);
                let (served, refused) = (&served, &refused);
                scope.spawn(move || {
                    together.wait();
                    for _ in 0..10 {
                        let answer = if number % 2 == 0 {
                            client.post("/invocations", &ask(24, false)).unwrap()
                        } else {
                            let chat =
                                json!({"prompt": "Once", "max_tokens": 24, "temperature": 0});
                            client.post("/v1/completions", &chat).unwrap()
                        };
                        match (answer.status, number % 2) {
                            (200, 0) => {
                                assert_eq!(generated(&answer.json().unwrap()), *text);
                                served.fetch_add(1, SeqCst);
                            }
                            (200, _) => {
                                served.fetch_add(1, SeqCst);
                            }
                            (503, 0) | (429, 1) => {
                                assert_eq!(answer.header("retry-after"), Some("1"));
                                assert!(answer.text().contains("job_queue_size"));
                                refused.fetch_add(1, SeqCst);
                            }
                            (status, _) => panic!("{status}: {}", answer.text()),
                        }
                    }
                });
            }
        });
        (served.into_inner(), refused.into_inner())
    };
    let (served, refused) = load();
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
    let before = server.resident_kib().unwrap();
    for _ in 0..3 {
        let (served, refused) = load();
        assert_eq!(served + refused, 400, "each was answered once");
    }
    let after = server.resident_kib().unwrap();
    assert!(after < before + 65_536, "{before} KiB, then {after}");
    let answer = client.post("/invocations", &ask(24, false)).unwrap();
    assert_eq!(generated(&answer.json().unwrap()), text);
}
