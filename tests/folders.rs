//! Folders of models for tasks with what transformers answers on them: found, served, and asked.

use std::fs;
use std::path::{Path, PathBuf};

use sconce_testkit::client::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use sconce_models::{LoadOptions, Quantisation};
use sconce_nn::weights::BlockFormat;

use crate::support::{Serving, serve_copy};

/// Folders beside each other below `models/`.
pub struct Folders {
    /// Where they are.
    pub path: &'static str,
    /// As many there are at least: fewer means that they are looked for at the wrong place.
    pub least: usize,
}

/// What transformers computed on a folder.
#[derive(Deserialize)]
pub struct Golden<Run> {
    /// The folder.
    #[serde(default)]
    pub name: String,
    /// The value of `option.task`.
    pub task: String,
    /// The model's numbers; those of models that only continue texts are in `models/tiny`.
    #[serde(default = "Vec::new")]
    pub logits: Vec<Run>,
    /// The same with weights rounded to blocks of fewer bits.
    #[serde(default = "Vec::new")]
    pub rounded: Vec<Rounded<Run>>,
    /// What `generate` returns, of models that write.
    #[serde(default = "Vec::new")]
    pub tokens: Vec<Search>,
    /// Requests and answers.
    pub requests: Vec<Request>,
}

/// Numbers of a model whose weights are rounded.
#[derive(Deserialize)]
pub struct Rounded<Run> {
    /// The value of `option.quantize`.
    pub format: String,
    /// The numbers.
    pub run: Run,
}

impl<Run> Rounded<Run> {
    /// How a model is loaded for it.
    pub fn options(&self) -> LoadOptions {
        let quantise = match self.format.as_str() {
            "int8" => Quantisation::Blocks(BlockFormat::Q8Row),
            "int4" => Quantisation::Int4,
            other => panic!("no golden is rounded to {other}"),
        };
        LoadOptions {
            quantise: Some(quantise),
            ..LoadOptions::default()
        }
    }

    /// Fails unless numbers are near those of the golden, and, where four bits make a difference, far from those of
    /// whole weights. What is left is the rounding of the inputs of products to bytes.
    pub fn compare(&self, name: &str, got: &[f32], rows: &[Vec<f32>], whole: &[Vec<f32>]) {
        let (near, far) = (distance(got, rows), distance(got, whole));
        let case = format!("{name}, {}: {near} and {far}", self.format);
        assert!(near < 0.03, "{case}");
        assert!(self.format != "int4" || 3.0 * near < far, "{case}");
    }
}

/// The length of the difference of two vectors, as a part of the second's.
fn distance(got: &[f32], want: &[Vec<f32>]) -> f32 {
    let want: Vec<f32> = want.concat();
    assert_eq!(got.len(), want.len());
    let apart: f32 = got.iter().zip(&want).map(|(a, b)| (a - b).powi(2)).sum();
    (apart / want.iter().map(|number| number * number).sum::<f32>()).sqrt()
}

/// A text, arguments of `generate`, and the sequences that it returns.
#[derive(Deserialize)]
pub struct Search {
    /// What is read.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The arguments.
    pub parameters: Value,
    /// All that is written.
    pub sequences: Vec<Vec<u32>>,
}

/// A request and the pipeline's answer.
#[derive(Deserialize)]
pub struct Request {
    /// `inputs`.
    pub inputs: Value,
    /// `parameters`.
    pub parameters: Value,
    /// The answer.
    pub answer: Value,
}

impl Request {
    /// What is sent.
    pub fn body(&self) -> Value {
        json!({"inputs": self.inputs, "parameters": self.parameters})
    }
}

impl Folders {
    /// The folder that they are in.
    pub fn root(&self) -> PathBuf {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");
        Path::new(models).join(self.path)
    }

    /// All goldens, by name.
    pub fn goldens<Run: DeserializeOwned>(&self) -> Vec<Golden<Run>> {
        let mut names: Vec<String> = fs::read_dir(self.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| self.root().join(name).join("golden.json").exists())
            .collect();
        names.sort();
        assert!(names.len() >= self.least, "only {} folders", names.len());
        names.iter().map(|name| self.golden(name)).collect()
    }

    /// The golden of a folder.
    pub fn golden<Run: DeserializeOwned>(&self, name: &str) -> Golden<Run> {
        let text = fs::read(self.root().join(name).join("golden.json")).unwrap();
        let mut golden: Golden<Run> = serde_json::from_slice(&text).unwrap();
        golden.name = name.into();
        golden
    }

