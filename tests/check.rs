//! `sconce check`: broken folders and configurations get the named verdict, good ones none.

mod broken;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use sconce_testkit::client::Client;
use sconce_testkit::hub::{Access, FakeHub};
use sconce_testkit::s3::FakeS3;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PROGRAM, copy_checkpoint, tiny};

/// `sconce check` with an empty environment; the bandwidth is given, so nothing is measured.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("check").args(arguments).env_clear();
    command
}

fn run(mut command: Command) -> (i32, Value) {
    let output = command.arg("--json").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr))
    });
    (output.status.code().unwrap(), report)
}

fn check(model: &Path, arguments: &[&str]) -> (i32, Value) {
    let model = model.to_string_lossy();
    let mut all = vec![&*model];
    all.extend(arguments);
    if !arguments.contains(&"--gpu") {
        all.extend(["--bandwidth", "20"]);
    }
    run(command(&all))
}

/// The names of all reasons.
fn codes(report: &Value) -> Vec<&str> {
    let reasons = report["reasons"].as_array().unwrap();
    let codes = reasons.iter().map(|reason| reason["code"].as_str());
    codes.map(Option::unwrap).collect()
}

/// All complaints of cases that are checked on some threads at a time.
fn all_complaints<T: Sync>(cases: &[T], complaint: fn(&T) -> Option<String>) {
    let complaints: Vec<String> = thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(4));
        let threads: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().filter_map(complaint).collect::<Vec<_>>()))
            .collect();
        let complaints = threads.into_iter().map(|thread| thread.join().unwrap());
        complaints.flatten().collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn each_broken_folder_or_configuration_gets_its_verdict() {
    assert!(broken::CASES.len() >= 40);
    all_complaints(broken::CASES, |case| {
        let dir = TempDir::new().unwrap();
        let model = copy_checkpoint("llama", dir.path());
        (case.damage)(&model);
        let (status, report) = check(&model, case.arguments);
        let codes = codes(&report);
        let right = status == case.exit
            && report["exit_code"] == case.exit
            && codes.contains(&case.code)
            && report["reasons"][0]["message"]
                .as_str()
                .is_some_and(|m| m.len() > 20);
        (!right).then(|| format!("{}: exit {status}, {codes:?}: {report:#}", case.name))
    });
}

/// Options of a handwritten file or of the SDK, none of which speaks against a start.
const GOOD: &[&str] = &[
    "",
    "engine=Python\noption.rolling_batch=auto\noption.max_rolling_batch_size=8\n",
    "engine=MPI\noption.entryPoint=djl_python.huggingface\noption.dtype=fp16\n",
    "option.max_model_len=64\noption.kv_cache_memory=64MiB\n",
    "engine=DeepSpeed\noption.entryPoint=djl_python.deepspeed\noption.dtype=bf16\n",
    "option.rolling_batch=lmi-dist\noption.output_formatter=jsonlines\noption.task=text-generation\n",
];

#[test]
fn no_alarm_is_raised_for_any_architecture() {
    let root = tiny("");
    let folders = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let cases: Vec<_> = names.into_iter().zip(GOOD.iter().cycle()).collect();
    assert!(cases.len() >= 40);
    all_complaints(&cases, |(name, properties)| {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("good.properties");
        fs::write(&file, properties).unwrap();
        let model = tiny(name);
        let (status, report) = check(&model, &["--properties", &file.to_string_lossy()]);
        let fine = status == 0 && report["verdict"] == "fine" && report["plan"].is_object();
        (!fine).then(|| format!("{name} with {properties}: {status}: {report:#}"))
    });
}

#[test]
fn weights_that_are_in_blocks_are_kept_so_whatever_the_options_say() {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/packed");
    for (name, kept) in [
        ("awq", "q4_1"),
        ("gptq", "q4_0"),
        ("gptq-act-order", "q8_row"),
    ] {
        for dtype in ["", "option.dtype=bf16\n"] {
            let dir = TempDir::new().unwrap();
            let file = dir.path().join("int8.properties");
            fs::write(&file, format!("option.quantize=int8\n{dtype}")).unwrap();
            let file = file.to_string_lossy();
            let (_, report) = check(&packed.join(name), &["--properties", &file]);
            assert_eq!(report["model"]["dtype"], kept, "{name} {dtype}: {report:#}");
        }
    }
}

