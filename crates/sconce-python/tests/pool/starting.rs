//! Models that do not start: each says what is wrong, with the last lines of the process.

use std::time::{Duration, Instant};

use crate::support::{Model, python, says};

#[track_caller]
fn refused(code: &str, name: &str, parts: &[&str]) {
    let error = Model::new(code).refused();
    assert_eq!(error.code(), name, "{error}");
    says(&error.to_string(), parts);
}

#[test]
fn code_that_cannot_be_loaded_is_named() {
    if !python() {
        return;
    }
    refused(
        "def handle(inputs:\n    pass\n",
        "worker-ended",
        &["exit code 1", "SyntaxError", "model.py"],
    );
    refused(
        "import nothing_like_it\n",
        "worker-ended",
        &["ModuleNotFoundError: No module named 'nothing_like_it'"],
    );
    refused(
        "import os\nos._exit(7)\n",
        "worker-ended",
        &["ended with exit code 7 before the model was loaded"],
    );
}

#[test]
fn a_handler_that_cannot_load_its_model_is_named() {
    if !python() {
        return;
    }
    refused(
        "def handle(inputs):\n    raise FileNotFoundError('no weights here')\n",
        "handler-init",
        &["424 invoke handler failure: no weights here", "Traceback"],
    );
    refused(
        "def other(inputs):\n    pass\n",
        "handler-init",
        &["has no function handle", "option.handler"],
    );
    refused(
        "def handle(inputs):\n    raise MemoryError('too large')\n",
        "handler-init",
        &["507 too large"],
    );
    refused(
        "import os\ndef handle(inputs):\n    os.abort()\n",
        "worker-ended",
        &["was killed by signal 6 (SIGABRT)"],
    );
}

#[test]
fn a_missing_entry_point_is_named() {
    if !python() {
        return;
    }
    let mut model = Model::new("");
    model.settings.entry_point = "other.py".into();
    says(
        &model.refused().to_string(),
        &["entry-point file not found", "other.py"],
    );
}

#[test]
fn a_start_that_takes_too_long_is_ended() {
    if !python() {
        return;
    }
    let slow = "import time\ntime.sleep(600)\n";
    let never = "import time\ndef handle(inputs):\n    time.sleep(600)\n";
    for (code, doing) in [
        (slow, "importing the handler"),
        (never, "loading the model"),
    ] {
        let mut model = Model::new(code);
        model.settings.model_loading_timeout = Duration::from_secs(1);
        let began = Instant::now();
        let error = model.refused();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(error.code(), "worker-slow");
        says(&error.to_string(), &["model_loading_timeout = 1 s", doing]);
    }
}

#[test]
fn without_python_the_cure_is_said() {
    let mut model = Model::new("");
    model.settings.interpreter.executable = "/no/such/python".into();
    let error = model.refused();
    assert_eq!(error.code(), "no-python");
    says(
        &error.to_string(),
        &[
            "/no/such/python",
            "option.pythonExecutable or PYTHON_EXECUTABLE",
        ],
    );
}

#[test]
fn a_worker_that_breaks_the_protocol_is_ended() {
    if !python() {
        return;
    }
    // A package of the user's own that speaks nonsense.
    let model = Model::new("");
    let package = model.path("djl_python");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("__init__.py"), "__version__ = '9'\n").unwrap();
    let parser = "import argparse\nclass ArgParser:\n    @staticmethod\n    \
                  def python_engine_args():\n        parser = argparse.ArgumentParser()\n        \
                  parser.add_argument('--sock-name')\n        return parser\n";
    std::fs::write(package.join("arg_parser.py"), parser).unwrap();
    let engine = "import socket, sys, time\nfrom djl_python.arg_parser import ArgParser\n\
                  def main():\n    \
                  name = ArgParser.python_engine_args().parse_args().sock_name\n    \
                  s = socket.socket(socket.AF_UNIX)\n    s.bind(name)\n    s.listen(1)\n    \
                  print('Python engine started.', flush=True)\n    c, _ = s.accept()\n    \
                  c.sendall(b'\\x00\\xc8\\xff\\xff\\xff\\xff\\xff\\xff')\n    time.sleep(600)\n";
    std::fs::write(model.path("djl_python_engine.py"), engine).unwrap();
    let error = model.refused();
    assert_eq!(error.code(), "worker-protocol");
    says(&error.to_string(), &["the number of properties is -1"]);
}
