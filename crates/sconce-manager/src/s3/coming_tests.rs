//! Numbers that come while a model is loaded: on the disk, or straight into memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use sconce_config::S3Model;
use sconce_engine::{Numbers, Part};
use sconce_testkit::fakes::Gate;
use sconce_testkit::s3::{Failure, FakeS3, RunningS3};
use tempfile::TempDir;

use super::snapshot;
use super::testing::signed;
use crate::coming::Coming;
use crate::error::ManagerError;
use crate::store::Place;

const MIB: usize = 1 << 20;
const NAME: &str = "model.safetensors";
const KEY: &str = "models/llama/model.safetensors";

/// A safetensors file of 17 MiB, that is of three requests, with the numbers 0, 1, 2 and so on modulo 251.
fn weights() -> Vec<u8> {
    let header = br#"{"w":{"dtype":"U8","shape":[17825792],"data_offsets":[0,17825792]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend((0..17 * MIB).map(|at| (at % 251) as u8));
    bytes
}

fn bucket() -> FakeS3 {
    FakeS3::default()
        .object("models/llama/config.json", b"{}")
        .object("models/llama/chat_template.jinja", b"a template")
        .object(KEY, &weights())
}

fn begin(model: &S3Model, streams: bool) -> Result<Coming, ManagerError> {
    match super::begin(model, streams, &|_, _| ())? {
        Place::Coming(coming) => Ok(coming),
        Place::Here(dir) => panic!("all is in {} already", dir.display()),
    }
}

fn part(bytes: Range<usize>) -> Part {
    Part {
        file: NAME.into(),
        bytes: bytes.start as u64..bytes.end as u64,
    }
}

fn read(numbers: &dyn Numbers, range: Range<usize>) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; range.len()];
    numbers.read(&part(range), &mut bytes, &|| ())?;
    Ok(bytes)
}

/// Requests for the file, but for the first, which is for its header.
fn requests(server: &RunningS3) -> Vec<(usize, usize)> {
    let requests = server.requests().into_iter();
    let parts = requests.filter(|request| request.path.ends_with(NAME));
    parts.filter_map(|request| request.range).skip(1).collect()
}

#[test]
fn what_has_arrived_is_read_while_the_rest_is_on_its_way() {
    let gate = Gate::default();
    let server = bucket().wait_behind(8 * MIB, &gate).start().unwrap();
    let cache = TempDir::new().unwrap();
    let model = signed(&server.endpoint(), cache.path());
    let coming = begin(&model, false).unwrap();
    let headers = coming.headers().to_owned();
    assert_eq!(
        std::fs::read(headers.join("chat_template.jinja")).unwrap(),
        b"a template"
    );
    let numbers = coming.numbers();
    assert_eq!(read(&*numbers, 100..5000).unwrap(), weights()[100..5000]);
    let (tell, told) = mpsc::channel();
    let waiting = Arc::clone(&numbers);
    let waiting = std::thread::spawn(move || {
        let mut bytes = vec![0; 200];
        let part = part(8 * MIB - 100..8 * MIB + 100);
        let alive = || tell.send(()).unwrap();
        waiting.read(&part, &mut bytes, &alive).map(|()| bytes)
    });
    // It waits, and says now and then that it does.
    told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(!waiting.is_finished());
    gate.open();
    let bytes = waiting.join().unwrap().unwrap();
    assert_eq!(bytes, weights()[8 * MIB - 100..8 * MIB + 100]);
    let dir = coming.dir();
    coming.settle();
    assert!(!headers.exists());
    // The next start has them all.
    assert_eq!(snapshot(&model, &|_, _| ()).unwrap(), dir);
    assert!(std::fs::read(dir.join(NAME)).unwrap() == weights());
    assert_eq!(requests(&server).len(), 3);
}

#[test]
fn what_nobody_wants_any_more_is_not_fetched_to_its_end() {
    let gate = Gate::default();
    let server = bucket().wait_behind(8 * MIB, &gate).start().unwrap();
    let cache = TempDir::new().unwrap();
    let model = signed(&server.endpoint(), cache.path());
    let coming = begin(&model, false).unwrap();
    let dir = coming.dir();
    drop(coming);
    gate.open();
    // Whoever comes next waits until the first one has gone, and fetches what it left.
    assert_eq!(snapshot(&model, &|_, _| ()).unwrap(), dir);
    assert!(std::fs::read(dir.join(NAME)).unwrap() == weights());
}

#[test]
fn streams_fetch_each_byte_once_for_all_ranks_and_keep_nothing() {
    let server = bucket().start().unwrap();
    let cache = TempDir::new().unwrap();
    let coming = begin(&signed(&server.endpoint(), cache.path()), true).unwrap();
    let numbers = coming.numbers();
    let (shared, first, second) = (100..9 * MIB, 9 * MIB..10 * MIB, 10 * MIB..11 * MIB);
    for own in [&first, &second] {
        numbers.expect(vec![part(shared.clone()), part(own.clone())]);
    }
    std::thread::scope(|scope| {
        for own in [&first, &second] {
            let (numbers, shared) = (&numbers, shared.clone());
            scope.spawn(move || {
                assert!(read(&**numbers, shared.clone()).unwrap() == weights()[shared]);
                assert!(read(&**numbers, own.clone()).unwrap() == weights()[own.clone()]);
            });
        }
    });
    let mut asked = requests(&server);
    asked.sort_unstable();
    let once = [
        (100, 8 * MIB + 99),
        (8 * MIB + 100, 9 * MIB - 1),
        (9 * MIB, 10 * MIB - 1),
        (10 * MIB, 11 * MIB - 1),
    ];
    assert_eq!(asked, once);
    // What nobody announced comes too, and again what was read before.
    assert_eq!(read(&*numbers, 7..9).unwrap(), weights()[7..9]);
    assert_eq!(read(&*numbers, 7..9).unwrap(), weights()[7..9]);
    assert_eq!(requests(&server).len(), 6);
    assert!(std::fs::read_dir(cache.path()).unwrap().next().is_none());
}

