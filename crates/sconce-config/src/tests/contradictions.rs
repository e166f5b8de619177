//! Configurations whose parts exclude each other, and files that cannot be what they should.

use super::{Start, says};
use crate::ConfigError;

#[track_caller]
fn contradicts(properties: &str, parts: &[&str]) {
    let errors = Start::with_model()
        .properties(properties)
        .resolve()
        .unwrap_err();
    let is_contradiction =
        |problem: &&ConfigError| matches!(problem, ConfigError::Contradiction { .. });
    let found: Vec<_> = errors.problems.iter().filter(is_contradiction).collect();
    assert_eq!(found.len(), 1, "{errors}");
    says(&found[0].to_string(), parts);
}

#[test]
fn options_that_exclude_each_other_name_both_places() {
    contradicts(
        "option.load_in_8bit=True\noption.load_in_4bit=True\n",
        &["properties:2", "properties:1", "keep one of them"],
    );
    contradicts(
        "option.dtype=int8\noption.load_in_4bit=True\n",
        &[
            "option.dtype=int8",
            "option.load_in_4bit",
            "keep one of them",
        ],
    );
    contradicts(
        "option.dtype=int8\noption.quantize=q4_0\n",
        &["option.dtype=int8", "option.quantize=q4_0", "one precision"],
    );
    contradicts(
        "engine=FasterTransformer\noption.dtype=int8\n",
        &["option.dtype=int8", "engine=FasterTransformer", "32 and 16"],
    );
    contradicts(
        "engine=DeepSpeed\noption.load_in_8bit=True\n",
        &[
            "option.load_in_8bit=True",
            "engine=DeepSpeed",
            "smoothquant",
        ],
    );
    contradicts(
        "batch_size=4\noption.rolling_batch=disable\noption.enable_streaming=True\n",
        &[
            "batch_size=4",
            "option.enable_streaming=True",
            "batch_size=1",
        ],
    );
    contradicts(
        "minWorkers=4\ngpu.maxWorkers=2\n",
        &["gpu.maxWorkers=2", "minWorkers=4", "smaller than the least"],
    );
}

#[test]
fn names_of_one_option_that_disagree_are_a_conflict() {
    for (properties, parts) in [
        (
            "option.tensor_parallel_degree=2\noption.tensor_parallel_size=4\n",
            [
                "option.tensor_parallel_size=4",
                "option.tensor_parallel_degree=2",
            ],
        ),
        (
            "option.max_rolling_batch_size=32\noption.max_num_seqs=256\n",
            [
                "option.max_num_seqs=256",
                "option.max_rolling_batch_size=32",
            ],
        ),
        (
            "option.model_id=my-org/a\noption.s3url=my-org/b\n",
            ["option.s3url=my-org/b", "option.model_id=my-org/a"],
        ),
        (
            "dtype=fp16\noption.dtype=fp32\n",
            ["dtype=fp16", "option.dtype=fp32"],
        ),
    ] {
        let errors = Start::without_model()
            .properties(properties)
            .resolve()
            .unwrap_err();
        assert!(
            matches!(errors.problems[0], ConfigError::Conflict { .. }),
            "{errors}"
        );
        says(&errors.to_string(), &parts);
        says(&errors.to_string(), &["same option by another name"]);
    }
    Start::with_model()
        .properties("option.max_rolling_batch_size=8\noption.max_num_seqs=8\n")
        .resolved();
}

#[test]
fn fixed_and_rolling_batches_together_are_only_odd() {
    let start = Start::with_model().properties("batch_size=4\noption.rolling_batch=auto\n");
    let warnings = start.resolved().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    says(&warnings[0], &["batch_size=4", "option.rolling_batch=auto"]);
}

