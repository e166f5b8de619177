//! What is said of wrong configurations: place, key, value, limit, cure; everything at once.

use super::{Start, says};
use crate::{ConfigError, EXIT_CODE};

#[test]
fn all_problems_come_together() {
    let start = Start::with_model()
        .properties("option.max_rolling_batch_size=0\noption.dtpye=fp16\nengine=PyTorch\n")
        .file(
            "home/config.properties",
            "\n\njob_queue_size=many\nerror_rate_any=5/PT1M\n",
        )
        .variable("SERVING_INFERENCE_ADDRESS", "8080")
        .variable("OPTION_THREADS", "-1")
        .variable("SERVING_LOAD_MODEL", "ALL");
    let errors = start.resolve().unwrap_err();
    assert_eq!(errors.problems.len(), 8, "{errors}");
    says(
        &errors.to_string(),
        &[
            "wrong in 8 places",
            "serving.properties:1: option.max_rolling_batch_size=0: the value must be a whole \
             number from 1 to 4096; correct it, or remove it for the default of 32",
            "serving.properties:2: unknown key option.dtpye; did you mean option.dtype?",
            "serving.properties:3: engine=PyTorch is not supported: TorchScript files",
            "config.properties:3: job_queue_size=many: the value must be a whole number",
            "config.properties:4: error_rate_any=5/PT1M is not supported",
            "environment variable SERVING_INFERENCE_ADDRESS: inference_address=8080: the value \
             must be an address such as http://0.0.0.0:8080",
            "environment variable OPTION_THREADS: option.threads=-1: the value must be a whole \
             number from 1 to 1024, or auto",
            "environment variable SERVING_LOAD_MODEL: it sets no known option; did you mean \
             SERVING_LOAD_MODELS?",
        ],
    );
    assert_eq!(EXIT_CODE, 64);
}

#[test]
fn values_that_are_overridden_are_not_judged() {
    let start = Start::with_model().properties("option.dtype=fp16\n");
    start.variable("OPTION_DTYPE", "nonsense").resolved();
}

#[test]
fn mistakes_in_the_form_of_a_file_name_their_lines() {
    let start = Start::with_model().properties("option.dtype=fp16\n\noption.task=\\u12\n");
    says(&start.refused(), &["serving.properties: line 3", "\\u12"]);
    let start = Start::with_model().properties("option.dtype=fp16\n# x\noption.dtype=bf16\n");
    says(
        &start.refused(),
        &["line 3", "option.dtype", "already set on line 1"],
    );
}

#[test]
fn two_names_of_one_option_must_agree() {
    let start = Start::with_model().properties("option.dtype=fp16\noption.data_type=fp32\n");
    says(
        &start.refused(),
        &[
            "properties:2: option.data_type=fp32",
            "properties:1: option.dtype=fp16",
        ],
    );
    Start::with_model()
        .properties("option.dtype=fp16\noption.data_type=fp16\n")
        .resolved();
}

#[test]
fn unknown_keys_are_warnings_if_asked_for() {
    let start = Start::with_model()
        .properties("option.dtpye=fp16\noption.something_else=1\n")
        .variable("OPTION_DTIPE", "fp16")
        .variable("SERVING_SERVICE_HOST", "10.0.0.1")
        .variable("SCONCE_STRICT", "warn");
    let warnings = start.resolved().warnings;
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    says(
        &warnings.join("\n"),
        &[
            "serving.properties:1",
            "did you mean option.dtype?",
            "OPTION_DTIPE",
        ],
    );
    says(
        &Start::with_model()
            .variable("SCONCE_STRICT", "no")
            .refused(),
        &["one of error, warn"],
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let start = Start::with_model()
        .variable("TS_DEFAULT_WORKERS", "1")
        .variable("MY_VAR", "1");
    let start = start
        .variable("SAGEMAKER_REGION", "us-east-1")
        .variable("HF_HOME", "/tmp");
    start
        .variable("AWS_REGION", "x")
        .variable("TRANSFORMERS_CACHE", "/tmp")
        .resolved();
}

#[test]
fn what_is_not_served_says_so_with_the_cure() {
    for (properties, parts) in [
        (
            "option.dtype=fp8",
            ["8-bit floats are neither made nor read", "int8"],
        ),
        (
            "option.quantize=smoothquant",
            ["option.quantize=smoothquant", "int8"],
        ),
        ("option.device=cuda:1", ["which GPUs", "auto, cpu or cuda"]),
        (
            "option.task=table-question-answering",
            ["tables, which need TAPAS", "text-generation"],
        ),
        (
            "option.model_id=s3:///model/",
            ["s3:///model/", "no bucket"],
        ),
        (
            "option.output_formatter=xml",
            ["json, jsonlines, sse", "option.output_formatter=xml"],
        ),
        (
            "option.rolling_batch=nothing",
            ["auto, scheduler, lmi-dist", "disable"],
        ),
        (
            "option.dtype=fp61",
            ["must be one of auto, fp32", "default of auto"],
        ),
        ("option.tensor_parallel_degree=0", ["max", "from 1 to 256"]),
        ("option.dtype=pf16", ["option.dtype=pf16", "did you mean"]),
        (
            "option.dtype=fp166",
            ["did you mean fp16?", "default of auto"],
        ),
        ("dtpye=fp16", ["unknown key dtpye", "option.dtype"]),
        (
            "option.entry_point=x",
            ["option.entryPoint", "properties:1"],
        ),
        (
            "option.wholly_new=x",
            ["no option has a name like it", "sconce options"],
        ),
        (
            "option.revision=",
            ["must not be empty", "correct or remove it"],
        ),
    ] {
        let errors = Start::with_model()
            .properties(properties)
            .resolve()
            .unwrap_err();
        assert_eq!(errors.problems.len(), 1, "{errors}");
        says(&errors.to_string(), &parts);
    }
}

#[test]
fn options_of_the_user_s_python_code_are_not_judged() {
    let properties = "option.entryPoint=/home/me/script.py\noption.my_own=1\n";
    let errors = Start::with_model()
        .properties(properties)
        .resolve()
        .unwrap_err();
    assert!(
        matches!(errors.problems[..], [ConfigError::NoScript { .. }]),
        "{errors}"
    );
    let start = Start::with_model()
        .properties("option.my_own=1\n")
        .file("model/model.py", "def handle(inputs):\n    pass\n");
    assert!(start.resolved().model.python.is_some());
    start
        .properties("option.entryPoint=djl_python.huggingface\n")
        .resolved();
}