    /// Serves a copy of a folder with these properties; returns when it is ready.
    pub fn serve(&self, name: &str, properties: &str) -> Serving {
        let files = [("serving.properties", properties)];
        serve_copy(&self.root().join(name), &files)
    }

    /// Every answer over HTTP is that of the pipeline.
    pub fn compare_answers(&self) {
        let goldens = self.goldens::<Value>();
        let wrong = goldens.iter().flat_map(|golden| self.wrong(golden, ""));
        let wrong: Vec<String> = wrong.collect();
        let count = wrong.len();
        assert!(wrong.is_empty(), "{count} differ:\n{}", wrong.join("\n"));
    }

    /// So are those of one folder with more properties.
    pub fn compare_one(&self, name: &str, properties: &str) {
        let wrong = self.wrong(&self.golden::<Value>(name), properties);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The requests of a folder that get another answer.
    fn wrong(&self, golden: &Golden<Value>, properties: &str) -> Vec<String> {
        let properties = format!("option.task={}\n{properties}", golden.task);
        let serving = self.serve(&golden.name, &properties);
        let client = Client::new(serving.address());
        let differs = |request: &Request| {
            let body = request.body();
            let answer = client.post("/invocations", &body).unwrap();
            let got = answer.json().unwrap();
            let case = format!("{}: {body}", golden.name);
            if answer.status != 200 {
                return Some(format!("{case}: {} {got}", answer.status));
            }
            let difference = difference(&got, &request.answer, "answer")?;
            Some(format!("{case}: {difference}"))
        };
        golden.requests.iter().filter_map(differs).collect()
    }

    /// The requests of a folder get the same bytes at once, each twice, as one after the other.
    pub fn compare_company(&self, name: &str, properties: &str) {
        let golden = self.golden::<Value>(name);
        let properties = format!("option.task={}\n{properties}", golden.task);
        let serving = self.serve(name, &properties);
        let address = serving.address();
        let ask = |request: &Request| {
            let answer = Client::new(address).post("/invocations", &request.body());
            answer.unwrap().body
        };
        let requests = || golden.requests.iter();
        let alone: Vec<_> = requests().map(ask).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let twice = requests().chain(requests());
            let threads: Vec<_> = twice
                .map(|request| scope.spawn(move || ask(request)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for (at, body) in together.iter().enumerate() {
            assert_eq!(*body, alone[at % alone.len()], "{name}, request {at}");
        }
    }

    /// Bodies are refused by a folder with all the parts of what is said of each.
    pub fn refuse(&self, name: &str, properties: &str, cases: &[Wrong]) {
        let task = self.golden::<Value>(name).task;
        let serving = self.serve(name, &format!("option.task={task}\n{properties}"));
        for (body, parts) in cases {
            let answer = Client::new(serving.address()).post("/invocations", body);
            let answer = answer.unwrap();
            let told = answer.json().unwrap();
            assert_eq!(answer.status, 424, "{name}, {body}: {told}");
            let error = told["error"].as_str().unwrap_or_default();
            for part in *parts {
                assert!(
                    error.contains(part),
                    "{name}, {body}: {part} is not in {told}"
                );
            }
        }
    }
}

/// A body, and parts of what is said of it.
pub type Wrong = (Value, &'static [&'static str]);

const TOLERANCE: f64 = 1e-4;

/// The first difference between two answers, with its place: keys are in the same order, texts, labels and places equal,
/// scores within 1e-4.
pub fn difference(got: &Value, want: &Value, place: &str) -> Option<String> {
    match (got, want) {
        (Value::Number(got), Value::Number(want)) if got.is_f64() || want.is_f64() => {
            let (got, want) = (got.as_f64()?, want.as_f64()?);
            let apart = (got - want).abs() / want.abs().max(1.0);
            (apart.is_nan() || apart > TOLERANCE).then(|| format!("{place}: {got}, not {want}"))
        }
        (Value::Array(got), Value::Array(want)) if got.len() == want.len() => {
            let pairs = got.iter().zip(want).enumerate();
            pairs
                .filter_map(|(at, (got, want))| difference(got, want, &format!("{place}[{at}]")))
                .next()
        }
        (Value::Object(got), Value::Object(want)) if got.keys().eq(want.keys()) => {
            let pairs = got.iter().zip(want.values());
            pairs
                .filter_map(|((key, got), want)| difference(got, want, &format!("{place}.{key}")))
                .next()
        }
        (got, want) if got == want => None,
        (got, want) => Some(format!("{place}: {got}, not {want}")),
    }
}
