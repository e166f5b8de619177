//! `requirements.txt`: installed once, into an environment of its own, before the first worker.
//!
//! The environment is a virtual one over the interpreter's own packages, which count as installed.
//! It is kept under the hash of what it was made from, so that another start takes it as it is.
//! Wheels in the folder `requirements` beside the file come first; only if they do not suffice is
//! an index asked, which one pip's own settings and variables (`PIP_*`) say.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ring::digest::{Context, SHA256};
use rustix::fs::{FlockOperation, flock};
use tracing::info;

use crate::error::PythonError;
use crate::running::Running;
use crate::settings::PythonSettings;

/// Written when an environment is whole.
const COMPLETE: &str = ".complete";
/// Tells the interpreter's version and where its packages are, a line each.
const ASK: &str = "import sys, sysconfig; print(sys.version.split()[0]); \
                   print('python%d.%d' % sys.version_info[:2]); \
                   print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))";

/// The interpreter that has the packages; `None`: there is no such file, the usual one will do.
///
/// # Errors
/// pip's own words if it fails.
pub(crate) fn install(
    settings: &PythonSettings,
    stop: &dyn Fn() -> bool,
) -> Result<Option<String>, PythonError> {
    let file = settings.dir.join("requirements.txt");
    if !file.is_file() {
        return Ok(None);
    }
    let install = Install {
        settings,
        file,
        wheels: Some(settings.dir.join("requirements")).filter(|dir| dir.is_dir()),
        deadline: Instant::now() + settings.model_loading_timeout,
        stop,
    };
    install.run().map(Some)
}

struct Install<'a> {
    settings: &'a PythonSettings,
    file: PathBuf,
    /// Where wheels lie beside the file.
    wheels: Option<PathBuf>,
    deadline: Instant,
    stop: &'a dyn Fn() -> bool,
}

/// What an interpreter says of itself.
struct Base {
    version: String,
    /// `python3.11`.
    folder: String,
    packages: Vec<String>,
}