#[test]
fn a_model_that_is_named_and_lies_there_as_well_is_refused() {
    let start = Start::without_model()
        .properties("option.model_id=my-org/llama\n")
        .file("model/config.json", "{}")
        .file("model/model.safetensors", "");
    says(
        &start.refused(),
        &[
            "option.model_id=my-org/llama",
            "config.json, model.safetensors",
            "remove one of them",
        ],
    );
    // A configuration without weights is what the hub's model is served with.
    let start = Start::without_model()
        .properties("option.model_id=my-org/llama\n")
        .file("model/config.json", "{}");
    start.resolved();
    // A name of the directory itself says nothing new.
    let start = Start::with_model().file("model/pytorch_model.bin", "");
    let path = start.path("model").display().to_string();
    start
        .properties(&format!("option.model_id={path}\n"))
        .resolved();
}

#[test]
fn placeholders_are_not_taken_for_values() {
    let start = Start::with_model()
        .properties("option.dtype=${DTYPE}\noption.revision=v${VERSION:-1}\n")
        .variable("OPTION_MAX_MODEL_LEN", "${LEN}");
    let errors = start.resolve().unwrap_err();
    assert_eq!(errors.problems.len(), 3, "{errors}");
    says(
        &errors.to_string(),
        &[
            "serving.properties:1: option.dtype=${DTYPE}: ${DTYPE} stays as it is",
            "${VERSION:-1} stays",
            "OPTION_MAX_MODEL_LEN",
            "write the value itself",
        ],
    );
}

#[test]
fn files_in_other_encodings_say_so() {
    let start = Start::with_model();
    let utf16: Vec<u8> = "option.dtype=fp16\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let path = start.path("model/serving.properties");
    std::fs::write(&path, [&[0xff, 0xfe][..], &utf16].concat()).unwrap();
    says(
        &start.refused(),
        &["serving.properties: line 1", "0xff", "UTF-8"],
    );
    std::fs::write(&path, b"option.dtype=fp16\n# caf\xe9\n").unwrap();
    says(&start.refused(), &["line 2", "0xe9", "UTF-8"]);
}

#[test]
fn what_may_not_be_read_says_who_is_to_act() {
    let error = ConfigError::Unreadable {
        path: "/srv/model".into(),
        cause: std::io::Error::from_raw_os_error(13).to_string(),
    };
    says(
        &error.to_string(),
        &[
            "/srv/model cannot be read",
            "Permission denied",
            "chmod a+rX",
        ],
    );
    let error = ConfigError::Unreadable {
        path: "/srv/model".into(),
        cause: std::io::Error::from_raw_os_error(2).to_string(),
    };
    assert!(!error.to_string().contains("chmod"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let start = Start::with_model();
    let dir = start.path("model");
    let allow = |mode| {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(0o000);
    let readable = std::fs::read_dir(&dir).is_ok();
    let resolved = start.resolve();
    allow(0o755);
    if readable {
        println!("skipped: this user may read everything");
        return;
    }
    says(
        &resolved.unwrap_err().to_string(),
        &["cannot be read", "Permission denied", "chmod"],
    );
}

#[test]
fn scripts_are_found_by_their_base_name() {
    let properties = "option.entryPoint=/home/me/handlers/script.py\n";
    let start = Start::with_model().properties(properties);
    says(
        &start.refused(),
        &[
            "/home/me/handlers/script.py names no file",
            "model/script.py",
        ],
    );
    let start = start.file("model/script.py", "");
    let python = start.resolved().model.python.unwrap();
    assert_eq!(python.entry_point, "script.py");
    assert_eq!(python.dir, start.path("model"));
    let hub = Start::without_model()
        .variable("HF_MODEL_ID", "my-org/gpt2")
        .variable("OPTION_ENTRYPOINT", "my_module");
    says(
        &hub.refused(),
        &["my_module is Python code", "a directory of this machine"],
    );
}

#[test]
fn a_script_beside_a_native_handler_is_told_to_be_idle() {
    let start = Start::with_model()
        .properties("option.entryPoint=djl_python.huggingface\n")
        .file("model/model.py", "");
    let warnings = start.resolved().warnings;
    says(&warnings.join("\n"), &["model.py is not run"]);
}
