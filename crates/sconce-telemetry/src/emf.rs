//! Lines in CloudWatch's embedded metric format: whoever collects the container's output has the metrics, with neither
//! an agent nor a scrape.
//!
//! A request makes a line with its own times, so that CloudWatch can take any percentile of them; each model makes one a
//! minute with what is so then. A thread writes them: whoever measures never waits for the output.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sconce_core::ModelStatus;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::measured::{Ending, Times};
use crate::state::saturation;

/// Lines that may wait for a slow output; more are lost.
const WAITING: usize = 4096;

/// The models that are there now.
pub type Statuses = dyn Fn() -> Vec<ModelStatus> + Send + Sync;

/// Writes lines; clones write to the same output.
#[derive(Clone)]
pub struct Emf(Arc<Inner>);

struct Inner {
    namespace: String,
    lines: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    models: Arc<Mutex<Option<Box<Statuses>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Emf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emf({})", self.0.namespace)
    }
}

/// One metric of a line: its name, its unit as CloudWatch calls it, its value.
type Metric = (&'static str, &'static str, f64);

impl Emf {
    /// Writes to `output` under a namespace; the state of the models after each `pause`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        namespace: &str,
        output: impl Write + Send + 'static,
        pause: Duration,
    ) -> std::io::Result<Self> {
        let (sender, lines) = sync_channel(WAITING);
        let writer = Writer {
            namespace: namespace.into(),
            output,
            lines,
            lost: Arc::default(),
            models: Arc::default(),
        };
        let (lost, models) = (Arc::clone(&writer.lost), Arc::clone(&writer.models));
        let thread = std::thread::Builder::new()
            .name("emf".into())
            .spawn(move || writer.run(pause))?;
        Ok(Self(Arc::new(Inner {
            namespace: namespace.into(),
            lines: Mutex::new(Some(sender)),
            lost,
            models,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Tells of these models from now on.
    pub fn follow(&self, models: Box<Statuses>) {
        let mut followed = self.0.models.lock().unwrap_or_else(PoisonError::into_inner);
        *followed = Some(models);
    }

    /// Tells of a job that is over.
    pub(crate) fn request(
        &self,
        model: &str,
        id: &str,
        times: &Times,
        ended: Instant,
        ending: &Ending,
    ) {
        let line = request(&self.0.namespace, model, id, times, ended, ending);
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = lines.as_ref()
            && lines.try_send(line).is_err()
        {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, and ends.
    pub(crate) fn shutdown(&self) {
        let lines = &self.0.lines;
        lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = &self.0.thread;
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        // What is asked for the models must not outlive them.
        let models = &self.0.models;
        models.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The thread that writes.
struct Writer<W> {
    namespace: String,
    output: W,
    lines: Receiver<String>,
    lost: Arc<AtomicU64>,
    models: Arc<Mutex<Option<Box<Statuses>>>>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, pause: Duration) {
        let mut next = Instant::now() + pause;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.write(&line),
                Err(RecvTimeoutError::Timeout) => {
                    next += pause;
                    self.write_models();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, line: &str) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!("{lost} lines of metrics are lost: standard output is too slow for them");
        }
        // Where nobody reads the output there is nobody to tell.
        let _ = writeln!(self.output, "{line}").and_then(|()| self.output.flush());
    }

    fn write_models(&mut self) {
        let models = {
            let ask = self.models.lock().unwrap_or_else(PoisonError::into_inner);
            ask.as_ref().map(|ask| ask()).unwrap_or_default()
        };
        for model in &models {
            let line = state(&self.namespace, model);
            self.write(&line);
        }
    }
}

fn request(
    namespace: &str,
    model: &str,
    id: &str,
    times: &Times,
    ended: Instant,
    ending: &Ending,
) -> String {
    let queued = times.queued.1;
    let millis =
        |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    let mut metrics: Vec<Metric> = vec![("RequestLatency", "Milliseconds", millis(queued, ended))];
    let mut add = |name, unit, value: Option<f64>| {
        metrics.extend(value.map(|value| (name, unit, value)));
    };
    let since_queued = |moment: Option<Instant>| moment.map(|moment| millis(queued, moment));
    add("QueueTime", "Milliseconds", since_queued(times.began));
    add(
        "TimeToFirstToken",
        "Milliseconds",
        since_queued(times.first),
    );
    let count = |tokens: Option<usize>| tokens.map(|tokens| tokens as f64);
    add("PromptTokens", "Count", count(ending.read));
    add("OutputTokens", "Count", count(ending.generated));
    if let (Some(first), Some(last), Some(tokens @ 2..)) =
        (times.first, times.last, ending.generated)
    {
        let pause = millis(first, last) / (tokens - 1) as f64;
        add("InterTokenLatency", "Milliseconds", Some(pause));
    }
    let failed = f64::from(u8::from(ending.reason == "error"));
    add("Errors", "Count", Some(failed));
    let about = [
        ("RequestId", json!(id)),
        ("FinishedReason", json!(ending.reason)),
    ];
    line(namespace, model, &metrics, about)
}

fn state(namespace: &str, model: &ModelStatus) -> String {
    let load = model.load;
    let mut metrics: Vec<Metric> = vec![
        ("RunningRequests", "Count", load.running as f64),
        ("WaitingRequests", "Count", load.queued as f64),
        ("BatchSize", "Count", load.batch as f64),
        ("Ready", "Count", f64::from(u8::from(model.is_ready()))),
    ];
    if load.total_blocks > 0 {
        let used = 100.0 * load.used_blocks as f64 / load.total_blocks as f64;
        metrics.push(("KvCacheUsage", "Percent", used));
    }
    metrics.extend(saturation(model).map(|share| ("Saturation", "None", share)));
    let about = [("Phase", json!(model.phase.to_string()))];
    line(namespace, &model.label(), &metrics, about)
}

fn line<const N: usize>(
    namespace: &str,
    model: &str,
    metrics: &[Metric],
    about: [(&str, Value); N],
) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let defined: Vec<Value> = metrics
        .iter()
        .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
        .collect();
    let mut line = Map::new();
    line.insert(
        "_aws".into(),
        json!({
            "Timestamp": since.unwrap_or_default().as_millis() as u64,
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": [["Model"]],
                "Metrics": defined,
            }],
        }),
    );
    line.insert("Model".into(), json!(model));
    line.extend(about.map(|(name, value)| (name.into(), value)));
    line.extend(
        metrics
            .iter()
            .map(|(name, _, value)| ((*name).into(), json!(value))),
    );
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sconce_core::{Load, Phase};

    use super::*;

    /// Output that tests can read.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    /// The rules of CloudWatch's schema for these lines (Embedded Metric Format Specification, of 2019 and later).
    fn check(line: &Value) {
        const UNITS: [&str; 4] = ["Milliseconds", "Count", "Percent", "None"];
        let about = &line["_aws"];
        assert!(about["Timestamp"].is_u64(), "{line}");
        let directives = about["CloudWatchMetrics"].as_array().unwrap();
        for directive in directives {
            let namespace = directive["Namespace"].as_str().unwrap();
            assert!((1..=1024).contains(&namespace.len()));
            for set in directive["Dimensions"].as_array().unwrap() {
                let set = set.as_array().unwrap();
                assert!(set.len() <= 30);
                for dimension in set {
                    let value = line[dimension.as_str().unwrap()].as_str().unwrap();
                    assert!((1..=1024).contains(&value.len()), "{line}");
                }
            }
            let metrics = directive["Metrics"].as_array().unwrap();
            assert!((1..=100).contains(&metrics.len()));
            let names: BTreeSet<&str> = metrics
                .iter()
                .map(|metric| {
                    assert!(UNITS.contains(&metric["Unit"].as_str().unwrap()), "{line}");
                    metric["Name"].as_str().unwrap()
                })
                .collect();
            assert_eq!(names.len(), metrics.len(), "a name stands twice: {line}");
            assert!(names.iter().all(|name| line[*name].is_number()), "{line}");
        }
    }

    #[test]
    fn a_request_tells_its_own_times() {
        let output = Output::default();
        let emf = Emf::start("sconce", output.clone(), Duration::from_secs(3600)).unwrap();
        let queued = Instant::now();
        let at = |millis| queued + Duration::from_millis(millis);
        let times = Times {
            queued: (SystemTime::now(), queued),
            began: Some(at(5)),
            first: Some(at(25)),
            last: Some(at(65)),
        };
        let ending = Ending {
            reason: "stop",
            read: Some(7),
            generated: Some(5),
            error: None,
        };
        emf.request("m", "abc", &times, at(66), &ending);
        let refused = Ending {
            reason: "error",
            ..Ending::default()
        };
        let alone = Times {
            began: None,
            first: None,
            last: None,
            ..times
        };
        emf.request("m", "def", &alone, at(3), &refused);
        emf.shutdown();
        let lines = output.lines();
        lines.iter().for_each(check);
        let [full, short] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        for (name, value) in [
            ("RequestLatency", 66.0),
            ("QueueTime", 5.0),
            ("TimeToFirstToken", 25.0),
            ("InterTokenLatency", 10.0),
            ("PromptTokens", 7.0),
            ("OutputTokens", 5.0),
            ("Errors", 0.0),
        ] {
            assert_eq!(full[name], json!(value), "{name}");
        }
        assert_eq!(
            (&full["RequestId"], &full["Model"]),
            (&json!("abc"), &json!("m"))
        );
        assert_eq!(
            (&short["Errors"], &short["QueueTime"]),
            (&json!(1.0), &Value::Null)
        );
    }

    #[test]
    fn models_tell_their_state_again_and_again() {
        let output = Output::default();
        let emf = Emf::start("Team/Chat", output.clone(), Duration::from_millis(5)).unwrap();
        let model = ModelStatus {
            name: "m".into(),
            version: Some("2".into()),
            phase: Phase::Ready,
            load: Load {
                used_blocks: 1,
                total_blocks: 4,
                ..Load::default()
            },
            ..ModelStatus::default()
        };
        emf.follow(Box::new(move || vec![model.clone()]));
        let end = Instant::now() + Duration::from_secs(60);
        while output.lines().len() < 2 {
            assert!(Instant::now() < end, "nothing is written");
            std::thread::sleep(Duration::from_millis(2));
        }
        emf.shutdown();
        let lines = output.lines();
        lines.iter().for_each(check);
        assert_eq!(lines[0]["Model"], "m:2");
        assert_eq!(
            (&lines[0]["KvCacheUsage"], &lines[0]["Ready"]),
            (&json!(25.0), &json!(1.0))
        );
        assert_eq!(
            lines[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"],
            "Team/Chat"
        );
    }
}
