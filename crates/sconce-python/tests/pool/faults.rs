//! Everything that a handler can do to its process. Each ends in a failure with a name, the process
//! is started again, and another model never notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sconce_core::{Backend, ServeError};
use sconce_python::Pool;

use crate::support::{Model, ask, body, python, recovers, says, submit, text};

const HOSTILE: &str = r#"
import os, signal, sys, time
from djl_python import Output

def broken_stream():
    yield "a"
    os._exit(9)

def handle(inputs):
    if inputs.is_empty():
        return None
    what = inputs.get_as_string()
    if what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "exit":
        os._exit(3)
    elif what == "sys.exit":
        sys.exit("that was all")
    elif what == "loop":
        while True:
            pass
    elif what == "flood":
        line = "x" * 1023 + "\n"
        for _ in range(64 * 1024):
            sys.stdout.write(line)
    elif what == "one endless line":
        for _ in range(256):
            sys.stdout.write("y" * (1 << 20))
    elif what == "memory":
        hoard = [bytearray(64 << 20) for _ in range(64)]
    elif what == "stream and die":
        return Output().add_stream_content(broken_stream(), None)
    elif what == "child":
        if os.fork() == 0:
            time.sleep(600)
        os._exit(4)
    elif what == "close":
        os.closerange(3, 64)
    return Output().add("ok " + what)
"#;

/// On an idle machine a worker is back after a third of a second; a busy one is given more.
const SOON: Duration = Duration::from_secs(8);

fn lost(pool: &Pool, what: &str) -> String {
    match ask(pool, what) {
        Err(ServeError::WorkerLost { model, cause }) => {
            assert_eq!(model, "m");
            cause
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_death_has_a_name_and_the_next_request_an_answer() {
    if !python() {
        return;
    }
    let model = Model::new(HOSTILE);
    let pool = model.pool();
    let cases = [
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
        ("exit", "ended with exit code 3"),
        ("sys.exit", "ended with exit code 1"),
        ("stream and die", "ended with exit code 9"),
        // The grandchild holds the socket open; it is ended with the rest.
        ("child", "ended with exit code 4"),
        ("close", "ended with exit code"),
    ];
    for (what, wanted) in cases {
        says(&lost(&pool, what), &[wanted]);
        let took = recovers(&pool, "x");
        assert!(took < SOON, "{what}: {took:?}");
        assert_eq!(pool.failure(), None);
    }
}

#[test]
fn an_endless_loop_is_ended_at_the_time_limit() {
    if !python() {
        return;
    }
    let mut model = Model::new(HOSTILE);
    model.settings.predict_timeout = Duration::from_secs(1);
    let pool = model.pool();
    let began = Instant::now();
    let error = ask(&pool, "loop").unwrap_err();
    assert_eq!(error, ServeError::Timeout { seconds: 1 });
    assert!(began.elapsed() < Duration::from_secs(5));
    let took = recovers(&pool, "x");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_flood_of_output_stops_nobody() {
    if !python() {
        return;
    }
    let model = Model::new(HOSTILE);
    let pool = model.pool();
    for what in ["flood", "one endless line"] {
        assert_eq!(text(ask(&pool, what)), format!("ok {what}"));
    }
}

#[test]
fn memory_beyond_the_limit_is_an_answer() {
    if !python() {
        return;
    }
    let mut model = Model::new(HOSTILE);
    model.settings.workers.memory_limit = Some(1 << 30);
    let pool = model.pool();
    assert_eq!(ask(&pool, "memory").unwrap().head.code, 507);
    assert_eq!(text(ask(&pool, "x")), "ok x");
}

#[test]
fn a_process_that_ends_between_requests_is_started_again() {
    if !python() {
        return;
    }
    let model = Model::new(
        "import os, threading\nfrom djl_python import Output\n\
         def handle(inputs):\n    \
         if inputs.is_empty():\n        return None\n    \
         if inputs.get_as_string() == 'soon':\n        \
         threading.Timer(0.1, os._exit, [5]).start()\n    \
         return Output().add(str(os.getpid()))\n",
    );
    let pool = model.pool();
    let first = text(ask(&pool, "soon"));
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        if let Ok(answer) = ask(&pool, "who")
            && answer.body != first
        {
            break;
        }
        assert!(Instant::now() < until, "it is still process {first}");
    }
}

#[test]
fn more_failures_than_the_threshold_are_the_model_s() {
    if !python() {
        return;
    }
    let mut model = Model::new(HOSTILE);
    model.settings.workers.retry_threshold = Some(1);
    let pool = model.pool();
    lost(&pool, "exit");
    recovers(&pool, "x");
    lost(&pool, "exit");
    let until = Instant::now() + Duration::from_secs(10);
    while pool.failure().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let failure = pool.failure().expect("it has failed");
    says(
        &failure,
        &["2 failures", "retry_threshold = 1", "exit code 3"],
    );
    let Err(ServeError::NotReady { phase, .. }) = ask(&pool, "x") else {
        panic!("it takes nothing more")
    };
    says(&phase, &["failed: 2 failures"]);
}

#[test]
fn a_model_that_no_longer_starts_has_failed_until_it_does() {
    if !python() {
        return;
    }
    let model = Model::new(
        "import os\nfrom djl_python import Output\n\
         if os.path.exists('broken'):\n    raise RuntimeError('the weights are gone')\n\
         def handle(inputs):\n    \
         if inputs.is_empty():\n        return None\n    \
         if inputs.get_as_string() == 'exit':\n        os._exit(1)\n    \
         return Output().add('ok')\n",
    );
    let pool = model.pool();
    std::fs::write(model.path("broken"), "").unwrap();
    lost(&pool, "exit");
    // Whoever waits now is told the cause once it is clear that the model does not come back.
    let Err(ServeError::NotReady { phase, .. }) = ask(&pool, "x") else {
        panic!("it cannot answer")
    };
    says(&phase, &["RuntimeError: the weights are gone"]);
    says(&pool.failure().unwrap(), &["the weights are gone"]);
    std::fs::remove_file(model.path("broken")).unwrap();
    recovers(&pool, "x");
    assert_eq!(pool.failure(), None);
}

#[test]
fn another_model_never_notices() {
    if !python() {
        return;
    }
    let (hostile, quiet) = (Model::new(HOSTILE), Model::new(HOSTILE));
    let (hostile, quiet) = (hostile.pool(), quiet.pool());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let answers = scope.spawn(|| {
            let mut answers = 0;
            while !done.load(Ordering::SeqCst) {
                assert_eq!(text(ask(&quiet, "q")), "ok q");
                answers += 1;
            }
            answers
        });
        for what in ["segfault", "exit", "flood", "sys.exit", "child"] {
            let _ = ask(&hostile, what);
        }
        done.store(true, Ordering::SeqCst);
        assert!(answers.join().unwrap() > 10);
    });
}

#[test]
fn stopping_ends_workers_that_never_would() {
    if !python() {
        return;
    }
    let model = Model::new(HOSTILE);
    let pool = model.pool();
    let busy = submit(&pool, body("loop")).unwrap();
    let waits = submit(&pool, body("x")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    pool.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    for asked in [busy, waits] {
        assert_eq!(asked.answer().unwrap_err(), ServeError::Draining);
    }
    assert_eq!(ask(&pool, "x").unwrap_err(), ServeError::Draining);
}
