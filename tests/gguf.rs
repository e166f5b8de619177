//! GGUF files as models: in a folder, by themselves, on the hub. The file is models/tiny/llama, made by llama.cpp's
//! converter with its whole vocabulary (`tests/fixtures/gguf/make_tokenizers.py`), so that answers must be the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sconce_testkit::hub::{FakeHub, RunningHub};
use sconce_testkit::server::Launch;
use tempfile::TempDir;

use crate::support::{PROGRAM, answer, answer_of_the_folder, started, without_folder};

const FILE: &str = "tiny-llama.gguf";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/gguf")
        .join(FILE)
}

/// A folder with the file under these names, and with these properties.
fn folder(names: &[&str], properties: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in names {
        fs::copy(fixture(), dir.path().join(name)).unwrap();
    }
    let properties = format!("option.rolling_batch=auto\n{properties}");
    fs::write(dir.path().join("serving.properties"), properties).unwrap();
    dir
}

#[test]
fn a_folder_with_a_gguf_file_answers_like_the_checkpoint_that_it_was_made_from() {
    let dir = folder(&["m.F32.gguf"], "");
    let server = started(Launch::serve(PROGRAM, dir.path()));
    assert_eq!(answer(&server), answer_of_the_folder());
    let log = server.log();
    assert!(
        log.contains("LlamaForCausalLM") && !log.contains("WARN"),
        "{log}"
    );
}

#[test]
fn a_gguf_file_is_checked_by_its_header() {
    let dir = folder(&[FILE], "");
    let output = Command::new(PROGRAM)
        .arg("check")
        .arg(dir.path())
        .args(["--bandwidth", "20"])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for part in [
        "text-generation",
        "LlamaForCausalLM: 2 layers, 6 heads, 2 for keys and values, context 256",
        "parameters in float32",
        "nothing speaks against it",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn of_several_files_the_named_one_is_served_and_without_a_name_all_are_listed() {
    let names = ["a.gguf", "b.gguf"];
    let dir = folder(&names, "option.gguf_file=b.gguf\n");
    // What is not named is not read.
    fs::write(dir.path().join("a.gguf"), "nonsense").unwrap();
    let server = started(Launch::serve(PROGRAM, dir.path()));
    assert_eq!(answer(&server), answer_of_the_folder());
    let dir = folder(&names, "");
    let (status, log) = Launch::serve(PROGRAM, dir.path()).run().unwrap();
    assert!(!status.success());
    assert!(
        log.contains(
            "several GGUF files, a.gguf, b.gguf: name the one to serve with option.gguf_file"
        ),
        "{log}"
    );
}

#[test]
fn a_file_is_a_model_by_itself() {
    let dir = folder(&["m.gguf"], "");
    let server = started(Launch::serve(PROGRAM, &dir.path().join("m.gguf")));
    assert!(!answer(&server).is_empty());
}

#[test]
fn a_file_is_found_by_its_bare_name() {
    let dir = folder(&["m.gguf"], "");
    let mut check = Command::new(PROGRAM);
    let check = check.args(["check", "m.gguf"]).current_dir(dir.path());
    let told = check.output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.contains("LlamaForCausalLM"), "{text}");
}

#[test]
fn a_file_is_a_model_of_the_list_of_models() {
    let dir = folder(&["m.gguf"], "");
    let file = dir.path().join("m.gguf");
    let launch = without_folder(dir.path()).argument("-m");
    let server = started(launch.argument(&file.to_string_lossy()));
    assert!(!answer(&server).is_empty());
}

/// A start whose model is the hub's.
fn of_hub(hub: &RunningHub, home: &Path, gguf_file: Option<&str>) -> Launch<'static> {
    let launch = without_folder(home)
        .env("HF_HOME", &home.join("hf").to_string_lossy())
        .env("HF_ENDPOINT", &hub.endpoint())
        .env("HF_MODEL_ID", "tiny-org/llama-GGUF")
        .env("OPTION_ROLLING_BATCH", "auto");
    match gguf_file {
        Some(file) => launch.env("OPTION_GGUF_FILE", file),
        None => launch,
    }
}

#[test]
fn of_a_repository_only_the_named_file_is_fetched_and_taken_from_the_cache_the_next_time() {
    let dir = folder(&["m.Q4.gguf", "m.Q8.gguf"], "");
    let hub = FakeHub::of_folder("tiny-org/llama-GGUF", dir.path()).unwrap();
    let hub = hub.start().unwrap();
    let home = TempDir::new().unwrap();
    let server = started(of_hub(&hub, home.path(), Some("m.Q8.gguf")));
    assert_eq!(answer(&server), answer_of_the_folder());
    let fetched = format!("{:?}", hub.requests());
    assert!(
        fetched.contains("m.Q8.gguf") && !fetched.contains("m.Q4.gguf"),
        "{fetched}"
    );
    let (status, log) = of_hub(&hub, home.path(), None).run().unwrap();
    assert!(!status.success());
    assert!(
        log.contains("several GGUF files, m.Q4.gguf, m.Q8.gguf"),
        "{log}"
    );
    let again = of_hub(&hub, home.path(), Some("m.Q8.gguf"));
    drop(hub);
    let server = started(again);
    assert_eq!(answer(&server), answer_of_the_folder());
    assert!(server.log().contains("as it was fetched before"));
}
