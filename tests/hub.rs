//! Models of the Hugging Face hub, against a hub on this machine: fetched, cached, refused.

use std::path::PathBuf;
use std::time::Duration;

use sconce_testkit::client::Client;
use sconce_testkit::fakes::Gate;
use sconce_testkit::hub::{Access, COMMIT, FakeHub, RunningHub};
use sconce_testkit::server::{Launch, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    PROGRAM, answer, answer_of_the_folder, started, tiny, wait_for_ping, without_folder,
};

const ID: &str = "tiny-org/llama";
const TOKEN: &str = "hf_right";
const WEIGHTS: &str = "model.safetensors";

fn llama() -> FakeHub {
    FakeHub::of_folder(ID, &tiny("llama")).unwrap()
}

/// A start whose model is the hub's, with a cache and a folder of its own.
struct Start {
    dir: TempDir,
    endpoint: String,
    variables: Vec<(&'static str, &'static str)>,
}

impl Start {
    fn new(hub: &RunningHub) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            endpoint: hub.endpoint(),
            variables: vec![],
        }
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("hf/hub/models--tiny-org--llama")
    }

    /// `sconce serve FOLDER`, the folder with nothing but these properties.
    fn folder(&self, properties: &str) -> Launch<'static> {
        let folder = self.dir.path().join("model");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("serving.properties"), properties).unwrap();
        self.environment(Launch::serve(PROGRAM, &folder))
    }

    fn environment(&self, launch: Launch<'static>) -> Launch<'static> {
        let home = self.dir.path().join("hf");
        let launch = launch
            .env("HF_HOME", &home.to_string_lossy())
            .env("HF_ENDPOINT", &self.endpoint);
        let set = |launch: Launch<'static>, (name, value): &(&str, &str)| launch.env(name, value);
        self.variables.iter().fold(launch, set)
    }

    fn serve(&self) -> Server {
        started(self.folder(&format!("option.model_id={ID}\n")))
    }
}

#[test]
fn option_model_id_is_fetched_served_and_taken_from_the_cache_the_next_time() {
    let hub = llama().start().unwrap();
    let start = Start::new(&hub);
    let expected = answer_of_the_folder();
    assert_eq!(answer(&start.serve()), expected);
    let head = std::fs::read_to_string(start.cache().join("refs/main")).unwrap();
    assert_eq!(head, COMMIT);
    let file = start.cache().join("snapshots").join(COMMIT).join(WEIGHTS);
    assert_eq!(
        std::fs::read(file).unwrap(),
        std::fs::read(tiny("llama").join(WEIGHTS)).unwrap()
    );
    let fetched = hub.requests().len();
    assert_eq!(answer(&start.serve()), expected);
    let asked = hub.requests().split_off(fetched);
    assert_eq!(asked.len(), 1, "only the listing is asked for: {asked:?}");

    let start = start.variable("HF_HUB_OFFLINE", "1");
    let before = hub.requests().len();
    assert_eq!(answer(&start.serve()), expected);
    let elsewhere = Start::new(&hub).variable("HF_HUB_OFFLINE", "1");
    let mut refused = elsewhere
        .folder(&format!("option.model_id={ID}\n"))
        .start()
        .unwrap();
    refused.wait_for_log("HF_HUB_OFFLINE is set, and").unwrap();
    assert_eq!(hub.requests().len(), before, "the hub is left alone");

    drop(hub);
    let start = start.variable("HF_HUB_OFFLINE", "0");
    let server = start.serve();
    assert_eq!(answer(&server), expected);
    let log = server.log();
    assert!(log.contains("as it was fetched before"), "{log}");
}

#[test]
fn hf_model_id_is_served_without_any_folder() {
    let hub = llama().start().unwrap();
    let start = Start::new(&hub).variable("HF_MODEL_ID", ID);
    let server = started(start.environment(without_folder(start.dir.path())));
    assert_eq!(answer(&server), answer_of_the_folder());
    let named = Client::new(server.address()).post(
        "/predictions/tiny_org_llama",
        &json!({"inputs": "The quick"}),
    );
    assert_eq!(named.unwrap().status, 200);
}

#[test]
fn a_gated_repository_is_served_with_the_token_which_no_log_shows() {
    let hub = llama().access(Access::Gated(TOKEN.into())).start().unwrap();
    let start = Start::new(&hub).variable("HF_TOKEN", TOKEN);
    let server = start.serve();
    assert_eq!(answer(&server), answer_of_the_folder());
    assert!(!server.log().contains(TOKEN), "{}", server.log());
    let requests = hub.requests();
    let to_the_hub = requests
        .iter()
        .filter(|request| request.host == "127.0.0.1");
    assert!(to_the_hub.clone().count() > 0);
    for request in to_the_hub {
        assert_eq!(request.token.as_deref(), Some(TOKEN), "{request:?}");
    }
}

#[test]
fn ping_tells_how_far_fetching_is() {
    let gate = Gate::default();
    let hub = llama().wait_at_half(&gate).start().unwrap();
    let start = Start::new(&hub);
    let launch = start.folder(&format!("option.model_id={ID}\n"));
    let mut server = launch.start().unwrap();
    let size = std::fs::metadata(tiny("llama").join(WEIGHTS))
        .unwrap()
        .len();
    let entry = wait_for_ping(&server, 503, |entry| {
        entry["phase"] == "fetching" && entry["bytes_done"].as_u64() > Some(size / 2)
    });
    assert!(entry["bytes_total"].as_u64() > Some(size), "{entry}");
    assert!(
        entry["bytes_done"].as_u64() < entry["bytes_total"].as_u64(),
        "{entry}"
    );
    gate.open();
    server.wait_for_log("is ready after").unwrap();
    assert_eq!(
        Client::new(server.address()).get("/ping").unwrap().status,
        200
    );
}

