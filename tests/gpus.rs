//! The built program on GPUs: those of this machine, or the emulated ones of `make test-cuda`. Where there are none, the
//! errors are tested that say so.

use std::time::{Duration, Instant};

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};

use crate::support::{PROGRAM, generated, started, tiny};

/// Exit code where a device cannot be had.
const NO_DEVICE: i32 = 69;

fn count() -> usize {
    sconce_nn::gpus().map_or(0, |gpus| gpus.len())
}

/// Whether there are so many GPUs; says so where not.
#[allow(clippy::print_stdout)]
fn there_are(wanted: usize) -> bool {
    let enough = count() >= wanted;
    if !enough {
        let emulated = std::env::var_os("SCONCE_EMULATED_GPUS").is_some();
        assert!(!emulated, "{:?}", sconce_nn::gpus());
        println!(
            "skipped: {wanted} GPUs are needed, and there are {}",
            count()
        );
    }
    enough
}

/// On the first GPUs only; small steps, since an emulated GPU takes seconds for what others do in a millisecond.
fn serve(device: &str, ranks: &str) -> Launch<'static> {
    serve_on(device, ranks, "0;1")
}

fn serve_on(device: &str, ranks: &str, gpus: &str) -> Launch<'static> {
    let inherited = ["LD_LIBRARY_PATH", "SCONCE_EMULATED_GPUS"];
    let inherited = inherited.map(|name| (name, std::env::var(name).unwrap_or_default()));
    let launch = inherited
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .fold(
            Launch::serve(PROGRAM, &tiny("llama")),
            |launch, (name, value)| launch.env(name, &value),
        );
    launch
        .env("OPTION_DEVICE", device)
        .env("OPTION_TENSOR_PARALLEL_DEGREE", ranks)
        .env("OPTION_LOAD_ON_DEVICES", gpus)
        .env("OPTION_COLLECTIVE_TIMEOUT", "4")
        .env("OPTION_MAX_ROLLING_BATCH_PREFILL_TOKENS", "64")
        .env("OPTION_MAX_ROLLING_BATCH_SIZE", "4")
}

/// Whether GPUs are emulated ones, which can be told to fail; says so where not.
#[allow(clippy::print_stdout)]
fn can_fail(wanted: usize) -> bool {
    let can = there_are(wanted) && std::env::var_os("SCONCE_EMULATED_GPUS").is_some();
    if !can {
        println!("skipped: only emulated GPUs can be told to fail");
    }
    can
}

fn request() -> Value {
    json!({"inputs": "Hello", "parameters": {"max_new_tokens": 12, "do_sample": false}})
}

/// The texts of answers: the likeliest tokens, drawn ones of few, of many, and with a penalty.
fn answers(launch: Launch<'static>) -> Vec<String> {
    let server = started(launch);
    let client = Client::new(server.address());
    let drawn = |parameters: Value| {
        let mut all =
            json!({"max_new_tokens": 12, "do_sample": true, "seed": 5, "temperature": 1.5});
        let more = parameters.as_object().expect("parameters").clone();
        all.as_object_mut().expect("parameters").extend(more);
        json!({"inputs": "Hello", "parameters": all})
    };
    let requests = [
        request(),
        drawn(json!({"top_k": 20, "top_p": 0.9})),
        drawn(json!({"top_p": 0.95})),
        drawn(json!({"top_k": 20, "repetition_penalty": 1.3})),
    ];
    let texts = requests.iter().map(|request| {
        let answer = client.post("/invocations", request).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        generated(&answer.json().expect("JSON"))
    });
    texts.collect()
}

#[test]
fn gpus_give_the_tokens_of_the_processor_on_one_and_on_two() {
    if !there_are(2) {
        return;
    }
    let processor = answers(serve("cpu", "1"));
    for (ranks, gpus) in [("1", "0"), ("2", "0;1"), ("1", "0;1")] {
        let told = answers(serve_on("cuda", ranks, gpus));
        assert_eq!(told, processor, "{ranks} ranks on GPUs {gpus}");
    }
}

#[test]
fn steps_that_cannot_be_recorded_are_launched_and_the_log_says_so() {
    if !can_fail(1) {
        return;
    }
    let launch = serve_on("cuda", "1", "0").env("SCONCE_EMULATED_FAULT", "graph");
    let server = started(launch);
    let answer = Client::new(server.address()).post("/invocations", &request());
    assert_eq!(answer.expect("an answer").status, 200);
    let log = server.log();
    assert!(log.contains("as with option.enforce_eager=true"), "{log}");
}

