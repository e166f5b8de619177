//! `requirements.txt`, with a wheel of a few lines in the folder beside it and no index.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::support::{Model, ask, python, says, text};

const CODE: &str = "import sconce_test_wheel\nfrom djl_python import Output\n\
                    def handle(inputs):\n    \
                    if inputs.is_empty():\n        return None\n    \
                    return Output().add(sconce_test_wheel.WORD)\n";

/// Makes a wheel, which is an archive of three files.
const WHEEL: &str = r#"
import sys, zipfile
name, info = "sconce_test_wheel", "sconce_test_wheel-1.0.dist-info"
with zipfile.ZipFile(f"{sys.argv[1]}/{name}-1.0-py3-none-any.whl", "w") as z:
    z.writestr(f"{name}.py", "WORD = 'from the wheel'\n")
    z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sconce-test-wheel\nVersion: 1.0\n")
    z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
"#;

fn pip() -> bool {
    let asked = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    let found = python() && asked.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no pip");
    }
    found
}

fn with_requirements(names: &str) -> Model {
    let model = Model::new(CODE);
    let wheels = model.path("requirements");
    fs::create_dir(&wheels).unwrap();
    let made = Command::new("python3")
        .args(["-c", WHEEL])
        .arg(&wheels)
        .status();
    assert!(made.unwrap().success());
    fs::write(model.path("requirements.txt"), names).unwrap();
    model
}

#[test]
fn wheels_beside_the_file_are_installed_once_and_apart() {
    if !pip() {
        return;
    }
    let model = with_requirements("sconce-test-wheel==1.0\n");
    for _ in 0..2 {
        let pool = model.pool();
        assert_eq!(text(ask(&pool, "?")), "from the wheel");
    }
    let environments = fs::read_dir(model.path(".environments")).unwrap();
    let complete =
        environments.filter(|entry| entry.as_ref().unwrap().path().join(".complete").is_file());
    assert_eq!(complete.count(), 1);
    // The interpreter's own packages are as they were.
    let own = Command::new("python3")
        .args(["-c", "import sconce_test_wheel"])
        .output();
    assert!(!own.unwrap().status.success());
    // A second start has nothing to do.
    let began = Instant::now();
    drop(model.pool());
    let again = began.elapsed();
    fs::write(model.path("requirements.txt"), "sconce-test-wheel\n").unwrap();
    let began = Instant::now();
    drop(model.pool());
    assert!(again < began.elapsed());
}

#[test]
fn a_package_that_is_not_there_is_told_in_pip_s_own_words() {
    if !pip() {
        return;
    }
    let model = with_requirements("sconce-test-wheel\nno-such-package-at-all==7\n");
    let error = model.refused();
    assert_eq!(error.code(), "requirements");
    says(
        &error.to_string(),
        &[
            "requirements.txt cannot be installed",
            "No matching distribution found for no-such-package-at-all==7",
            "PIP_INDEX_URL",
        ],
    );
}