#[test]
fn what_an_earlier_start_left_of_a_file_is_completed_or_replaced() {
    let bytes = std::fs::read(tiny("llama").join(WEIGHTS)).unwrap();
    for left in [bytes.len() / 2, bytes.len(), bytes.len() + 9] {
        let hub = llama().start().unwrap();
        let start = Start::new(&hub);
        let blobs = start.cache().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let mut part = bytes.clone();
        part.resize(left, 0);
        std::fs::write(blobs.join(format!("{WEIGHTS}-blob.part")), part).unwrap();
        assert_eq!(answer(&start.serve()), answer_of_the_folder(), "{left}");
    }
}

struct Refusal {
    name: &'static str,
    hub: fn(FakeHub) -> FakeHub,
    properties: &'static str,
    token: &'static str,
    says: &'static [&'static str],
}

const PUBLIC: Refusal = Refusal {
    name: "",
    hub: |hub| hub,
    properties: "option.model_id=tiny-org/llama\n",
    token: "",
    says: &[],
};

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no such repository, without a token",
        properties: "option.model_id=tiny-org/lama\n",
        says: &["tiny-org/lama", "401", "no such repository", "HF_TOKEN"],
        ..PUBLIC
    },
    Refusal {
        name: "no such repository, with a token",
        properties: "option.model_id=tiny-org/lama\n",
        token: TOKEN,
        says: &[
            "tiny-org/lama",
            "404",
            "Repository not found",
            "check the name",
        ],
        ..PUBLIC
    },
    Refusal {
        name: "no such revision",
        properties: "option.model_id=tiny-org/llama\noption.revision=v9\n",
        says: &["revision v9", "404", "Invalid rev id", "option.revision"],
        ..PUBLIC
    },
    Refusal {
        name: "gated, without a token",
        hub: |hub| hub.access(Access::Gated(TOKEN.into())),
        says: &["refuses config.json", "401", "HF_TOKEN"],
        ..PUBLIC
    },
    Refusal {
        name: "gated, with the token of somebody else",
        hub: |hub| hub.access(Access::Gated(TOKEN.into())),
        token: "hf_wrong",
        says: &["refuses config.json", "403", "no access", "/tiny-org/llama"],
        ..PUBLIC
    },
    Refusal {
        name: "private, without a token",
        hub: |hub| hub.access(Access::Private(TOKEN.into())),
        says: &["401", "HF_TOKEN"],
        ..PUBLIC
    },
    Refusal {
        name: "the hub is out of order",
        hub: |hub| hub.access(Access::Broken),
        says: &["503", "try again later"],
        ..PUBLIC
    },
    Refusal {
        name: "weights that always break off",
        hub: |hub| hub.cut(WEIGHTS, 1000),
        says: &["model.safetensors", "check the network"],
        ..PUBLIC
    },
    Refusal {
        name: "more than a disk holds",
        hub: |hub| hub.claim(WEIGHTS, 1 << 60),
        says: &["MiB left", "have to be fetched", "set HF_HOME"],
        ..PUBLIC
    },
    Refusal {
        name: "no weights",
        hub: |hub| hub.without(WEIGHTS),
        says: &["neither safetensors nor pytorch_model", "config.json"],
        ..PUBLIC
    },
];

#[test]
fn each_refusal_of_the_hub_is_told_with_its_cure_in_the_log_and_by_ping() {
    // The last words of a start that fails take seconds: all wait for theirs together.
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = REFUSALS
            .iter()
            .map(|case| scope.spawn(|| complaint(case)))
            .collect();
        let complaints = threads.into_iter().map(|thread| thread.join().unwrap());
        complaints.flatten().collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn complaint(case: &Refusal) -> Option<String> {
    let hub = (case.hub)(llama()).start().unwrap();
    let mut start = Start::new(&hub);
    if !case.token.is_empty() {
        start = start.variable("HF_TOKEN", case.token);
    }
    let mut server = start.folder(case.properties).start().unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    let status = server.wait(Duration::from_secs(30)).unwrap();
    let log = server.log();
    let has_all = |text: &str| case.says.iter().all(|part| text.contains(part));
    let is_told = has_all(cause) && has_all(&log) && log.contains(&hub.endpoint());
    if status.code() == Some(1) && is_told && !log.contains("panicked") {
        return None;
    }
    Some(format!(
        "{}: {status}, /ping says {cause}:\n{log}",
        case.name
    ))
}

#[test]
fn a_hub_that_nobody_answers_for_is_named_with_the_cures() {
    let hub = llama().start().unwrap();
    let start = Start::new(&hub);
    drop(hub);
    let server = start
        .folder(&format!("option.model_id={ID}\n"))
        .start()
        .unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    for part in [ID, &start.endpoint, "refused", "HF_ENDPOINT"] {
        assert!(cause.contains(part), "{part} is not in: {cause}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named_with_the_cure() {
    let hub = llama().start().unwrap();
    let start = Start::new(&hub);
    std::fs::write(start.dir.path().join("hf"), "a file where a folder belongs").unwrap();
    let server = start
        .folder(&format!("option.model_id={ID}\n"))
        .start()
        .unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    for part in ["hf/hub", "HF_HOME"] {
        assert!(cause.contains(part), "{part} is not in: {cause}");
    }
}
