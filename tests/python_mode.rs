//! The built program with a `model.py` of the user's: from the folder to HTTP and back. Without a
//! python3 these tests say so and pass.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use sconce_testkit::client::Client;
use sconce_testkit::server::{Launch, Server};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{PROGRAM, wait_for_ping};

/// What the handlers of DJL Serving's own tests do: echo, batches, streams, failures.
const ECHO: &str = r#"
import os, signal, sys, time
from djl_python import Input, Output

def parts():
    for i in range(3):
        yield f"t-{i}\n"
        time.sleep(0.2)

def handle(inputs: Input):
    if inputs.is_empty():
        return None
    if inputs.contains_key("exception"):
        raise ValueError(inputs.get_as_string("exception"))
    if inputs.contains_key("typeerror"):
        return "invalid_type"
    if inputs.contains_key("exit"):
        sys.exit()
    if inputs.contains_key("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if inputs.contains_key("loop"):
        while True:
            pass
    if inputs.contains_key("OOM"):
        raise MemoryError("too much")
    outputs = Output()
    content_type = inputs.get_property("content-type")
    if content_type:
        outputs.add_property("content-type", content_type)
    if inputs.is_batch():
        for i, item in enumerate(inputs.get_batches()):
            outputs.add(item.get_as_bytes(), key="data", batch_index=i)
    elif inputs.contains_key("stream"):
        outputs.add_stream_content(parts(), None)
    else:
        outputs.add(inputs.get_as_bytes(), key="data")
    return outputs
"#;

#[allow(clippy::print_stdout)]
pub fn python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no python3");
    }
    found
}

struct Folder(TempDir);

impl Folder {
    fn new(code: &str, properties: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("mine")).unwrap();
        fs::write(dir.path().join("mine/model.py"), code).unwrap();
        fs::write(dir.path().join("mine/serving.properties"), properties).unwrap();
        Self(dir)
    }

    fn launch(&self) -> Launch<'static> {
        Launch::serve(PROGRAM, &self.0.path().join("mine"))
    }

    fn ready(&self) -> (Server, Client) {
        let mut server = self.launch().start().unwrap();
        server.wait_for_log("is ready after").unwrap();
        let client = Client::new(server.address());
        (server, client)
    }
}

#[test]
fn an_echo_answers_every_route_with_its_own_bytes() {
    if !python() {
        return;
    }
    let folder = Folder::new(ECHO, "option.entryPoint=model.py\noption.handler=handle\n");
    let (server, client) = folder.ready();
    let png = [("content-type", "image/png")];
    for path in ["/invocations", "/predictions/mine", "/models/mine/invoke"] {
        let answer = client.post_bytes(path, &png, b"\x89PNG\0\xff").unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, &b"\x89PNG\0\xff"[..]),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), Some("image/png"));
    }
    let failed = client
        .post_bytes("/invocations?exception=boom", &[], b"x")
        .unwrap();
    assert_eq!(failed.status, 424);
    assert_eq!(failed.header("content-type"), Some("application/json"));
    let wanted = json!({"code": 424, "message": "invoke handler failure", "error": "boom"});
    assert_eq!(failed.json().unwrap(), wanted);
    let wrong = client
        .post_bytes("/invocations?typeerror=1", &[], b"x")
        .unwrap();
    assert!(wrong.text().contains("Invalid output type: <class 'str'>"));
    assert_eq!(
        client
            .post_bytes("/invocations?OOM=1", &[], b"")
            .unwrap()
            .status,
        507
    );
    // A form, as curl -F sends it.
    let form = [("content-type", "multipart/form-data; boundary=b")];
    let body = b"--b\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nfield\r\n--b--\r\n";
    assert_eq!(
        client
            .post_bytes("/invocations", &form, body)
            .unwrap()
            .text(),
        "field"
    );
    assert!(server.log().contains("listening on"), "{}", server.log());
}

#[test]
fn a_stream_arrives_in_parts() {
    if !python() {
        return;
    }
    let folder = Folder::new(ECHO, "");
    let (_server, client) = folder.ready();
    let mut stream = client
        .stream("/invocations?stream=true", &json!({}))
        .unwrap();
    let lines = stream.lines().unwrap();
    let texts: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(texts, ["t-0", "t-1", "t-2"]);
    let spread = lines[2].0 - lines[0].0;
    assert!(spread >= Duration::from_millis(300), "{spread:?}");
}

