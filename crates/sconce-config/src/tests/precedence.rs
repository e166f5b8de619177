//! Which place wins, option by option, and what is told of it.

use std::path::PathBuf;
use std::time::Duration;

use super::{Start, says};
use crate::{Cors, Dialect, Dtype, ModelSource, OutputFormatter, Provenance, StatusCodes, Task};

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
    let codes = StatusCodes {
        bad_request: 400,
        wlm_error: 503,
        throttle_error: 503,
        server_error: 500,
    };
    assert_eq!((server.codes, server.cors), (codes, Cors::default()));
    assert_eq!(server.chunked_read_timeout, Duration::from_secs(120));
    assert!(!server.allow_multi_status);
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
    assert_eq!((model.dialect, model.task), (Dialect::Async, None));
    assert!(model.model_sampling);
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
fn the_server_s_own_settings_arrive() {
    let start = Start::with_model()
        .file(
            "home/config.properties",
            "bad_request_http_code=422\nwlm_error_http_code=500\nthrottle_error_http_code=429\n\
             server_error_http_code=502\ncors_allowed_origin=*\n\
             cors_allowed_methods=GET, POST\nchunked_read_timeout=9\nwait_model_loading=false\n",
        )
        .variable("SERVING_CORS_ALLOWED_HEADERS", "content-type")
        .variable("SERVING_ALLOW_MULTI_STATUS", "true");
    let server = start.resolved().server;
    let codes = StatusCodes {
        bad_request: 422,
        wlm_error: 500,
        throttle_error: 429,
        server_error: 502,
    };
    let cors = Cors {
        origin: Some("*".into()),
        methods: Some("GET, POST".into()),
        headers: Some("content-type".into()),
    };
    assert_eq!((server.codes, server.cors), (codes, cors));
    assert_eq!(server.chunked_read_timeout, Duration::from_secs(9));
    assert!(server.allow_multi_status);
}

#[test]
fn what_answers_are_like_arrives() {
    let model = Start::with_model()
        .properties(
            "option.stop_sequence=['</s>', \"\\n\"]\noption.enable_streaming=huggingface\n\
             option.served_model_name=my-model\noption.task=generate\n",
        )
        .resolved()
        .model;
    assert_eq!(model.stop_sequences, ["</s>", "\n"]);
    assert!(model.streaming);
    assert_eq!(model.served_model_name.as_deref(), Some("my-model"));
    assert_eq!(model.task, Some(Task::TextGeneration));
}

#[test]
fn variables_of_the_server_override_its_file() {
    // DJL Serving lets SERVING_* win even over its command line; --host and --port are not its.
    let start = Start::with_model()
        .file("home/config.properties", "chunked_read_timeout=7\n")
        .variable("SERVING_CHUNKED_READ_TIMEOUT", "8");
    assert_eq!(
        start.resolved().server.chunked_read_timeout,
        Duration::from_secs(8)
    );
}

#[test]
fn revision_and_task_of_hf_model_id_win_over_options() {
    let variables = |start: Start| {
        start
            .variable("HF_REVISION", "v1")
            .variable("OPTION_REVISION", "v2")
            .resolved()
            .model
            .source
    };
    let revision = |source| match source {
        ModelSource::Hub(hub) => hub.revision,
        other => panic!("{other:?}"),
    };
    let named = Start::without_model().variable("HF_MODEL_ID", "my-org/gpt2");
    assert_eq!(revision(variables(named)).as_deref(), Some("v1"));
    // In a directory they only fill what nothing else says.
    let directory = Start::without_model().properties("option.model_id=my-org/gpt2\n");
    assert_eq!(revision(variables(directory)).as_deref(), Some("v2"));
}

#[test]
fn names_that_djl_serving_lost_work() {
    let model = Start::without_model()
        .properties("option.s3url=my-org/gpt2\noption.prediction_timeout=70\n")
        .resolved()
        .model;
    assert!(matches!(model.source, ModelSource::Hub(hub) if hub.id == "my-org/gpt2"));
    assert_eq!(model.predict_timeout, Duration::from_secs(70));
}

#[test]
fn keys_of_handlers_are_read_without_their_prefix_as_well() {
    let resolved = Start::with_model()
        .properties("dtype=fp16\nmodel_loading_timeout=77\n")
        .variable("ARGS_MAX_MODEL_LEN", "64")
        .resolved();
    assert_eq!(resolved.model.dtype, Dtype::F16);
    assert_eq!(resolved.model.max_model_len, Some(64));
    assert_eq!(
        resolved.model.model_loading_timeout,
        Duration::from_secs(77)
    );
    let lines: Vec<_> = resolved.origins.iter().map(ToString::to_string).collect();
    says(
        &lines.join("\n"),
        &["option.dtype = fp16", "written as dtype"],
    );
}

#[test]
fn only_one_spelling_of_the_entry_point_is_read() {
    let start = Start::with_model().variable("OPTION_ENTRY_POINT", "djl_python.deepspeed");
    says(
        &start.refused(),
        &["OPTION_ENTRY_POINT", "OPTION_ENTRYPOINT"],
    );
    let start = Start::with_model().variable("OPTION_ENTRYPOINT", "djl_python.deepspeed");
    assert_eq!(start.resolved().model.dialect, Dialect::DeepSpeed);
    // The variable without a prefix fills a gap only.
    let start = start.variable("DJL_ENTRY_POINT", "djl_python.huggingface");
    assert_eq!(start.resolved().model.dialect, Dialect::DeepSpeed);
}

#[test]
fn names_of_text_generation_inference_fill_gaps() {
    let start = Start::with_model()
        .variable("MAX_TOTAL_TOKENS", "2048")
        .variable("MAX_BATCH_SIZE", "4")
        .variable("MAX_BATCH_PREFILL_TOKENS", "256")
        .variable("MAX_CONCURRENT_REQUESTS", "9")
        .variable("NUM_SHARD", "2");
    let model = start.resolved().model;
    assert_eq!(model.max_model_len, Some(2048));
    assert_eq!(
        (model.max_rolling_batch_size, model.max_batched_tokens),
        (4, 256)
    );
    assert_eq!((model.job_queue_size, model.ranks), (9, 2));
    let model = start
        .properties("option.max_model_len=99\n")
        .resolved()
        .model;
    assert_eq!(model.max_model_len, Some(99));
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
        .properties("option.waiting_steps=1\n")
        .resolved();
    let origin = resolved
        .origins
        .iter()
        .find(|origin| origin.key == "option.waiting_steps");
    says(
        &origin.unwrap().to_string(),
        &["= 1", ":1)", "without effect", "there is room"],
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

#[test]
fn arguments_of_djl_serving_win_over_files_and_lose_to_variables() {
    let mut start = Start::without_model();
    for name in ["file", "argument", "variable"] {
        start.write(&format!("{name}/config.json"), "{}");
    }
    let store = |start: &Start, name: &str| start.path(name).display().to_string();
    let text = format!("model_store={}\n", store(&start, "file"));
    start.write("other.properties", &text);
    start.line.config_file = Some(start.path("other.properties"));
    assert_eq!(start.resolved().model.name, "file");
    start.line.model_store = Some(store(&start, "argument"));
    assert_eq!(start.resolved().model.name, "argument");
    let variable = store(&start, "variable");
    let mut start = start.variable("SERVING_MODEL_STORE", &variable);
    assert_eq!(start.resolved().model.name, "variable");
    start.line.config_file = Some("missing.properties".into());
    says(&start.refused(), &["missing.properties"]);
}
