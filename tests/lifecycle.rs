//! From the open port to the last answer: readiness, drain, exit codes.

use std::time::Duration;

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{PROGRAM, copy_checkpoint, ready, stream_text};

#[test]
fn sigterm_lets_the_running_stream_finish_and_exits_with_zero() {
    let mut server = ready("llama", "");
    let client = Client::new(server.address());
    let body = json!({"inputs": "Once", "stream": true, "parameters": {"max_new_tokens": 90, "ignore_eos_token": true}});
    let expected = stream_text(&mut client.stream("/invocations", &body).unwrap());
    let mut stream = client.stream("/invocations", &body).unwrap();
    stream.line().unwrap();
    server.terminate().unwrap();
    assert_eq!(stream_text(&mut stream), expected);
    let status = server.wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(server.log().contains("SIGTERM"), "{}", server.log());
    assert!(
        client.get("/ping").is_err(),
        "the port is closed after the end"
    );
}

#[test]
fn a_model_that_cannot_be_served_ends_the_program_with_one() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    let (status, log) = Launch::serve(PROGRAM, &model).run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("listening on"),
        "the port opens before the model loads: {log}"
    );
    assert!(log.contains("model.safetensors"), "{log}");
}

#[test]
fn health_is_asked_for_at_the_port_of_the_environment() {
    let server = ready("llama", "");
    let ask = |port: u16| {
        let launch = Launch::bare(PROGRAM)
            .argument("health")
            .env("SERVING_INFERENCE_ADDRESS", "http://0.0.0.0:8080")
            .env("SAGEMAKER_BIND_TO_PORT", &port.to_string());
        launch.run().unwrap()
    };
    let (status, log) = ask(server.address().port());
    assert_eq!(status.code(), Some(0), "{log}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (status, log) = ask(port);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains(&format!("nobody answers at 0.0.0.0:{port}")),
        "{log}"
    );
    // A model that cannot be served is told for some seconds.
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    let mut failed = Launch::serve(PROGRAM, &model).start().unwrap();
    failed.wait_for_log("cannot be served").unwrap();
    let (status, log) = ask(failed.address().port());
    assert_eq!(status.code(), Some(1), "{log}");
}

#[test]
fn a_wrong_configuration_ends_the_program_with_sixty_four_before_the_port_opens() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    let properties = "option.rolling_batch=auto\noption.max_rolling_batch_sise=4\n";
    std::fs::write(model.join("serving.properties"), properties).unwrap();
    let (status, log) = Launch::serve(PROGRAM, &model).run().unwrap();
    assert_eq!(status.code(), Some(64), "{log}");
    for part in [
        "serving.properties:2",
        "max_rolling_batch_sise",
        "option.max_rolling_batch_size",
    ] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
    assert!(!log.contains("listening on"), "{log}");
}

#[test]
fn a_device_that_cannot_be_used_ends_the_program_with_sixty_nine_and_one_line() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    std::fs::write(
        model.join("serving.properties"),
        "option.rolling_batch=auto\noption.device=cuda\n",
    )
    .unwrap();
    // Nothing is read or fetched before.
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    let (status, log) = Launch::serve(PROGRAM, &model).run().unwrap();
    assert_eq!(status.code(), Some(69), "{log}");
    // Whether this build has no code for GPUs, or there are none.
    let told = log
        .lines()
        .filter(|line| line.contains("set option.device=cpu"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(!log.contains("listening on"), "{log}");
}

#[test]
fn explaining_an_unknown_option_ends_with_sixty_four_and_the_nearest() {
    let explain = |key| {
        let launch = Launch::bare(PROGRAM).argument("explain").argument(key);
        launch.run().unwrap()
    };
    for key in ["option.s3url", "TENSOR_PARALLEL_DEGREE"] {
        let (status, log) = explain(key);
        assert!(status.success(), "{key}: {log}");
    }
    let (status, log) = explain("option.tensor_paralel_degree");
    assert_eq!(status.code(), Some(64), "{log}");
    assert!(log.contains("option.tensor_parallel_degree?"), "{log}");
}

#[test]
fn a_port_in_use_is_named_with_the_cure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    let model = model.to_string_lossy();
    let arguments = ["serve", &model, "--host", "127.0.0.1", "--port", &port];
    let launch = arguments
        .iter()
        .fold(Launch::bare(PROGRAM), |launch, argument| {
            launch.argument(argument)
        });
    let (status, log) = launch.run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&port) && log.contains("--port"), "{log}");
}

#[test]
fn djl_serving_s_own_arguments_start_its_models() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("gpt2", dir.path());
    let model = model.to_string_lossy();
    let named = format!("test=file:{model}");
    for (arguments, name) in [
        (["djl-serving", "-s", &model], "gpt2"),
        (["serve", "-m", &named], "test"),
        (["serve", "--models", &model], "gpt2"),
    ] {
        let launch = Launch::bare(PROGRAM)
            .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:8080")
            .env("SAGEMAKER_BIND_TO_PORT", "0");
        let launch = arguments
            .iter()
            .fold(launch, |l, argument| l.argument(argument));
        let mut server = launch.start().unwrap();
        server.wait_for_log("is ready after").unwrap();
        let client = Client::new(server.address());
        let answer = client.post(&format!("/predictions/{name}"), &json!({"inputs": "Hi"}));
        assert_eq!(answer.unwrap().status, 200, "{arguments:?}");
    }
}

#[test]
fn partitioning_ahead_of_time_is_refused_with_the_cure() {
    for command in ["partition", "train"] {
        let launch = Launch::bare(PROGRAM)
            .argument(command)
            .argument("--model-dir");
        let (status, log) = launch.run().unwrap();
        assert_eq!(status.code(), Some(64), "{log}");
        assert!(log.contains("option.tensor_parallel_degree"), "{log}");
    }
}

#[test]
fn sagemaker_s_conventions_start_the_model_without_a_directory() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("gpt2", dir.path());
    let mut server = Launch::bare(PROGRAM)
        .argument("serve")
        .env("SERVING_MODEL_STORE", &model.to_string_lossy())
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:8080")
        .env("SAGEMAKER_BIND_TO_PORT", "0")
        .env("OPTION_MAX_ROLLING_BATCH_SIZE", "4")
        .start()
        .unwrap();
    server.wait_for_log("is ready after").unwrap();
    let answer = Client::new(server.address()).post("/invocations", &json!({"inputs": "Hi"}));
    assert_eq!(answer.unwrap().status, 200);
}