#[test]
fn whatever_a_handler_does_the_server_goes_on() {
    if !python() {
        return;
    }
    let folder = Folder::new(ECHO, "option.predict_timeout=5\n");
    let (server, client) = folder.ready();
    for (what, wanted) in [
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
        ("exit", "ended with exit code"),
        ("loop", "was not finished after predict_timeout"),
    ] {
        let answer = client
            .post_bytes(&format!("/invocations?{what}=1"), &[], b"x")
            .unwrap();
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        assert!(answer.text().contains(wanted), "{}", answer.text());
        let began = Instant::now();
        let answer = client.post_bytes("/invocations", &[], b"again").unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "again"),
            "{what}"
        );
        // On an idle machine this takes a third of a second.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    let log = server.log();
    assert!(
        log.contains("mine-0: the Python worker was killed by signal 11"),
        "{log}"
    );
    assert!(log.contains("Fatal Python error"), "{log}");
}

#[test]
fn failures_beyond_the_threshold_fail_the_ping() {
    if !python() {
        return;
    }
    let folder = Folder::new(ECHO, "retry_threshold=0\n");
    let (server, client) = folder.ready();
    client.post_bytes("/invocations?exit=1", &[], b"x").unwrap();
    let entry = wait_for_ping(&server, 500, |entry| entry["status"] == "FAILED");
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("retry_threshold = 0"), "{cause}");
    let refused = client.post_bytes("/invocations", &[], b"x").unwrap();
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().contains("Model is not ready: mine"),
        "{}",
        refused.text()
    );
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_program_with_its_traceback() {
    if !python() {
        return;
    }
    let code = "import no_such_package\n\ndef handle(inputs):\n    return None\n";
    let (status, log) = Folder::new(code, "").launch().run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    for part in [
        "ModuleNotFoundError: No module named 'no_such_package'",
        "Traceback",
    ] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
}

#[test]
fn nothing_of_it_outlives_the_server() {
    if !python() {
        return;
    }
    let code = format!("{ECHO}\nopen('pid', 'w').write(str(os.getpid()))\n");
    let folder = Folder::new(&code, "");
    let (mut server, _client) = folder.ready();
    let pid = fs::read_to_string(folder.0.path().join("mine/pid")).unwrap();
    let alive = || fs::metadata(format!("/proc/{pid}")).is_ok();
    assert!(alive());
    server.terminate().unwrap();
    assert_eq!(
        server.wait(Duration::from_secs(30)).unwrap().code(),
        Some(0)
    );
    let until = Instant::now() + Duration::from_secs(10);
    while alive() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!alive());
    // Killed outright, it has no time to end its workers: they notice.
    let (server, _client) = folder.ready();
    let pid = fs::read_to_string(folder.0.path().join("mine/pid")).unwrap();
    drop(server);
    let until = Instant::now() + Duration::from_secs(10);
    let alive = || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    while alive() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!alive());
}

#[test]
fn without_python_only_a_python_model_is_refused() {
    let folder = Folder::new(ECHO, "option.pythonExecutable=/no/such/python\n");
    let (status, log) = folder.launch().run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("/no/such/python") && log.contains("PYTHON_EXECUTABLE"),
        "{log}"
    );
}

#[test]
fn a_check_says_what_would_run_and_runs_nothing() {
    let folder = Folder::new("open('ran', 'w')\ndef handle(inputs): pass\n", "");
    let dir = folder.0.path().join("mine");
    let launch = Launch::bare(PROGRAM)
        .argument("check")
        .argument(&dir.to_string_lossy());
    let (status, _) = launch.run().unwrap();
    assert_eq!(status.code(), Some(0));
    let output = Command::new(PROGRAM)
        .args(["check", "--json"])
        .arg(&dir)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["model"]["engine"], "python");
    let warnings = report["warnings"].as_array().unwrap();
    let warning = warnings
        .iter()
        .find(|warning| warning["code"] == "custom-code")
        .unwrap();
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.contains("a start runs model.py, function handle"),
        "{message}"
    );
    assert!(!dir.join("ran").exists());
}
