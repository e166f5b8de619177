//! The rules of this repository that a program can check: which crate may use which, who owns
//! what, sizes, headers. The tables below say what is allowed; `tidy/rules.rs` how it is checked.

mod manifest;
mod rules;
mod sharing;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use manifest::Manifest;
use rules::Owned;
use source::Source;

/// Which crates of ours each crate may use. Edges point down: a crate stands above all that it
/// names. Every crate may use `sconce-core`, which stands below all.
const EDGES: &[(&str, &[&str])] = &[
    (
        "sconce",
        &[
            "sconce-check",
            "sconce-config",
            "sconce-emulate",
            "sconce-http",
            "sconce-manager",
            "sconce-record",
            "sconce-telemetry",
        ],
    ),
    (
        "sconce-check",
        &["sconce-config", "sconce-engine", "sconce-manager"],
    ),
    (
        "sconce-http",
        &["sconce-api", "sconce-record", "sconce-telemetry"],
    ),
    (
        "sconce-manager",
        &[
            "sconce-config",
            "sconce-diffusion",
            "sconce-engine",
            "sconce-python",
            "sconce-seq2seq",
            "sconce-tasks",
        ],
    ),
    (
        "sconce-diffusion",
        &["sconce-engine", "sconce-models", "sconce-nn", "sconce-text"],
    ),
    (
        "sconce-seq2seq",
        &["sconce-engine", "sconce-models", "sconce-nn", "sconce-text"],
    ),
    (
        "sconce-tasks",
        &["sconce-engine", "sconce-models", "sconce-nn", "sconce-text"],
    ),
    (
        "sconce-engine",
        &["sconce-models", "sconce-nn", "sconce-sched", "sconce-text"],
    ),
    ("sconce-models", &["sconce-nn"]),
    ("sconce-api", &[]),
    ("sconce-config", &[]),
    ("sconce-emulate", &[]),
    ("sconce-nn", &[]),
    ("sconce-python", &[]),
    ("sconce-record", &[]),
    ("sconce-sched", &[]),
    ("sconce-telemetry", &[]),
    ("sconce-text", &[]),
    ("sconce-testkit", &[]),
    ("sconce-core", &[]),
];

/// Libraries that only some crates build upon; tests may use any.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("anyhow", &["sconce", "sconce-testkit"]),
    ("aws-smithy-eventstream", &["sconce-emulate"]),
    ("aws-smithy-types", &["sconce-emulate"]),
    ("axum", &["sconce-emulate", "sconce-http"]),
    (
        "candle-core",
        &[
            "sconce-diffusion",
            "sconce-engine",
            "sconce-models",
            "sconce-nn",
        ],
    ),
    (
        "candle-nn",
        &["sconce-engine", "sconce-models", "sconce-nn"],
    ),
    ("image", &["sconce-diffusion"]),
    ("hyper", &["sconce-emulate", "sconce-http"]),
    ("memmap2", &["sconce-nn"]),
    ("llguidance", &["sconce-text"]),
    ("minijinja", &["sconce-text"]),
    ("object_store", &["sconce-manager"]),
    ("opentelemetry", &["sconce-telemetry"]),
    ("prometheus-client", &["sconce-telemetry"]),
    ("tokenizers", &["sconce-text"]),
    (
        "tokio",
        &["sconce", "sconce-emulate", "sconce-http", "sconce-manager"],
    ),
    ("tokio-rustls", &["sconce-http"]),
];

const OWNED: &[Owned] = &[
    Owned {
        words: &[
            "std::env",
            "env::var",
            "env::var_os",
            "env::vars",
            "option_env!",
        ],
        owners: &["sconce-config"],
        tests_too: false,
        why: "everything else reads resolved settings",
    },
    Owned {
        words: &["unsafe"],
        owners: &["sconce-nn"],
        tests_too: true,
        why: "kernels and the mapping of weights need it, nothing else",
    },
    Owned {
        words: &["StatusCode"],
        owners: &["sconce-emulate", "sconce-http", "sconce-manager"],
        tests_too: false,
        why: "one place turns errors into statuses, others read those of the hub and speak for SageMaker",
    },
    Owned {
        words: &["process::Command", "Command::new"],
        owners: &["sconce-python", "sconce-testkit"],
        tests_too: false,
        why: "the only processes are those of Python mode",
    },
];

const ARCHITECTURES: &str = "crates/sconce-models/src/arch/";
/// DJL Serving's rules tell the task of a model from the ending of its class, and spell some out.
const TASKS: &str = "crates/sconce-manager/src/task.rs";

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "crates",
    "docker",
    "models",
    "target",
    "tests",
];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 100;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository's root exists")
}

