//! The adapters of LangChain and litellm, for OpenAI's routes and for SageMaker's behind `sconce emulate`. Skipped where
//! `tests/fetch_clients.py` has not been able to fetch them.

use std::path::Path;
use std::process::Command;

use sconce_testkit::server::Launch;
use tempfile::TempDir;

use crate::openai::{RENDERED, serve};
use crate::support::PROGRAM;

#[test]
fn the_adapters_of_langchain_and_litellm_are_answered() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let package = root.join("target/clients");
    if !package.is_dir() {
        println!("skipped: target/clients is not there; `make sdk` fetches it");
        return;
    }
    let serving = serve("option.rolling_batch=auto\n");
    let upstream = format!("http://{}", serving.address());
    let endpoint = Launch::bare(PROGRAM)
        .argument("emulate")
        .argument("--upstream")
        .argument(&upstream)
        .argument("--port")
        .argument("0")
        .start()
        .unwrap();
    let home = TempDir::new().unwrap();
    let output = Command::new("python3")
        .args(["-W", "ignore"])
        .arg(root.join("tests/clients/drive.py"))
        .args([&upstream, &endpoint.url(""), RENDERED])
        .env("PYTHONPATH", &package)
        // No settings of this machine's user.
        .env("HOME", home.path())
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        serving.log(),
        endpoint.log()
    );
    println!("{said}");
}
