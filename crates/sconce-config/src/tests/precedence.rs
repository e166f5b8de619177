//! Which place wins, option by option, and what is told of it.

use std::path::PathBuf;
use std::time::Duration;

use super::{Start, says};
use crate::{Dtype, ModelSource, OutputFormatter, Provenance};

#[test]
fn nothing_set_gives_the_defaults_of_the_container() {
    let resolved = Start::with_model().resolved();
    let server = resolved.server;
    assert_eq!((server.host.as_str(), server.port), ("0.0.0.0", 8080));
    assert_eq!(server.max_request_size, 67_108_864);
    assert_eq!(
        (server.request_id_header_key.as_str(), server.log.as_str()),
        ("x-request-id", "info")
    );
    let model = resolved.model;
    assert_eq!(
        (model.dtype, model.ranks, model.threads),
        (Dtype::Auto, 1, None)
    );
    assert_eq!(
        (model.max_rolling_batch_size, model.max_batched_tokens),
        (32, 512)
    );
    assert_eq!((model.max_model_len, model.kv_cache_bytes), (None, None));
    assert_eq!((model.prefix_caching, model.job_queue_size), (true, 1000));
    assert!(!model.model_sampling);
    assert_eq!(model.predict_timeout, Duration::from_secs(240));
    assert_eq!(model.output_formatter, None);
}

#[test]
fn everything_that_is_set_arrives() {
    let properties = "engine = Python\noption.dtype=bfloat16\noption.number_of_partitions=2\n\
        option.max_rolling_batch_size=8\noption.max_num_batched_tokens=64\n\
        option.generation_config=auto\noption.max_model_len=128\noption.enable_prefix_caching=False\n\
        option.kv_cache_memory=512MiB\noption.threads=3\noption.prediction_timeout=9\n\
        option.model_loading_timeout=8\noption.output_formatter=sse\njob_queue_size=7 \n";
    let model = Start::with_model().properties(properties).resolved().model;
    assert_eq!(
        (model.dtype, model.ranks, model.threads),
        (Dtype::Bf16, 2, Some(3))
    );
    assert_eq!(
        (model.max_rolling_batch_size, model.max_batched_tokens),
        (8, 64)
    );
    assert_eq!(
        (model.max_model_len, model.kv_cache_bytes),
        (Some(128), Some(512 << 20))
    );
    assert_eq!((model.prefix_caching, model.job_queue_size), (false, 7));
    assert!(model.model_sampling);
    assert_eq!(model.predict_timeout, Duration::from_secs(9));
    assert_eq!(model.model_loading_timeout, Duration::from_secs(8));
    assert_eq!(
        model.output_formatter,
        Some(OutputFormatter::ServerSentEvents)
    );
}

#[test]
fn option_variables_fill_only_what_the_file_leaves_out() {
    let start = Start::with_model()
        .properties("option.dtype=fp16\n")
        .variable("OPTION_DTYPE", "bf16")
        .variable("OPTION_MAX_ROLLING_BATCH_SIZE", "5")
        .variable("OPTION_MAX_MODEL_LEN", "");
    let resolved = start.resolved();
    assert_eq!(
        (resolved.model.dtype, resolved.model.max_rolling_batch_size),
        (Dtype::F16, 5)
    );
    assert_eq!(resolved.model.max_model_len, None);
    let lines: Vec<_> = resolved.origins.iter().map(ToString::to_string).collect();
    says(
        &lines.join("\n"),
        &[
            "serving.properties:1), which wins over environment variable OPTION_DTYPE",
            "option.max_rolling_batch_size = 5 (environment variable OPTION_MAX_ROLLING_BATCH_SIZE)",
        ],
    );
}

#[test]
fn names_in_capitals_stand_for_small_letters_and_others_stand_for_themselves() {
    let start = Start::with_model()
        .variable("OPTION_modelName", "m")
        .variable("OPTION_dtype", "fp32");
    assert_eq!(start.resolved().model.dtype, Dtype::F32);
    let refused = Start::with_model()
        .variable("OPTION_MODELNAME", "m")
        .refused();
    says(&refused, &["OPTION_MODELNAME", "OPTION_modelName"]);
    let entry = Start::with_model().variable("OPTION_ENTRYPOINT", "djl_python.lmi_dist");
    entry
        .variable("OPTION_ENGINE", "MPI")
        .variable("ARGS_maxWorkers", "3")
        .resolved();
}

