//! The SageMaker SDK as the client: containers as it configures them, behind `sconce emulate`, asked
//! with its own predictors and with boto3. Skipped where `tests/sdk/fetch.py` has not been able to
//! fetch the SDK.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sconce_testkit::golden::{Golden, Run};
use sconce_testkit::server::{Launch, Server};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::PROGRAM;

/// Who answers how.
#[derive(Clone, Copy)]
enum Dialect {
    /// The handlers of 2023 without rolling batch: a list, the prompt included.
    Static,
    Rolling,
    Async,
}

/// What the SDK made of one model, and the tiny checkpoint that stands in for it.
struct Case {
    /// The folder of the artifact.
    artifact: &'static str,
    model: &'static str,
    dialect: Dialect,
    /// Whether it computes in f32, as the goldens do.
    exact: bool,
}

const fn case(artifact: &'static str, model: &'static str, dialect: Dialect, exact: bool) -> Case {
    Case {
        artifact,
        model,
        dialect,
        exact,
    }
}

#[test]
fn containers_of_the_first_generation_answer_its_predictor() {
    use Dialect::Static;
    let said = check(
        "2.150.0",
        &[
            case("2.150.0-defaults-gptj", "gptj", Static, true),
            case("2.150.0-deepspeed-all-options", "opt", Static, true),
            case("2.150.0-guide-accelerate-fp16-np2", "gptj", Static, true),
        ],
    );
    println!("{said}");
}

#[test]
fn containers_of_the_second_generation_answer_its_predictor() {
    use Dialect::Static;
    let said = check(
        "2.223.0",
        &[
            case("2.223.0-hub-id", "gpt2", Static, true),
            case("2.223.0-defaults-llama", "llama", Static, true),
            case("2.223.0-accelerate-dtype-fp16-np2", "gptj", Static, false),
        ],
    );
    println!("{said}");
}

#[test]
fn containers_of_the_last_generation_answer_its_predictor() {
    use Dialect::{Async, Rolling};
    let said = check(
        "2.257.7",
        &[
            case("2.257.7-hub-id", "llama", Async, true),
            case("2.257.7-s3-model-id", "llama", Async, true),
            case("2.257.7-model-data-tar-gz", "llama", Async, true),
            case("2.257.7-env-rolling-batch", "qwen2", Rolling, true),
        ],
    );
    println!("{said}");
}

/// Starts the containers, and asks them with this release of the SDK; what it says.
fn check(release: &str, cases: &[Case]) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let sdk = root.join("target/sdk");
    if !sdk.join(release).is_dir() {
        return format!("skipped: target/sdk/{release} is not there; `make sdk` fetches it");
    }
    let endpoints: Vec<Endpoint> = cases.iter().map(Endpoint::start).collect();
    let plan: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| endpoint.plan.clone())
        .collect();
    let dir = TempDir::new().unwrap();
    let plan_file = dir.path().join("plan.json");
    fs::write(&plan_file, json!(plan).to_string()).unwrap();
    let path = [sdk.join(release), sdk.join("shared")].map(|path| path.display().to_string());
    let output = Command::new("python3")
        .args(["-W", "ignore"])
        .args([root.join("tests/sdk/drive.py"), plan_file])
        .env("PYTHONPATH", path.join(":"))
        // No settings of this machine's user.
        .env("HOME", dir.path())
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let logs: Vec<String> = endpoints.iter().map(Endpoint::logs).collect();
    assert!(
        output.status.success(),
        "{said}{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        logs.join("\n")
    );
    said.into_owned()
}

/// A container and its endpoint.
struct Endpoint {
    container: Server,
    emulator: Server,
    plan: Value,
    _store: TempDir,
}

