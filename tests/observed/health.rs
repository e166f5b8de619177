//! What `/ping` says of a model that stopped to compute, or never does again.

use sconce_testkit::client::Client;
use tempfile::TempDir;

use super::{ask, llama};
use crate::support::started;

#[test]
fn a_model_that_has_nothing_to_do_proves_itself_and_answers_on() {
    let dir = TempDir::new().unwrap();
    let server = started(llama(dir.path()).env("SCONCE_CANARY", "1"));
    let client = Client::new(server.address());
    let steps = || {
        let text = client
            .get("/metrics?name[]=sconce_engine_steps_total")
            .unwrap()
            .text();
        let line = text.lines().last().unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let first = client.post("/invocations", &ask(8, false)).unwrap().text();
    let before = steps();
    while steps() < before + 2.0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // What the proof wrote is nobody's cache.
    let again = client.post("/invocations", &ask(8, false)).unwrap().text();
    assert_eq!(again, first);
    assert_eq!(client.get("/ping").unwrap().status, 200);
}