#[test]
fn sagemaker_s_variables_override_the_file_and_others_fill_gaps() {
    let start = Start::with_model()
        .properties("option.predict_timeout=9\n")
        .variable("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "70")
        .variable("PREDICT_TIMEOUT", "80")
        .variable("MODEL_LOADING_TIMEOUT", "90")
        .variable("SM_NUM_GPUS", "8");
    let model = start.resolved().model;
    assert_eq!(model.predict_timeout, Duration::from_secs(70));
    assert_eq!(model.model_loading_timeout, Duration::from_secs(90));
    assert_eq!(model.ranks, 8);
    let degree = start.variable("TENSOR_PARALLEL_DEGREE", "4");
    assert_eq!(degree.resolved().model.ranks, 4);
    let option = degree.variable("OPTION_TENSOR_PARALLEL_DEGREE", "max");
    assert_eq!(option.resolved().model.ranks, 1);
    assert_eq!(
        option
            .properties("option.tensor_parallel_degree=2")
            .resolved()
            .model
            .ranks,
        2
    );
}

#[test]
fn bytes_win_over_megabytes_and_both_over_the_rest() {
    let size = |start: &Start| start.resolved().server.max_request_size;
    let start = Start::with_model().file("home/conf/config.properties", "max_request_size=1\n");
    assert_eq!(size(&start), 1);
    let start = start.variable("SERVING_MAX_REQUEST_SIZE", "2");
    assert_eq!(size(&start), 2);
    let start = start.variable("SAGEMAKER_MAX_PAYLOAD_IN_MB", "3");
    assert_eq!(size(&start), 3 << 20);
    assert_eq!(size(&start.variable("SAGEMAKER_MAX_REQUEST_SIZE", "4")), 4);
}

#[test]
fn the_queue_is_the_server_s_unless_the_model_says_otherwise() {
    let queue = |start: &Start| start.resolved().model.job_queue_size;
    let start = Start::with_model().file("home/config.properties", "job_queue_size=1\n");
    assert_eq!(queue(&start), 1);
    let start = start.variable("MAX_CONCURRENT_REQUESTS", "2");
    assert_eq!(queue(&start), 2);
    let start = start.variable("SERVING_JOB_QUEUE_SIZE", "3");
    assert_eq!(queue(&start), 3);
    assert_eq!(queue(&start.properties("job_queue_size=4\n")), 4);
}

#[test]
fn the_command_line_wins_over_every_port() {
    let start = Start::with_model().variable("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:81");
    assert_eq!(start.resolved().server.port, 81);
    let mut start = start.variable("SAGEMAKER_BIND_TO_PORT", "82");
    let server = start.resolved().server;
    assert_eq!((server.host.as_str(), server.port), ("127.0.0.1", 82));
    start.line.port = Some(0);
    start.line.host = Some("::1".into());
    let resolved = start.resolved();
    assert_eq!(
        (resolved.server.host.as_str(), resolved.server.port),
        ("::1", 0)
    );
    assert!(
        resolved
            .origins
            .iter()
            .any(|o| o.key == "--port" && o.from == Provenance::CommandLine)
    );
}

#[test]
fn the_log_s_level_has_three_names() {
    let log = |start: &Start| start.resolved().server.log;
    let start = Start::with_model().variable("SERVING_OPTS", "\"-Dai.djl.logging.level=debug\"");
    assert_eq!(log(&start), "debug");
    let start = start.variable("SAGEMAKER_CONTAINER_LOG_LEVEL", "30");
    assert_eq!(log(&start), "warn");
    assert_eq!(
        log(&start.variable("SCONCE_LOG", "info,sconce_engine=trace")),
        "info,sconce_engine=trace"
    );
}

#[test]
fn tokens_are_passed_on_and_never_shown() {
    let start = Start::without_model()
        .variable("HF_MODEL_ID", "my-org/llama-2")
        .variable("HF_REVISION", "v1")
        .variable("HUGGING_FACE_HUB_TOKEN", "old")
        .variable("HF_TOKEN", "hf_secret");
    let resolved = start.resolved();
    let ModelSource::Hub(model) = &resolved.model.source else {
        panic!()
    };
    assert_eq!(
        (model.id.as_str(), model.revision.as_deref()),
        ("my-org/llama-2", Some("v1"))
    );
    assert_eq!(model.token.as_deref(), Some("hf_secret"));
    assert_eq!(resolved.model.name, "my_org_llama_2");
    assert!(
        !format!("{resolved:?}").contains("hf_secret"),
        "{resolved:?}"
    );
}

#[test]
fn what_has_no_effect_says_why() {
    let resolved = Start::with_model()
        .properties("option.rolling_batch=disable\n")
        .resolved();
    let origin = resolved
        .origins
        .iter()
        .find(|origin| origin.key == "option.rolling_batch");
    says(
        &origin.unwrap().to_string(),
        &["= disable", ":1)", "without effect", "every step"],
    );
    assert!(
        resolved
            .defaults
            .iter()
            .any(|origin| origin.key == "option.dtype")
    );
    assert!(resolved.warnings.is_empty());
    assert_eq!(resolved.origins[0].from, Provenance::CommandLine);
    assert_eq!(
        resolved.model.source,
        ModelSource::Directory(PathBuf::from(&resolved.origins[0].value))
    );
}