impl Endpoint {
    fn start(case: &Case) -> Self {
        let store = TempDir::new().unwrap();
        let golden = Golden::tiny(case.model).unwrap();
        let mut container = container(case.artifact, &golden.dir, store.path());
        container.wait_for_log("is ready after").unwrap();
        // Parts of five bytes end inside of every line, and of most characters.
        let upstream = container.url("");
        let arguments = ["emulate", "--wait", "--port", "0", "--rechunk", "5"];
        let more = ["--endpoint", "my-endpoint", "--upstream", &upstream];
        let launch = arguments
            .iter()
            .chain(&more)
            .fold(Launch::bare(PROGRAM), |launch, argument| {
                launch.argument(argument)
            });
        let emulator = launch.start().unwrap();
        let run = undisturbed(&golden);
        let plan = json!({
            "name": case.artifact,
            "url": emulator.url(""),
            "dialect": match case.dialect {
                Dialect::Static => "static",
                Dialect::Rolling => "rolling",
                Dialect::Async => "async",
            },
            "prompt": run.prompt,
            "text": run.text,
            "tokens": run.greedy.len(),
            "exact": case.exact,
        });
        Self {
            container,
            emulator,
            plan,
            _store: store,
        }
    }

    fn logs(&self) -> String {
        format!(
            "{}\n{}\n{}",
            self.plan["name"],
            self.container.log(),
            self.emulator.log()
        )
    }
}

/// Starts the program as SageMaker would start the container, on a free port, with the model's
/// folder elsewhere than at /opt/ml/model, and the location of the model replaced.
fn container(artifact: &str, model: &Path, store: &Path) -> Server {
    let made = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sconce-config/fixtures/sdk")
        .join(artifact);
    let model = model.canonicalize().unwrap().display().to_string();
    if let Ok(properties) = fs::read_to_string(made.join("serving.properties")) {
        fs::write(
            store.join("serving.properties"),
            relocated(&properties, &model),
        )
        .unwrap();
        // The archive stays beside what came out of it in local mode.
        fs::write(store.join("sourcedir.tar.gz"), b"\x1f\x8b").unwrap();
    }
    let variables = fs::read_to_string(made.join("env.json")).unwrap();
    let variables: Map<String, Value> = serde_json::from_str(&variables).unwrap();
    let launch = Launch::bare(PROGRAM)
        .argument("serve")
        .env("SERVING_MODEL_STORE", &store.display().to_string())
        .env("SERVING_INFERENCE_ADDRESS", "http://127.0.0.1:8080")
        .env("SAGEMAKER_BIND_TO_PORT", "0");
    let launch = variables.iter().fold(launch, |launch, (name, value)| {
        let value = match name.as_str() {
            "HF_MODEL_ID" => &model,
            _ => value.as_str().unwrap(),
        };
        launch.env(name, value)
    });
    launch.start().unwrap()
}

/// The properties with another value for the keys that say where the model is.
fn relocated(properties: &str, model: &str) -> String {
    let mut found = 0;
    let lines = properties.lines().map(|line| match line.split_once('=') {
        Some((key @ ("option.model_id" | "option.s3url"), _)) => {
            found += 1;
            format!("{key}={model}\n")
        }
        _ => format!("{line}\n"),
    });
    let text = lines.collect();
    assert_eq!(found, 1, "{properties}");
    text
}

/// The first run that no end token would have ended: not every dialect can ignore those.
fn undisturbed(golden: &Golden) -> &Run {
    let ends: Vec<u64> = ["config.json", "generation_config.json"]
        .iter()
        .filter_map(|name| fs::read_to_string(PathBuf::from(&golden.dir).join(name)).ok())
        .flat_map(|text| {
            let config: Value = serde_json::from_str(&text).unwrap();
            match &config["eos_token_id"] {
                Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
                id => id.as_u64().into_iter().collect::<Vec<_>>(),
            }
        })
        .collect();
    let disturbs = |token: &u32| ends.contains(&u64::from(*token));
    let mut runs = golden.runs.iter();
    runs.find(|run| run.prompt.is_ascii() && !run.greedy.iter().any(disturbs))
        .unwrap_or_else(|| panic!("every run of {} holds an end token", golden.name))
}