/// What the SDK wrote, with the model in place of the bucket.
#[test]
fn no_alarm_is_raised_for_what_the_sdk_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sconce-config/fixtures/sdk");
    let cases = [
        "2.140.0-guide-deepspeed-bf16-tp2",
        "2.150.0-guide-djlmodel-fp16-np2",
        "2.150.0-guide-accelerate-fp16-np2",
        "2.150.0-defaults-gptj",
        "2.150.0-defaults-llama",
        "2.150.0-deploy-timeouts",
        "2.223.0-deepspeed-dtype-bf16-tp2",
        "2.223.0-accelerate-dtype-fp16-np2",
        "2.223.0-defaults-gptj",
        "2.223.0-task-text-generation",
    ];
    for case in cases {
        let text = fs::read_to_string(root.join(case).join("serving.properties")).unwrap();
        let in_place = |line: &&str| !line.contains("s3://") && !line.contains("model_id");
        let lines: Vec<_> = text.lines().filter(in_place).collect();
        let dir = TempDir::new().unwrap();
        let model = copy_checkpoint("llama", dir.path());
        fs::write(model.join("serving.properties"), lines.join("\n")).unwrap();
        let (status, report) = check(&model, &[]);
        assert_eq!(status, 0, "{case}: {report:#}");
    }
}

#[test]
fn what_is_set_is_told_with_its_line_or_variable() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    fs::write(
        model.join("serving.properties"),
        "\noption.max_model_len=64\n",
    )
    .unwrap();
    let text = model.to_string_lossy();
    let mut command = command(&[&text, "--bandwidth", "20"]);
    command.env("OPTION_DTYPE", "bf16");
    let (_, report) = run(command);
    let option = |key: &str| {
        let options = report["options"].as_array().unwrap();
        let found = options.iter().find(|option| option["key"] == key);
        found.cloned().unwrap_or_default()
    };
    assert_eq!(option("option.max_model_len")["line"], 2);
    let file = option("option.max_model_len")["file"].clone();
    assert!(file.as_str().unwrap().ends_with("llama/serving.properties"));
    assert_eq!(
        option("option.dtype")["from"],
        "environment variable OPTION_DTYPE"
    );
    assert_eq!(report["model"]["dtype"], "bfloat16");
    assert_eq!(report["model"]["stored_dtype"], "float32");
    assert_eq!(report["plan"]["max_len"], 64);
    assert_eq!(report["model"]["task"], "text-generation");
}

#[test]
fn serve_reserves_what_check_plans() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("qwen2", dir.path());
    let properties = "option.max_model_len=96\noption.kv_cache_memory=3MiB\n";
    fs::write(model.join("serving.properties"), properties).unwrap();
    let (_, report) = check(&model, &[]);
    let mut server = Launch::serve(PROGRAM, &model).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    let tokens = report["plan"]["cache_tokens"].as_u64().unwrap();
    let log = server.log();
    let said = format!("MiB for keys and values: {tokens} tokens, ");
    assert!(log.contains(&said), "{said} is not in:\n{log}");
}

