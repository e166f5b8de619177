//! What a recording says of the server: arguments, variables, settings, the program, the machine, the models' files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_config::{CommandLine, Environment, ModelSettings, Origin, Resolved};
use sconce_record::{About, Checkpoint, ModelAbout, RecordError, Recorder, Setting};
use tracing::{error, info};

/// The program that runs.
const PROGRAM: &str = "/proc/self/exe";

/// Begins a recording in a folder.
pub(crate) fn begin(
    dir: &Path,
    line: &CommandLine,
    environment: &Environment,
    models: &[Resolved],
) -> Result<Arc<Recorder>, RecordError> {
    let recorder = Recorder::new(dir, &about(line, environment, models))?;
    info!(
        "requests and answers are recorded in {}, prompts and all; `sconce replay` asks them again",
        dir.display()
    );
    Ok(Arc::new(recorder))
}

/// By what and how answers are made.
pub(crate) fn about(line: &CommandLine, environment: &Environment, models: &[Resolved]) -> About {
    let hash = sconce_record::hash_of(Path::new(PROGRAM));
    About {
        version: env!("CARGO_PKG_VERSION").into(),
        program: hash.unwrap_or_else(|_| "unknown".into()),
        processor: processor(),
        arguments: arguments(line),
        variables: environment.settings(),
        models: models.iter().map(model).collect(),
    }
}

fn model(resolved: &Resolved) -> ModelAbout {
    // Where it listens does not matter to answers.
    let of_answers = |origin: &&Origin| !origin.key.starts_with("--");
    let settings = resolved.origins.iter().chain(&resolved.defaults);
    let settings = settings.filter(of_answers);
    let setting = |origin: &Origin| Setting {
        key: origin.key.clone(),
        value: origin.value.clone(),
        from: origin.from.to_string(),
    };
    ModelAbout {
        name: resolved.model.name.clone(),
        settings: settings.map(setting).collect(),
    }
}

/// As the system calls it; kernels are chosen by what it can.
fn processor() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |line: &str| {
        let (key, name) = line.split_once(':')?;
        (key.trim() == "model name").then(|| name.trim().to_owned())
    };
    let found = about.lines().find_map(named);
    found.unwrap_or_else(|| "unknown".into())
}

/// The arguments that say what is served.
fn arguments(line: &CommandLine) -> Vec<(String, String)> {
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute);
    let all = [
        ("model_dir", path(&line.model_dir)),
        ("load_models", line.load_models.clone()),
        ("model_store", line.model_store.clone()),
        ("config_file", path(&line.config_file)),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

/// A path that means the same in any folder; what is not here stays as it is written.
fn absolute(path: &Path) -> String {
    let whole = match path.exists() {
        true => std::path::absolute(path).unwrap_or_else(|_| path.into()),
        false => path.into(),
    };
    whole.to_string_lossy().into_owned()
}

/// The command line that had these arguments, at a port that nobody listens at.
pub(crate) fn line(arguments: &[(String, String)]) -> CommandLine {
    let find = |wanted: &str| {
        let found = arguments.iter().find(|(key, _)| key == wanted);
        found.map(|(_, value)| value.clone())
    };
    CommandLine {
        model_dir: find("model_dir").map(PathBuf::from),
        load_models: find("load_models"),
        model_store: find("model_store"),
        config_file: find("config_file").map(PathBuf::from),
        ..CommandLine::default()
    }
}

/// The files of models that have been fetched.
pub(crate) fn checkpoints(models: &[ModelSettings]) -> Result<Vec<Checkpoint>, RecordError> {
    let placed = models.iter().filter_map(|model| {
        let dir = sconce_manager::files_of(model)?;
        Some((model, dir))
    });
    placed
        .map(|(model, dir)| Checkpoint::of(&model.name, &dir))
        .collect()
}

/// Reads the files in a thread of its own and notes what they are: large ones take minutes.
pub(crate) fn note_checkpoints(recorder: Arc<Recorder>, models: Vec<ModelSettings>) {
    let note = move || {
        let noted = checkpoints(&models).and_then(|found| recorder.checkpoints(&found));
        if let Err(cause) = noted {
            error!("the recording does not know the models' files: {cause}");
        }
    };
    let thread = std::thread::Builder::new().name("hashes".into());
    if let Err(cause) = thread.spawn(note) {
        error!("the recording does not know the models' files: no thread reads them: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_mean_the_same_again_wherever_they_are_read() {
        let line_then = CommandLine {
            model_dir: Some("src".into()),
            load_models: Some("a=s3://b/c".into()),
            host: Some("0.0.0.0".into()),
            port: Some(80),
            ..CommandLine::default()
        };
        let again = line(&arguments(&line_then));
        let dir = again.model_dir.clone().unwrap();
        assert!(dir.is_absolute() && dir.ends_with("src"), "{dir:?}");
        assert_eq!(
            (again.load_models, again.host, again.port),
            (line_then.load_models, None, None)
        );
        let bucket = CommandLine {
            model_dir: Some("s3://bucket/prefix/".into()),
            ..CommandLine::default()
        };
        let again = line(&arguments(&bucket)).model_dir.unwrap();
        assert_eq!(again.to_str(), Some("s3://bucket/prefix/"));
    }
}
