//! The user's own code beside native models: whatever its processes do, the others answer as if it were not there.

use std::fs;
use std::process::Command;

use super::*;
use crate::python_mode::python;

/// Tells its process, and does to it what it is told.
const HOSTILE: &str = r#"
import os, signal, time
from djl_python import Output

open(f"worker-{os.getpid()}", "w").close()

def handle(inputs):
    if inputs.is_empty():
        return None
    what = inputs.get_as_string()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        while True:
            time.sleep(1)
    if what == "flood":
        for _ in range(16 * 1024):
            print("x" * 1023)
    return Output().add("own " + what)
"#;

/// The processes that a folder's code says it ran in, and that still run.
fn workers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().flatten();
    let pids = names.filter_map(|item| {
        let name = item.file_name().into_string().ok()?;
        Some(name.strip_prefix("worker-")?.to_owned())
    });
    let lives = |pid: &String| {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    pids.filter(lives).collect()
}

#[test]
fn a_worker_that_dies_hangs_or_floods_leaves_a_native_model_as_it_is() {
    if !python() {
        return;
    }
    let host = Host::empty(&[]);
    let native = host.folder("llama", "native", ROLLING);
    host.registered("native", &native, "");
    let own = host.code("own", HOSTILE, "option.predict_timeout=3\n");
    host.registered("own", &own, "");
    let run = known("llama");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = Over(&done);
        let asking: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !done.load(SeqCst) {
                        answers(&host.client, "/predictions/native", &run);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let ask = |what: &str| {
            host.client
                .post_bytes("/predictions/own", &[], what.as_bytes())
                .unwrap()
        };
        for (what, told) in [
            ("kill", "killed by signal 9"),
            ("segfault", "killed by signal 11"),
            ("exit", "exit code 3"),
            ("hang", "predict_timeout"),
        ] {
            let lost = ask(what);
            assert_eq!(lost.status, 503, "{what}: {}", lost.text());
            assert!(lost.text().contains(told), "{what}: {}", lost.text());
            // A request that comes now waits for the next process: nobody is refused meanwhile.
            let next = ask("again");
            assert_eq!((next.status, next.text()), (200, "own again".into()));
        }
        let flooded = ask("flood");
        assert_eq!(flooded.text(), "own flood");
        assert_eq!(host.ping().0, 200);
        drop(over);
        for client in asking {
            assert!(client.join().unwrap() > 0);
        }
    });
    assert!(!workers(&own).is_empty());
    assert_eq!(host.delete("own").status, 200);
    assert_eq!(workers(&own), [""; 0], "they end before it has gone");
    answers(&host.client, "/predictions/native", &run);
}

#[test]
fn unloading_ends_a_worker_that_never_would() {
    if !python() {
        return;
    }
    let host = Host::empty(&[]);
    let own = host.code("own", HOSTILE, "option.predict_timeout=2\n");
    host.registered("own", &own, "");
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| {
            host.client
                .post_bytes("/predictions/own", &[], b"hang")
                .unwrap()
        });
        until("it is at it", || {
            let described = host.client.get("/models/own").unwrap().json().unwrap();
            described[0]["models"][0]["requestRunning"] == 1
        });
        assert_eq!(host.delete("own").status, 200);
        assert_eq!(hanging.join().unwrap().status, 503);
    });
    assert_eq!(workers(&own), [""; 0]);
}

#[test]
fn workers_are_added_and_taken_away() {
    if !python() {
        return;
    }
    let host = Host::empty(&[]);
    let own = host.code("own", HOSTILE, "minWorkers=1\nmaxWorkers=1\n");
    host.registered("own", &own, "");
    let scale = |min: usize, max: usize| {
        let path = format!("/models/own?min_worker={min}&max_worker={max}");
        let scaled = host.client.request("PUT", &path, &[], b"").unwrap();
        let told = format!("min workers:{min} max workers:{max}");
        assert!(scaled.text().contains(&told), "{}", scaled.text());
    };
    let ready = || {
        let described = host.client.get("/models/own").unwrap().json().unwrap();
        let group = described[0]["models"][0]["workerGroups"][0].clone();
        let workers = group["workers"].as_array().unwrap().clone();
        workers
            .iter()
            .filter(|one| one["status"] == "READY")
            .count()
    };
    assert_eq!((ready(), workers(&own).len()), (1, 1));
    scale(3, 3);
    until("three are at work", || ready() == 3);
    assert_eq!(workers(&own).len(), 3);
    scale(1, 1);
    until("two have gone", || ready() == 1 && workers(&own).len() == 1);
    let answer = host
        .client
        .post_bytes("/predictions/own", &[], b"still")
        .unwrap();
    assert_eq!(answer.text(), "own still");
    assert_eq!(host.delete("own").status, 200);
    assert_eq!(workers(&own), [""; 0]);
}

#[test]
fn two_seconds_after_its_process_is_killed_a_model_answers_again() {
    if !python() {
        return;
    }
    let host = Host::empty(&[]);
    let own = host.code("own", HOSTILE, "");
    let began = Instant::now();
    host.registered("own", &own, "");
    // A machine that starts slowly restarts slowly: it is the time beyond that which is the server's.
    let bound = Duration::from_secs(2).max(4 * began.elapsed());
    let back = || {
        let killed = workers(&own).pop().expect("a worker");
        let kill = Command::new("kill").args(["-9", &killed]).status();
        assert!(kill.unwrap().success());
        let began = Instant::now();
        until("it answers again", || {
            let answer = host
                .client
                .post_bytes("/predictions/own", &[], b"x")
                .unwrap();
            // Who was let in before the death was noticed is told of it.
            assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
            answer.status == 200 && !workers(&own).contains(&killed)
        });
        began.elapsed()
    };
    // The best of some, since a busy machine may stop any one.
    let best = (0..5).map(|_| back()).min().unwrap();
    assert!(best <= bound, "{best:?} of {bound:?}");
}