/// Linux tells what a process has in memory; pages of the program and of mapped weights count.
#[cfg(target_os = "linux")]
#[test]
fn serve_takes_no_more_memory_than_check_plans() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("qwen2", dir.path());
    let properties = "option.max_model_len=96\noption.kv_cache_memory=3MiB\n";
    fs::write(model.join("serving.properties"), properties).unwrap();
    let (_, report) = check(&model, &[]);
    let planned = report["plan"]["total_bytes"].as_u64().unwrap();
    let mut server = Launch::serve(PROGRAM, &model).start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    let client = Client::new(server.address());
    thread::scope(|scope| {
        for number in 0..8 {
            let body = json!({
                "inputs": format!("It was number {number} of them"),
                "parameters": {"max_new_tokens": 64},
            });
            let client = &client;
            scope.spawn(move || {
                let answer = client.post("/invocations", &body).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    let resident = server.resident_kib().unwrap() * 1024;
    assert!(resident <= planned, "{resident} of {planned} bytes");
}

#[test]
fn a_model_of_the_hub_is_judged_by_its_headers() {
    let hub = FakeHub::of_folder("tiny-org/llama", &tiny("llama")).unwrap();
    let hub = hub.start().unwrap();
    let home = TempDir::new().unwrap();
    let from_hub = |id: &str| {
        let mut command = command(&[id, "--bandwidth", "20"]);
        command
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HOME", home.path());
        run(command)
    };
    let (status, report) = from_hub("tiny-org/llama");
    let (_, here) = check(&tiny("llama"), &[]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["model"]["parameters"], here["model"]["parameters"]);
    assert_eq!(
        report["plan"]["weights_bytes"],
        here["plan"]["weights_bytes"]
    );
    assert_eq!(report["timeouts"]["model_data_download"], Value::Null);
    assert!(!home.path().join("hub").exists(), "nothing is kept");
    let (status, report) = from_hub("tiny-org/lama");
    assert_eq!((status, codes(&report)), (1, vec!["hub-access"]));
    let (status, report) = from_hub("no/such/model");
    assert_eq!((status, codes(&report)), (64, vec!["no-such-model"]));
}

#[test]
fn what_was_fetched_before_is_judged_while_the_hub_is_away() {
    let hub = FakeHub::of_folder("tiny-org/llama", &tiny("llama")).unwrap();
    let hub = hub.start().unwrap();
    let home = TempDir::new().unwrap();
    let endpoint = hub.endpoint();
    let mut server = Launch::bare(PROGRAM)
        .argument("serve")
        .env("HF_MODEL_ID", "tiny-org/llama")
        .env("HF_ENDPOINT", &endpoint)
        .env("HF_HOME", &home.path().to_string_lossy())
        .env("SERVING_MODEL_STORE", "/no/store")
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:0")
        .start()
        .unwrap();
    server.wait_for_log("is ready after").unwrap();
    drop((server, hub));
    let verdict = |home: &Path| {
        let mut command = command(&["tiny-org/llama", "--bandwidth", "20"]);
        command.env("HF_ENDPOINT", &endpoint).env("HF_HOME", home);
        let (status, report) = run(command);
        (status, codes(&report).join(" "))
    };
    assert_eq!(verdict(home.path()), (0, String::new()));
    let empty = TempDir::new().unwrap();
    assert_eq!(verdict(empty.path()), (1, "hub-unreachable".into()));
}

#[test]
fn a_gated_model_and_one_without_files_are_named() {
    let id = "tiny-org/llama";
    let verdict = |hub: FakeHub| {
        let hub = hub.start().unwrap();
        let home = TempDir::new().unwrap();
        let mut command = command(&[id, "--bandwidth", "20"]);
        command
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HOME", home.path());
        let (status, report) = run(command);
        (status, codes(&report).join(" "))
    };
    let whole = || FakeHub::of_folder(id, &tiny("llama")).unwrap();
    let gated = whole().access(Access::Gated("hf_right".into()));
    assert_eq!(verdict(gated), (1, "hub-access".into()));
    let empty = FakeHub::of_folder(id, TempDir::new().unwrap().path()).unwrap();
    assert_eq!(verdict(empty), (1, "empty-prefix".into()));
    let bare = whole().without("model.safetensors");
    assert_eq!(verdict(bare), (1, "weights-missing".into()));
}

#[test]
fn a_prefix_of_s3_is_judged_by_its_headers_and_an_empty_one_named() {
    let bucket = FakeS3::default().folder("models/llama", &tiny("llama"));
    let properties = b"option.max_model_len=64\n";
    let bucket = bucket
        .unwrap()
        .object("models/llama/serving.properties", properties)
        .object("models/empty/", b"");
    let bucket = bucket.start().unwrap();
    let home = TempDir::new().unwrap();
    let verdict = |url: &str| {
        let mut command = command(&[url, "--bandwidth", "20"]);
        command
            .env("AWS_ENDPOINT_URL", bucket.endpoint())
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-west-1")
            .env("HOME", home.path());
        run(command)
    };
    let (status, report) = verdict("s3://bucket/models/llama/");
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["plan"]["max_len"], 64);
    assert_eq!(report["model"]["source"], "s3://bucket/models/llama/");
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing is kept"
    );
    for empty in ["s3://bucket/models/empty/", "s3://bucket/nothing/"] {
        let (status, report) = verdict(empty);
        assert_eq!(
            (status, codes(&report)),
            (1, vec!["empty-prefix"]),
            "{empty}"
        );
    }
}

/// As another user, because root may read everything.
#[test]
fn a_directory_without_read_permission_is_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    let program = dir.path().join("sconce");
    let is_root = fs::metadata(&model).unwrap().uid() == 0;
    let mut command = command(&[&model.to_string_lossy(), "--bandwidth", "20"]);
    if is_root {
        // The built program may lie where only root looks.
        fs::copy(PROGRAM, &program).unwrap();
        let mut copy = Command::new(&program);
        copy.args(command.get_args()).env_clear().uid(65_534);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command = copy;
    }
    fs::set_permissions(&model, fs::Permissions::from_mode(0o000)).unwrap();
    let (status, report) = run(command);
    fs::set_permissions(&model, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!((status, codes(&report)), (64, vec!["unreadable"]));
}

#[test]
fn people_get_a_table_and_wrong_gpus_a_list() {
    let output = |arguments: &[&str]| -> Output { command(arguments).output().unwrap() };
    let model = tiny("llama");
    let model = model.to_string_lossy();
    let good = output(&[&model, "--gpu", "ml.g5.12xlarge"]);
    let text = String::from_utf8(good.stdout).unwrap();
    for part in [
        "model      llama: text-generation, dialect",
        "4 of a10g: 22.49 GiB each",
        "verdict    nothing speaks against it",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let unknown = output(&[&model, "--gpu", "rtx3090"]);
    let text = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text.contains("a10g") && text.contains("ml.p4d."), "{text}");
}

/// Writes into the folder of a model.
fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).unwrap();
}

