//! Which model is found, which one makes room, and what becomes of those that nobody waits for.

use std::time::Duration;

use sconce_config::{CommandLine, Environment, Unreached};
use sconce_core::{Coming, Registration, Registry, RegistryError};
use tempfile::TempDir;

use super::*;
use crate::entry::tests::{Broken, with_memory};
use crate::registry::OnItsWay;

/// A manager without models, and a folder that looks like one.
struct Bench {
    manager: Manager,
    dir: TempDir,
}

impl Bench {
    fn new(variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let environment: Environment = variables.iter().map(owned).collect();
        let configuration = Configuration::read(&CommandLine::default(), &environment);
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        Self {
            manager: Manager::start(configuration, vec![], |_, _| {}).unwrap(),
            dir,
        }
    }

    fn wanted(&self, version: &str) -> Registration {
        Registration {
            url: self.dir.path().display().to_string(),
            name: Some("m".into()),
            version: Some(version.into()),
            ..Registration::default()
        }
    }

    /// A version of a model that is on its way.
    fn version(&self, version: &str, at_startup: bool) -> Arc<Entry> {
        let shelf = &self.manager.0;
        let wanted = self.wanted(version);
        let mut model = shelf
            .configuration
            .model(&wanted, &Unreached)
            .unwrap()
            .model;
        model.model_loading_timeout = Duration::from_millis(1);
        let entry = Arc::new(Entry::new(model, at_startup));
        shelf.place(&mut shelf.lock(), &entry);
        entry
    }

    fn found(&self) -> Option<String> {
        let found = self.manager.find(Some("m"), None).ok()?;
        found.status().version
    }

    fn labels(&self) -> Vec<String> {
        let all = self.manager.status();
        all.iter().map(ModelStatus::label).collect()
    }

    fn coming(&self, entry: &Arc<Entry>) -> Box<dyn Coming> {
        let (_, outcome) = std::sync::mpsc::sync_channel(1);
        Box::new(OnItsWay {
            shelf: Arc::clone(&self.manager.0),
            entry: Arc::clone(entry),
            outcome,
        })
    }
}

fn works(bytes: u64) -> Built {
    with_memory(Broken::default(), bytes)
}

#[test]
fn a_version_that_has_gone_or_failed_has_no_turn() {
    let bench = Bench::new(&[]);
    let [one, two, three] = ["1", "2", "3"].map(|version| bench.version(version, false));
    one.begin_unloading();
    for _ in 0..2 {
        // None answers yet: whoever is on its way says so.
        assert!(matches!(bench.found().as_deref(), Some("2" | "3")));
    }
    two.ready(with_memory(
        Broken {
            failure: Some("boom".into()),
            ..Broken::default()
        },
        0,
    ));
    three.ready(works(0));
    for _ in 0..3 {
        assert_eq!(bench.found().as_deref(), Some("3"));
    }
    three.begin_unloading();
    assert_eq!(
        bench.found().as_deref(),
        Some("2"),
        "it tells why it failed"
    );
    two.begin_unloading();
    let gone = bench.manager.find(Some("m"), None).err();
    assert_eq!(gone, Some(ServeError::UnknownModel("m".into())));
}

#[test]
fn models_whose_end_frees_nothing_make_no_room() {
    let bench = Bench::new(&[("SERVING_EVICT_MODELS", "lru")]);
    let [oldest, own, next, last] = [("1", false), ("2", true), ("3", false), ("4", false)]
        .map(|(version, at_startup)| bench.version(version, at_startup));
    for (entry, bytes) in [(&oldest, 0), (&own, 50), (&next, 10), (&last, 10)] {
        entry.ready(works(bytes));
        drop(entry.lease().unwrap());
    }
    let coming = bench.version("5", false);
    let shelf = &bench.manager.0;
    assert!(
        !shelf.make_room(&coming, 21),
        "all of them would not suffice"
    );
    assert!(shelf.make_room(&coming, 10));
    assert_eq!(bench.labels(), ["m:1", "m:2", "m:4", "m:5"]);
}

#[test]
fn who_was_removed_while_it_loaded_is_no_failure_of_the_start() {
    let bench = Bench::new(&[]);
    let shelf = &bench.manager.0;
    assert!(shelf.load_here(&bench.version("1", true)).is_err());
    let removed = bench.version("2", true);
    removed.begin_unloading();
    assert!(shelf.load_here(&removed).is_ok());
}

#[test]
fn nobody_comes_once_all_were_stopped() {
    let bench = Bench::new(&[]);
    bench.manager.stop();
    let refused = bench.manager.register(&bench.wanted("1")).err();
    assert_eq!(refused, Some(RegistryError::Ending));
    assert!(bench.labels().is_empty());
}

#[test]
fn who_is_too_late_is_on_its_way_out_when_that_is_told() {
    let bench = Bench::new(&[]);
    let entry = bench.version("1", false);
    let told = bench.coming(&entry).wait().unwrap_err();
    assert!(matches!(told, RegistryError::TooLate { .. }), "{told}");
    assert!(entry.is_unloading());
    assert!(!entry.ready(works(1)));
    while !bench.labels().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_is_too_late_and_not_waited_for_has_failed() {
    let bench = Bench::new(&[]);
    let entry = bench.version("1", false);
    bench.coming(&entry).watch().unwrap();
    while entry.status().phase.is_coming() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let phase = entry.status().phase.to_string();
    assert!(phase.contains("model_loading_timeout"), "{phase}");
    assert_eq!(bench.labels(), ["m:1"]);
}
