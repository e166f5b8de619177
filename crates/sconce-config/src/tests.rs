//! Tests of the whole: the table, precedence, dialects, messages, where the model is, files of
//! others.

mod contradictions;
mod corpus;
mod dialects;
mod messages;
mod models;
mod observed;
mod precedence;
mod python;
mod s3;
mod sdk;
mod several;
mod slips;
mod table;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{CommandLine, ConfigErrors, Configuration, Environment, Resolved, resolve};

/// A model's directory, the server's home and the environment of one start.
struct Start {
    dir: TempDir,
    line: CommandLine,
    variables: Vec<(String, String)>,
}

impl Start {
    /// `sconce serve DIRECTORY` with a checkpoint in it.
    fn with_model() -> Self {
        let start = Self::without_model();
        start.write("model/config.json", "{}");
        let line = CommandLine {
            model_dir: Some(start.path("model")),
            ..CommandLine::default()
        };
        Self { line, ..start }
    }

    /// `sconce serve`, with an empty model store.
    fn without_model() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("model")).unwrap();
        let start = Self {
            dir,
            line: CommandLine::default(),
            variables: vec![],
        };
        let (store, home) = (start.path("model"), start.path("home"));
        let start = start
            .variable("MODEL_SERVER_HOME", &home.to_string_lossy())
            .variable("HOME", "/home/user");
        start.file(
            "home/config.properties",
            &format!("model_store={}\n", store.display()),
        )
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    fn properties(self, text: &str) -> Self {
        self.file("model/serving.properties", text)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn environment(&self) -> Environment {
        self.variables.iter().cloned().collect()
    }

    fn resolve(&self) -> Result<Resolved, ConfigErrors> {
        resolve(&self.line, &self.environment())
    }

    fn configuration(&self) -> Configuration {
        Configuration::read(&self.line, &self.environment())
    }

    fn resolved(&self) -> Resolved {
        self.resolve().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The message of a start that must fail.
    fn refused(&self) -> String {
        self.resolve()
            .expect_err("the configuration is wrong")
            .to_string()
    }
}

/// Asserts that a message contains all parts.
#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}