#[test]
fn a_rank_that_never_comes_is_named_and_nothing_waits_for_ever() {
    if !can_fail(2) {
        return;
    }
    // A step has five sums, and five steps come before the first request.
    let launch = serve("cuda", "2").env("SCONCE_EMULATED_FAULT", "allreduce:1:27");
    // The canary passes.
    let server = started(launch);
    let client = Client::new(server.address());
    let began = Instant::now();
    let answer = client.post("/invocations", &request()).expect("an answer");
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(60));
    let ping = client.get("/ping").expect("an answer");
    assert_ne!(ping.status, 200);
    let text = ping.text();
    assert!(
        text.contains("rank") && text.contains("no sign of life"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_had_of_gpus_ends_the_start_with_the_cure() {
    let refused = |launch: Launch, parts: &[&str]| {
        let (status, log) = launch.run().expect("it ends");
        assert_eq!(status.code(), Some(NO_DEVICE), "{log}");
        for part in parts {
            assert!(log.contains(part), "no {part} in {log}");
        }
    };
    match count() {
        0 => refused(serve("cuda", "1"), &["set option.device=cpu"]),
        some => {
            // Whatever was named.
            let sees = format!("this process sees {some}");
            let all = serve_on("cuda", &(some + 1).to_string(), "*");
            refused(all, &[&sees, "tensor_parallel_degree"]);
            let blocks = serve("auto", "1").env("OPTION_QUANTIZE", "q4_0");
            refused(blocks, &["option.quantize=", "processor only"]);
            let nowhere = serve_on("auto", "1", "0;70");
            refused(nowhere, &["load_on_devices names GPU 70", &sees]);
        }
    }
}

#[test]
fn emulated_gpus_that_cannot_be_joined_end_the_start_with_the_cure() {
    if !can_fail(2) {
        return;
    }
    let refused = |launch: Launch, parts: &[&str]| {
        let (status, log) = launch.run().expect("it ends");
        assert_eq!(status.code(), Some(NO_DEVICE), "{log}");
        for part in parts {
            assert!(log.contains(part), "no {part} in {log}");
        }
    };
    let old = serve("cuda", "2").env("SCONCE_EMULATED_NCCL", "21005");
    refused(old, &["21005", "2.17", "newer libnccl"]);
    let kinds = serve("cuda", "2").env("SCONCE_EMULATED_KINDS", "NVIDIA A10G;Tesla T4");
    refused(kinds, &["NVIDIA A10G and Tesla T4", "CUDA_VISIBLE_DEVICES"]);
    // All libraries but NCCL.
    let all = std::env::var("LD_LIBRARY_PATH").expect("where the emulated ones are");
    let driver = std::path::Path::new(all.split(':').next().expect("a path")).join("libcuda.so");
    let some = tempfile::tempdir().expect("a folder");
    for library in ["libcuda.so", "libcublas.so", "libcurand.so"] {
        std::os::unix::fs::symlink(&driver, some.path().join(library)).expect("a link");
    }
    let without = serve("cuda", "2").env("LD_LIBRARY_PATH", &some.path().to_string_lossy());
    refused(
        without,
        &["libnccl.so is not there", "option.tensor_parallel_degree=1"],
    );
}

#[test]
fn memory_is_measured_beside_the_plan_and_what_others_have_is_told() {
    if !can_fail(2) {
        return;
    }
    // Half a gibibyte more than is usual, and almost all.
    let launch = serve("cuda", "2")
        .env("SCONCE_EMULATED_CONTEXT", &(1900u64 << 20).to_string())
        .env("OPTION_GPU_MEMORY_UTILIZATION", "0.6");
    let log = started(launch).log();
    for part in [
        "measured on the first GPU: 1900 MiB of context",
        "more than planned",
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    let full = serve("cuda", "2").env("SCONCE_EMULATED_CONTEXT", &(3000u64 << 20).to_string());
    let (status, log) = full.run().expect("it ends");
    assert_eq!(status.code(), Some(1), "{log}");
    for part in [
        "1096 MiB free",
        "set option.gpu_memory_utilization to at most 0.26",
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }
}

#[test]
fn a_replica_that_fails_leaves_the_others_to_answer() {
    if !can_fail(2) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lost");
    let launch = serve("cuda", "1").env(
        "SCONCE_EMULATED_FAULT",
        &format!("lost:0:{}", file.display()),
    );
    let server = started(launch);
    let client = Client::new(server.address());
    let ask = || {
        client
            .post("/invocations", &request())
            .expect("an answer")
            .status
    };
    let ready = || {
        let told = client
            .get("/models/llama")
            .expect("an answer")
            .json()
            .expect("JSON");
        let workers = &told[0]["models"][0]["workerGroups"][0]["workers"];
        let states = workers.as_array().expect("workers").iter();
        states.filter(|worker| worker["status"] == "READY").count()
    };
    for _ in 0..4 {
        assert_eq!(ask(), 200);
    }
    assert_eq!(ready(), 2);
    std::fs::write(&file, "").expect("a file");
    let failed: Vec<u16> = (0..6)
        .map(|_| ask())
        .filter(|status| *status != 200)
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(
        (ready(), client.get("/ping").expect("an answer").status),
        (1, 200)
    );
    let log = server.log();
    assert!(log.contains("replica 1 of 2 has failed"), "{log}");
}

#[test]
fn a_check_plans_what_a_start_reserves_on_the_gpus_that_it_would_use() {
    if !can_fail(2) {
        return;
    }
    let kinds = "NVIDIA A10G;NVIDIA A10G;NVIDIA A10G";
    let launch = || serve("auto", "2").env("SCONCE_EMULATED_KINDS", kinds);
    let log = started(launch()).log();
    let folder = tiny("llama");
    let mut check = std::process::Command::new(PROGRAM);
    check.args(["check", &folder.to_string_lossy(), "--json"]);
    for (name, value) in launch().environment() {
        check.env(name, value);
    }
    let told = check.output().expect("a report").stdout;
    let report: Value = serde_json::from_slice(&told).expect("JSON");
    let plan = &report["plan"];
    let share = (4u64 << 30) / 1000 * 900;
    assert_eq!(plan["available_bytes"], share, "{report}");
    let reserved = format!(
        "reserving {} MiB for keys and values: {} tokens",
        2 * plan["cache_bytes"].as_u64().expect("bytes") >> 20,
        plan["cache_tokens"]
    );
    assert!(log.contains(&reserved), "no {reserved} in {log}");
}
