//! A worker's standard output and standard error: read without pause, relayed into the log line
//! by line, with a bound on lines and their length, whatever the handler prints.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::tail::Tail;

/// By which a worker says that it listens.
const READY: &str = "Python engine started.";
/// What our own package adds to it: streams end at SIGUSR1.
const ENDS_STREAMS: &str = "Streams end at SIGUSR1.";
/// Telemetry of DJL Serving's package, which goes nowhere.
const TELEMETRY: &str = "ModelServerTelemetry:";
/// Longer lines are cut.
const LINE: usize = 8 * 1024;
/// So many lines are relayed in a second, at most.
const LINES_PER_SECOND: usize = 500;

/// A worker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Whether a signal ends a stream between two of its parts.
    pub(crate) ends_streams: bool,
}

/// One of the two streams.
pub(crate) struct Relay {
    /// Model and worker, for the log.
    pub(crate) worker: String,
    /// Whether it is standard error.
    pub(crate) is_error: bool,
    pub(crate) tail: Arc<Tail>,
    /// Told once the worker listens.
    pub(crate) ready: Sender<Ready>,
}

impl Relay {
    /// Reads to the end of the stream.
    pub(crate) fn run(self, mut source: impl Read) {
        let mut lines = Lines::new(self);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => lines.take(&buffer[..count]),
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines.end();
    }

    fn line(&self, line: &str, level: &mut Level, pace: &mut Pace) {
        let line = untagged(line);
        if line.contains(READY) {
            let ends_streams = line.contains(ENDS_STREAMS);
            // Nobody waits for a second one.
            let _ = self.ready.send(Ready { ends_streams });
        }
        if line.contains(TELEMETRY) {
            return;
        }
        self.tail.push(line);
        let (found, text) = Level::of(line);
        *level = match found {
            Some(found) => found,
            // A traceback belongs to the line before it.
            None if line.starts_with([' ', '\t']) || line.starts_with("Traceback") => *level,
            None if self.is_error => Level::Warn,
            None if *level >= Level::Warn && line.contains("Error") => *level,
            None => Level::Info,
        };
        if let Some(left_out) = pace.left_out() {
            warn!("{}: {left_out} lines left out of the log", self.worker);
        }
        if pace.allows() {
            level.log(&self.worker, text);
        }
    }
}

/// Cuts bytes into lines.
struct Lines {
    relay: Relay,
    line: Vec<u8>,
    level: Level,
    pace: Pace,
}

impl Lines {
    fn new(relay: Relay) -> Self {
        Self {
            relay,
            line: Vec::new(),
            level: Level::Info,
            pace: Pace::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        if !line.is_empty() {
            self.relay.line(line, &mut self.level, &mut self.pace);
        }
        self.line.clear();
    }
}

/// The level of a line, which DJL Serving's workers write before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn of(line: &str) -> (Option<Self>, &str) {
        let Some((word, text)) = line.split_once("::") else {
            return (None, line);
        };
        let level = match word {
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARNING" => Self::Warn,
            "ERROR" | "CRITICAL" => Self::Error,
            _ => return (None, line),
        };
        (Some(level), text)
    }

    fn log(self, worker: &str, text: &str) {
        match self {
            Self::Debug => debug!("{worker}: {text}"),
            Self::Info => info!("{worker}: {text}"),
            Self::Warn => warn!("{worker}: {text}"),
            Self::Error => error!("{worker}: {text}"),
        }
    }
}

/// A line without `[job,rank]<stream>:`, which `mpirun` puts before those of its ranks.
fn untagged(line: &str) -> &str {
    let is_number = |c: char| c.is_ascii_digit() || c == ',';
    let tag = line
        .strip_prefix('[')
        .map(|rest| rest.trim_start_matches(is_number));
    let rest = tag.and_then(|rest| rest.strip_prefix(']'));
    let rest = rest.and_then(|rest| {
        rest.strip_prefix("<stdout>:")
            .or_else(|| rest.strip_prefix("<stderr>:"))
    });
    rest.unwrap_or(line)
}

/// How many lines there were in this second.
struct Pace {
    began: Instant,
    lines: usize,
    left_out: usize,
}

impl Pace {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether one more line is relayed.
    fn allows(&mut self) -> bool {
        self.lines += 1;
        let allowed = self.lines <= LINES_PER_SECOND;
        self.left_out += usize::from(!allowed);
        allowed
    }

    /// At the end of a second: how many were left out in it, if any.
    fn left_out(&mut self) -> Option<usize> {
        if self.began.elapsed() < Duration::from_secs(1) {
            return None;
        }
        (self.began, self.lines) = (Instant::now(), 0);
        Some(std::mem::take(&mut self.left_out)).filter(|&count| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn relay(text: &[u8]) -> (Arc<Tail>, Option<Ready>) {
        let (ready, told) = channel();
        let tail = Arc::new(Tail::default());
        let relay = Relay {
            worker: "m-0".into(),
            is_error: false,
            tail: Arc::clone(&tail),
            ready,
        };
        relay.run(text);
        (tail, told.try_recv().ok())
    }

    #[test]
    fn a_worker_is_ready_when_it_says_so() {
        let told = |text: &[u8]| relay(text).1.map(|ready| ready.ends_streams);
        assert_eq!(told(b"INFO::Python engine started.\n"), Some(false));
        let ours = b"[1,0]<stdout>:INFO::Python engine started. Streams end at SIGUSR1.";
        assert_eq!(told(ours), Some(true));
        assert_eq!(told(b"INFO::loading\n"), None);
    }

    #[test]
    fn endless_lines_and_bytes_that_are_no_text_are_cut() {
        let mut text = vec![0xff; 3 * LINE];
        text.extend(b"\n\n  \nlast");
        let words = relay(&text).0.words();
        assert!(words.ends_with("\nlast"), "{words}");
        assert!(words.len() < 4 * LINE, "{}", words.len());
    }

    #[test]
    fn what_mpirun_puts_before_a_line_is_taken_away() {
        assert_eq!(untagged("[1,12]<stderr>:ERROR::a"), "ERROR::a");
        assert_eq!(untagged("[1,0]<stdout>:"), "");
        for line in ["[1, 2, 3]", "[1,2] a", "a", "[x]<stdout>:b"] {
            assert_eq!(untagged(line), line);
        }
    }

    #[test]
    fn levels_are_read_and_taken_away() {
        assert_eq!(Level::of("ERROR::a::b"), (Some(Level::Error), "a::b"));
        assert_eq!(Level::of("std::vector"), (None, "std::vector"));
    }
}
