//! The Python files of a worker: they lie within the program, and are written out at the start.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::PythonError;

macro_rules! package {
    ($name:literal) => {
        (
            concat!("builtin/djl_python/", $name),
            include_str!(concat!("../worker/builtin/djl_python/", $name)),
        )
    };
}

/// The entry point of a worker that only calls functions for requests and answers.
pub(crate) const FORMATTERS: &str = "sconce_formatters.py";

/// Files by their place in the directory that is written.
const FILES: &[(&str, &str)] = &[
    (
        "sconce_worker.py",
        include_str!("../worker/sconce_worker.py"),
    ),
    (FORMATTERS, include_str!("../worker/sconce_formatters.py")),
    package!("__init__.py"),
    package!("arg_parser.py"),
    package!("async_utils.py"),
    package!("custom_formatter_handling.py"),
    package!("encode_decode.py"),
    package!("engine.py"),
    package!("input_parser.py"),
    package!("inputs.py"),
    package!("np_util.py"),
    package!("output_formatter.py"),
    package!("outputs.py"),
    package!("pair_list.py"),
    package!("predictive.py"),
    package!("python_async_engine.py"),
    package!("python_sync_engine.py"),
    package!("request_io.py"),
    package!("service_loader.py"),
    package!("session_manager.py"),
    package!("sklearn_handler.py"),
    package!("streaming_utils.py"),
    package!("test_model.py"),
    package!("utils.py"),
    package!("xgboost_handler.py"),
];

/// A directory with these files, and room for sockets; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Package(TempDir);

impl Package {
    pub(crate) fn write() -> Result<Self, PythonError> {
        let wrong = |path: PathBuf| {
            move |cause: std::io::Error| PythonError::Temporary {
                path,
                cause: cause.to_string(),
            }
        };
        // A short name: the path of a Unix socket has 107 bytes at most.
        let dir = tempfile::Builder::new()
            .prefix("sconce-")
            .tempdir()
            .map_err(wrong("the directory for temporary files".into()))?;
        for (name, text) in FILES {
            let path = dir.path().join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(wrong(folder.into()))?;
            }
            fs::write(&path, text).map_err(wrong(path))?;
        }
        Ok(Self(dir))
    }

    /// The script that Python runs.
    pub(crate) fn script(&self) -> PathBuf {
        self.0.path().join("sconce_worker.py")
    }

    /// An entry point as Python finds it from the model's directory.
    pub(crate) fn entry_point(&self, name: &str) -> PathBuf {
        match name {
            FORMATTERS => self.0.path().join(FORMATTERS),
            of_model => of_model.into(),
        }
    }

    /// Where sockets lie.
    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_written() {
        let source = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/worker/builtin/djl_python"
        ));
        let package = Package::write().unwrap();
        for entry in fs::read_dir(source).unwrap() {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|end| end == "py") {
                let written = package
                    .dir()
                    .join("builtin/djl_python")
                    .join(entry.file_name());
                let text = fs::read_to_string(&written)
                    .unwrap_or_else(|_| panic!("{} is not in the table", written.display()));
                assert_eq!(text, fs::read_to_string(entry.path()).unwrap());
            }
        }
        let dir = package.dir().to_path_buf();
        drop(package);
        assert!(!dir.exists());
    }
}