/// Text files with one of the endings, as (path from the root, text). Hidden folders, build
/// products, links and the fetched model are left out.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            let relative = path.strip_prefix(&root).expect("it is below the root");
            let relative = relative.to_string_lossy().replace('\\', "/");
            let name = relative.rsplit('/').next().unwrap_or("");
            if name.starts_with('.') || relative == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).expect("it is text in UTF-8");
                found.push((relative, text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let texts = texts(&[".rs"]).into_iter();
    texts.map(|(path, text)| Source::new(path, text)).collect()
}

fn manifests() -> Vec<Manifest> {
    let texts = texts(&["Cargo.toml"]).into_iter();
    // Fuzz targets are crates outside the workspace.
    let of_workspace =
        |path: &str| path.starts_with("crates/") && !path.ends_with("/fuzz/Cargo.toml");
    let crates = texts.filter(|(path, _)| of_workspace(path));
    crates
        .map(|(path, text)| Manifest::new(path, &text))
        .collect()
}

fn refuse(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn refuse_in_sources(rule: impl Fn(&Source) -> Vec<String>) {
    refuse(sources().iter().flat_map(rule));
}

#[test]
fn crates_depend_as_drawn() {
    refuse(manifests().iter().flat_map(|m| rules::edges(m, EDGES)));
}

#[test]
fn every_drawn_crate_exists() {
    let names: Vec<String> = manifests().into_iter().map(|m| m.name).collect();
    for (name, below) in EDGES {
        for name in below.iter().chain([name]) {
            assert!(
                names.iter().any(|n| n == name),
                "tidy.rs names {name}: no such crate"
            );
        }
    }
}

#[test]
fn libraries_stay_with_their_owners() {
    refuse(
        manifests()
            .iter()
            .flat_map(|m| rules::libraries(m, LIBRARIES)),
    );
}

#[test]
fn manifests_have_a_description_and_the_workspace_lints() {
    refuse(manifests().iter().flat_map(rules::manifest_basics));
}

#[test]
fn environment_unsafe_statuses_and_processes_have_one_owner_each() {
    refuse_in_sources(|s| {
        OWNED
            .iter()
            .flat_map(|rule| rules::owned(s, rule))
            .collect()
    });
}

#[test]
fn architectures_are_named_in_their_folder_only() {
    refuse_in_sources(|s| match s.path.as_str() {
        TASKS => Vec::new(),
        _ => rules::architecture_names(s, ARCHITECTURES),
    });
}

#[test]
fn architectures_are_not_copies_of_each_other() {
    let sources = sources();
    let folder = sources.iter().filter(|s| s.path.starts_with(ARCHITECTURES));
    let files: Vec<&Source> = folder.collect();
    let (shared, all) = sharing::shared_lines(&files);
    println!("{shared} of {all} lines of {ARCHITECTURES} stand in several files");
    assert!(
        all > 0 && shared * 3 <= all,
        "{shared} of {all} lines of {ARCHITECTURES} stand in several files; the limit is a third: \
         give what they share one place"
    );
}

#[test]
fn files_say_what_they_are_for() {
    refuse_in_sources(rules::header);
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources();
    let files = sources.iter().map(|s| s.text.lines().count()).collect();
    let functions = sources.iter().flat_map(Source::functions);
    println!(
        "90 % of files have at most {} lines, 90 % of functions at most {}",
        rules::percentile(files, 90),
        rules::percentile(functions.map(|f| f.lines).collect(), 90),
    );
    let files = sources.iter();
    refuse(
        files.flat_map(|s| rules::file_length(s, FILE_LINES)).chain(
            sources
                .iter()
                .flat_map(|s| rules::function_length(s, FUNCTION_LINES)),
        ),
    );
}

#[test]
fn nothing_is_left_unfinished() {
    refuse_in_sources(rules::unfinished);
}

#[test]
fn white_space_is_clean() {
    let texts = texts(&[".rs", ".toml", ".md", ".py"]);
    refuse(
        texts
            .iter()
            .flat_map(|(path, text)| rules::whitespace(path, text)),
    );
}

#[test]
fn the_top_level_holds_what_the_layout_names() {
    let entries = fs::read_dir(root()).expect("the root is readable");
    let names: Vec<String> = entries
        .map(|entry| entry.expect("the entry is readable").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    refuse(rules::top_level(names.iter().map(String::as_str), TOP_LEVEL).into_iter());
}