/// Changes a file of JSON.
fn edit(dir: &Path, file: &str, change: impl Fn(&mut Value)) {
    let path: PathBuf = dir.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn templates_of_dialogues_are_tried() {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    let told = |report: &Value| {
        let warnings = report["warnings"].as_array().unwrap();
        let found = warnings.iter().find(|one| one["code"] == "chat-template");
        found.map(|one| one["message"].as_str().unwrap().to_owned())
    };
    // None is nothing wrong.
    let (code, report) = check(&model, &[]);
    assert_eq!((code, told(&report)), (0, None), "{report}");
    let template = model.join("chat_template.jinja");
    for (text, part) in [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% for m in messages %}", Some("dialogues are refused")),
        (
            "{{ raise_exception('never') }}",
            Some("of one message of the user: never"),
        ),
        (
            "{{ messages[0].content.nothing() }}",
            Some("cannot write out a dialogue"),
        ),
    ] {
        fs::write(&template, text).unwrap();
        let (code, report) = check(&model, &[]);
        let told = told(&report);
        assert_eq!(code, 0, "{report}");
        assert_eq!(told.is_some(), part.is_some(), "{text}: {report}");
        let fits = part.is_none_or(|part| told.unwrap().contains(part));
        assert!(fits, "{text}: {report}");
    }
    fs::write(
        model.join("serving.properties"),
        "option.chat_template=elsewhere.jinja\n",
    )
    .unwrap();
    let (code, report) = check(&model, &[]);
    assert_eq!(code, 1, "{report}");
    assert!(
        report["reasons"].to_string().contains("elsewhere.jinja"),
        "{report}"
    );
}
