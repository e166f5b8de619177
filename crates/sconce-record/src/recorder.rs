//! Writes a recording, in a thread of its own, so that no request waits for a disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;
use tracing::{error, info};

use crate::checkpoint::Checkpoint;
use crate::error::RecordError;
use crate::exchange::Exchange;
use crate::folder::{ABOUT, About, CHECKPOINTS, EXCHANGES};

/// Takes exchanges, and writes them to a folder.
#[derive(Debug)]
pub struct Recorder {
    dir: PathBuf,
    lines: Mutex<Option<Sender<Exchange>>>,
    writer: Mutex<Option<JoinHandle<usize>>>,
}

impl Recorder {
    /// Makes the folder, which must be empty or not there, and readable by nobody else where the system has such rights.
    pub fn new(dir: &Path, about: &About) -> Result<Self, RecordError> {
        make(dir)?;
        if fs::read_dir(dir)
            .map_err(RecordError::of_file(dir))?
            .next()
            .is_some()
        {
            return Err(RecordError::NotEmpty { dir: dir.into() });
        }
        write(&dir.join(ABOUT), about)?;
        let path = dir.join(EXCHANGES);
        let options = OpenOptions::new().append(true).create(true).clone();
        let file = options.open(&path).map_err(RecordError::of_file(&path))?;
        let (sender, receiver) = channel();
        let writer = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || keep(&path, file, &receiver))
            .map_err(RecordError::Thread)?;
        Ok(Self {
            dir: dir.into(),
            lines: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes what the models' files are.
    pub fn checkpoints(&self, checkpoints: &[Checkpoint]) -> Result<(), RecordError> {
        write(&self.dir.join(CHECKPOINTS), checkpoints)
    }

    /// Takes an exchange; what cannot be written is told in the log, and nobody waits.
    pub fn put(&self, exchange: Exchange) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &*lines {
            // A thread that has given up said why.
            let _ = lines.send(exchange);
        }
    }

    /// Waits until all is written; nothing more is taken.
    pub fn close(&self) {
        let lines = self
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lines);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Ok(count)) = writer.map(JoinHandle::join) {
            info!("{count} requests are recorded in {}", self.dir.display());
        }
    }
}

fn make(dir: &Path) -> Result<(), RecordError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(RecordError::of_file(dir))
}

fn write(path: &Path, what: &(impl Serialize + ?Sized)) -> Result<(), RecordError> {
    let text = serde_json::to_vec_pretty(what).map_err(|cause| RecordError::Content {
        path: path.into(),
        line: None,
        cause,
    })?;
    fs::write(path, text).map_err(RecordError::of_file(path))
}

/// Writes lines until nobody sends any more, or one cannot be written; how many were.
fn keep(path: &Path, mut file: File, lines: &Receiver<Exchange>) -> usize {
    let mut count = 0;
    while let Ok(exchange) = lines.recv() {
        let line = serde_json::to_vec(&exchange).map_err(std::io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            // One piece, so that a line is there or not.
            file.write_all(&line)
        });
        if let Err(cause) = written {
            error!("the recording ends here: {}: {cause}", path.display());
            return count;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Answer, Asked, Fixed};
    use crate::folder::Recording;

    fn exchange(body: &[u8]) -> Exchange {
        let body = crate::Content(body.to_vec());
        Exchange {
            asked: Asked {
                method: "POST".into(),
                target: "/invocations?a=b".into(),
                headers: vec![("content-type".into(), "application/json".into())],
                body: body.clone(),
            },
            fixed: Fixed {
                seed: u64::MAX,
                id: "x".into(),
                created: 7,
            },
            answer: Answer {
                status: 200,
                body,
                complete: true,
                ..Answer::default()
            },
        }
    }

    #[test]
    fn what_is_put_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("new/recording");
        let recorder = Recorder::new(&place, &About::default()).unwrap();
        let all: Vec<Exchange> = [&b"{\n}"[..], &[0, 255], "🕯".as_bytes()]
            .map(exchange)
            .into();
        all.iter().cloned().for_each(|one| recorder.put(one));
        recorder.close();
        recorder.put(exchange(b"too late"));
        let recording = Recording::open(&place).unwrap();
        let read: Result<Vec<_>, _> = recording.exchanges().unwrap().collect();
        assert_eq!(read.unwrap(), all);
        assert!(recording.checkpoints.is_empty());
        recorder.checkpoints(&[]).unwrap();
        let again = Recorder::new(&place, &About::default());
        assert!(again.unwrap_err().to_string().contains("not empty"));
    }
}