impl Install<'_> {
    fn run(&self) -> Result<String, PythonError> {
        let base = self.ask()?;
        let place = self.place(&base)?;
        let python = place.join("bin/python").display().to_string();
        let held = place.with_extension("lock");
        // Another server may be making the same environment.
        let lock = File::create(&held).map_err(|cause| unusable(&held, &cause))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|cause| unusable(&held, &cause.into()))?;
        if place.join(COMPLETE).is_file() {
            info!("{} was installed before", self.file.display());
            return Ok(python);
        }
        let began = Instant::now();
        info!(
            "installing {} into {}",
            self.file.display(),
            place.display()
        );
        if place.exists() {
            fs::remove_dir_all(&place).map_err(|cause| unusable(&place, &cause))?;
        }
        self.make(&place, &base)?;
        self.fill(&python)?;
        let complete = place.join(COMPLETE);
        fs::write(&complete, "").map_err(|cause| unusable(&complete, &cause))?;
        info!(
            "{} is installed after {:.1} s",
            self.file.display(),
            began.elapsed().as_secs_f64()
        );
        Ok(python)
    }

    fn ask(&self) -> Result<Base, PythonError> {
        let executable = &self.settings.interpreter.executable;
        let no_python = |cause: String| PythonError::NoPython {
            executable: executable.clone(),
            cause,
        };
        let told = Command::new(executable).args(["-c", ASK]).output();
        let told = told.map_err(|cause| no_python(cause.to_string()))?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut lines = text.lines().map(str::to_owned);
        match (lines.next(), lines.next()) {
            (Some(version), Some(folder)) => Ok(Base {
                version,
                folder,
                packages: lines.collect(),
            }),
            _ => Err(no_python(
                String::from_utf8_lossy(&told.stderr).into_owned(),
            )),
        }
    }

    /// The directory of the environment; the first place that can be written counts.
    fn place(&self, base: &Base) -> Result<PathBuf, PythonError> {
        let name = self.hash(base)?;
        let mut problem = None;
        for dir in &self.settings.interpreter.environments {
            match fs::create_dir_all(dir).and_then(|()| is_writable(dir)) {
                Ok(()) => return Ok(dir.join(name)),
                Err(cause) => problem = problem.or(Some(unusable(dir, &cause))),
            }
        }
        Err(problem.unwrap_or_else(|| {
            let cause = io::Error::other("no directory for it is configured");
            unusable(Path::new("the environment"), &cause)
        }))
    }

    fn hash(&self, base: &Base) -> Result<String, PythonError> {
        let mut hash = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(&fs::read(&self.file).map_err(|cause| unusable(&self.file, &cause))?);
        add(base.version.as_bytes());
        base.packages.iter().for_each(|path| add(path.as_bytes()));
        let mut wheels: Vec<String> = Vec::new();
        if let Some(dir) = &self.wheels {
            for entry in fs::read_dir(dir)
                .map_err(|cause| unusable(dir, &cause))?
                .flatten()
            {
                let length = entry.metadata().map_or(0, |data| data.len());
                wheels.push(format!("{} {length}", entry.file_name().to_string_lossy()));
            }
        }
        wheels.sort();
        wheels.iter().for_each(|wheel| add(wheel.as_bytes()));
        let digest = hash.finish();
        Ok(digest.as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    /// An empty environment. One over another virtual environment would not see that one's
    /// packages by itself: a path file says where they are.
    fn make(&self, place: &Path, base: &Base) -> Result<(), PythonError> {
        let executable = &self.settings.interpreter.executable;
        let mut command = Command::new(executable);
        command
            .args(["-m", "venv", "--system-site-packages", "--without-pip"])
            .arg(place);
        self.step(&mut command, executable)?;
        let path = place
            .join("lib")
            .join(&base.folder)
            .join("site-packages/of_the_interpreter.pth");
        fs::write(&path, base.packages.join("\n") + "\n").map_err(|cause| unusable(&path, &cause))
    }

    fn fill(&self, python: &str) -> Result<(), PythonError> {
        let offline = self.settings.interpreter.offline;
        let Some(wheels) = &self.wheels else {
            let extra: &[&str] = if offline {
                &["--no-deps", "--no-index"]
            } else {
                &[]
            };
            return self.step(&mut self.pip(python, extra), python);
        };
        let links = wheels.display().to_string();
        let local = self.step(
            &mut self.pip(python, &["--no-index", "--find-links", &links]),
            python,
        );
        match local {
            Err(PythonError::Requirements { .. }) if !offline => {
                info!("the wheels in {links} do not suffice, the index is asked");
                self.step(&mut self.pip(python, &["--find-links", &links]), python)
            }
            done => done,
        }
    }

    fn pip(&self, python: &str, extra: &[&str]) -> Command {
        let mut command = Command::new(python);
        command
            .args([
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .args(["--progress-bar", "off"])
            .args(extra)
            .arg("-r")
            .arg(&self.file)
            .current_dir(&self.settings.dir)
            .env("PYTHONUNBUFFERED", "1");
        command
    }

    fn step(&self, command: &mut Command, executable: &str) -> Result<(), PythonError> {
        let name = format!("{}-pip", self.settings.name);
        let (mut running, _ready) = Running::start(command, &name, executable)?;
        match running.finish(self.deadline, self.stop) {
            Some(true) => Ok(()),
            Some(false) => Err(PythonError::Requirements {
                file: self.file.clone(),
                words: running.words(),
            }),
            None if (self.stop)() => Err(PythonError::Stopped),
            None => Err(PythonError::Slow {
                seconds: self.settings.model_loading_timeout.as_secs(),
                doing: "installing requirements.txt",
                words: running.words(),
            }),
        }
    }
}

fn is_writable(dir: &Path) -> io::Result<()> {
    tempfile::tempfile_in(dir).map(drop)
}

fn unusable(path: &Path, cause: &io::Error) -> PythonError {
    PythonError::Temporary {
        path: path.into(),
        cause: cause.to_string(),
    }
}
