//! Weights straight from S3 into memory, and loading while they come to the disk.

use std::path::Path;

use sconce_testkit::fakes::Gate;
use sconce_testkit::s3::{Failure, FakeS3};

use super::{Start, URL, llama};
use crate::support::{answer, answer_of_the_folder, ready, started, wait_for_ping};

/// Files below a folder, with their sizes.
fn files(dir: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return vec![];
    };
    let of = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => files(&path),
        path => vec![(path.display().to_string(), entry.metadata().unwrap().len())],
    };
    entries.flat_map(|entry| of(entry.unwrap())).collect()
}

#[test]
fn streamed_weights_answer_as_those_of_a_folder_and_leave_nothing_on_the_disk() {
    let expected = answer_of_the_folder();
    for (ranks, format) in [(1, "stream"), (2, "runai_streamer")] {
        let bucket = llama().start().unwrap();
        let start = Start::new(&bucket);
        let server = started(start.folder(&format!(
            "option.model_id={URL}\noption.load_format={format}\noption.tensor_parallel_degree={ranks}\n"
        )));
        assert_eq!(answer(&server), expected, "{ranks} ranks");
        assert!(
            server.log().contains("streaming s3://bucket/models/llama/"),
            "{}",
            server.log()
        );
        assert_eq!(files(&start.cache()), []);
        let requests = bucket.requests().into_iter();
        let mut ranges: Vec<_> = requests
            .filter(|request| request.path.ends_with("model.safetensors"))
            .map(|request| request.range.unwrap())
            .skip(1)
            .collect();
        ranges.sort_unstable();
        let twice: Vec<_> = ranges
            .windows(2)
            .filter(|pair| pair[0].1 >= pair[1].0)
            .collect();
        assert!(
            ranges.len() > 10 && twice.is_empty(),
            "{twice:?} of {ranges:?}"
        );
    }
}

#[test]
fn a_prefix_that_is_in_the_cache_is_not_streamed() {
    let bucket = llama().start().unwrap();
    let start = Start::new(&bucket);
    drop(start.serve());
    let asked = bucket.requests().len();
    let properties = format!("option.model_id={URL}\noption.load_format=stream\n");
    let server = started(start.folder(&properties));
    assert_eq!(answer(&server), answer_of_the_folder());
    assert_eq!(bucket.requests().len(), asked + 1, "the listing");
}

#[test]
fn what_cannot_be_streamed_says_so() {
    let folder = crate::tasks::FOLDERS.root().join("distilbert-sentences");
    let bucket = FakeS3::default().folder("models/st", &folder).unwrap();
    let bucket = bucket.start().unwrap();
    let start = Start::new(&bucket);
    let properties = "option.model_id=s3://bucket/models/st/\noption.load_format=stream\n";
    let server = start.folder(properties).start().unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("option.load_format = stream"), "{cause}");
    assert!(cause.contains("text-embedding"), "{cause}");
    let here = ready("llama", "option.load_format=stream\n");
    let log = here.log();
    assert!(
        log.contains("option.load_format = stream has no effect"),
        "{log}"
    );
}

#[test]
fn loading_begins_before_the_last_part_has_come() {
    let gate = Gate::default();
    let weights = long_weights();
    let bucket = llama().object("models/llama/model.safetensors", &weights);
    let bucket = bucket.wait_behind(8 << 20, &gate).start().unwrap();
    let start = Start::new(&bucket);
    let launch = start.folder(&format!("option.model_id={URL}\n"));
    let mut server = launch.start().unwrap();
    wait_for_ping(&server, 503, |entry| entry["phase"] == "loading");
    gate.open();
    server.wait_for_log("is ready after").unwrap();
    assert_eq!(answer(&server), answer_of_the_folder());
}

/// The tiny Llama's weights with 9 MiB before them that nobody needs, so that they are in the last part.
fn long_weights() -> Vec<u8> {
    let bytes = std::fs::read(crate::support::tiny("llama").join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut table: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let more = 9 << 20;
    let entries = table.as_object_mut().unwrap();
    for (_, entry) in entries
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        for offset in entry["data_offsets"].as_array_mut().unwrap() {
            *offset = (offset.as_u64().unwrap() + more).into();
        }
    }
    entries.insert(
        "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
        serde_json::json!({"dtype": "F32", "shape": [more / 4], "data_offsets": [0, more]}),
    );
    let text = serde_json::to_vec(&table).unwrap();
    let mut long = (text.len() as u64).to_le_bytes().to_vec();
    long.extend(text);
    long.extend(vec![0; more as usize]);
    long.extend(&bytes[header..]);
    long
}

#[test]
fn a_refusal_while_loading_is_told_with_its_cure() {
    for properties in ["", "option.load_format=stream\n"] {
        let denied = Failure::Refusal("403 Forbidden", "AccessDenied");
        let bucket = llama().object("models/llama/model.safetensors", &long_weights());
        let bucket = bucket.fault_behind(8 << 20, denied).start().unwrap();
        let start = Start::new(&bucket);
        let launch = start.folder(&format!("option.model_id={URL}\n{properties}"));
        let server = launch.start().unwrap();
        let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
        let cause = entry["cause"].as_str().unwrap();
        assert!(
            cause.contains("AccessDenied") && cause.contains("s3:GetObject"),
            "{cause}"
        );
    }
}