#[test]
fn what_several_read_that_nobody_announced_comes_to_all() {
    let server = bucket().start().unwrap();
    let cache = TempDir::new().unwrap();
    let coming = begin(&signed(&server.endpoint(), cache.path()), true).unwrap();
    let (numbers, all) = (coming.numbers(), weights());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for at in (0..4000).step_by(40) {
                    let range = at..at + 30;
                    assert!(read(&*numbers, range.clone()).unwrap() == all[range]);
                }
            });
        }
    });
}

#[test]
fn who_still_waits_is_told_when_loading_is_given_up() {
    for streams in [false, true] {
        let gate = Gate::default();
        let server = bucket().wait_behind(8 * MIB, &gate).start().unwrap();
        let cache = TempDir::new().unwrap();
        let coming = begin(&signed(&server.endpoint(), cache.path()), streams).unwrap();
        let numbers = coming.numbers();
        let (waits, hears) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let mut bytes = vec![0; MIB];
            let alive = || {
                let _ = waits.send(());
            };
            numbers.read(&part(16 * MIB..17 * MIB), &mut bytes, &alive)
        });
        hears.recv().expect("it waits");
        drop(coming);
        let told = waiting.join().expect("no panic").unwrap_err();
        assert!(told.contains("no longer wanted"), "{told}");
        gate.open();
    }
}

#[test]
fn a_part_that_is_wanted_again_soon_is_kept_and_later_fetched_again() {
    let server = bucket().start().unwrap();
    let cache = TempDir::new().unwrap();
    let coming = begin(&signed(&server.endpoint(), cache.path()), true).unwrap();
    let numbers = coming.numbers();
    let mut list = vec![0..100, 0..100];
    list.extend((1..12).map(|at| at * 100..(at + 1) * 100));
    list.push(0..100);
    numbers.expect(list.iter().cloned().map(part).collect());
    for range in &list {
        assert_eq!(
            read(&*numbers, range.clone()).unwrap(),
            weights()[range.clone()]
        );
    }
    let asked = requests(&server);
    let of_first = asked.iter().filter(|range| range.0 == 0).count();
    assert_eq!((asked.len(), of_first), (13, 2));
}

/// The complaint of who reads, and the one that is told of the model.
fn complaint(bucket: FakeS3, streams: bool, change: impl FnOnce(&RunningS3)) -> (String, String) {
    let gate = Gate::default();
    let server = bucket.wait_behind(8 * MIB, &gate).start().unwrap();
    let cache = TempDir::new().unwrap();
    let coming = begin(&signed(&server.endpoint(), cache.path()), streams).unwrap();
    change(&server);
    gate.open();
    let numbers = coming.numbers();
    let problem = read(&*numbers, 9 * MIB..10 * MIB).unwrap_err();
    let error = coming.cause(ManagerError::Panic);
    assert!(matches!(error, ManagerError::S3(_)), "{error}");
    (problem, error.to_string())
}

#[test]
fn failures_of_s3_in_the_middle_are_told_with_their_cure_in_both_ways() {
    let refused = |status, code| (Failure::Refusal(status, code), code);
    for streams in [false, true] {
        // Only what comes behind the header fails.
        for ((failure, says), cure) in [
            (refused("403 Forbidden", "AccessDenied"), "s3:GetObject"),
            (refused("404 Not Found", "NoSuchKey"), "removed meanwhile"),
            (refused("503 Slow Down", "SlowDown"), "try again later"),
            (
                (Failure::Cut(1000), "fetching model.safetensors"),
                "check the way to S3",
            ),
        ] {
            let bucket = bucket().fault_behind(8 * MIB, failure);
            let (problem, error) = complaint(bucket, streams, |_| ());
            assert!(problem.contains(says), "{problem}");
            assert!(error.contains(says) && error.contains(cure), "{error}");
        }
        let (problem, error) = complaint(bucket(), streams, |server| {
            server.put(KEY, Some(b"another file"));
        });
        assert!(
            problem.contains("has changed while it was fetched"),
            "{problem}"
        );
        assert!(
            error.contains("start again when nobody writes there"),
            "{error}"
        );
    }
}

#[test]
fn busy_services_are_asked_again_in_the_middle() {
    let busy = Failure::Refusal("503 Slow Down", "SlowDown");
    for streams in [false, true] {
        let gate = Gate::default();
        gate.open();
        let bucket = bucket().wait_behind(0, &gate).fault("safetensors", 3, busy);
        let bucket = bucket.fault("safetensors", 2, Failure::Cut(70));
        let server = bucket.start().unwrap();
        let cache = TempDir::new().unwrap();
        let coming = begin(&signed(&server.endpoint(), cache.path()), streams).unwrap();
        let numbers = coming.numbers();
        assert!(read(&*numbers, 0..10 * MIB).unwrap() == weights()[..10 * MIB]);
    }
}
