//! How many workers there are, and how full the queue may be.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sconce_core::{Backend, ServeError};

use crate::support::{Model, body, python, rests, submit, text};

const WHO: &str = r#"
import os, time
from djl_python import Output

def handle(inputs):
    if inputs.is_empty():
        open(f"started-{os.getpid()}", "w").close()
        return None
    time.sleep(float(inputs.get_as_string()))
    return Output().add(str(os.getpid()))
"#;

fn started(model: &Model) -> usize {
    let names = std::fs::read_dir(&model.settings.dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("started-")).count()
}

#[test]
fn all_least_workers_are_up_and_share_the_work() {
    if !python() {
        return;
    }
    for parallel in [false, true] {
        let mut model = Model::new(WHO);
        model.settings.workers.min = 2;
        model.settings.workers.max = 2;
        model.settings.workers.parallel_loading = parallel;
        let pool = model.pool();
        assert_eq!(started(&model), 2);
        let asked: Vec<_> = (0..2)
            .map(|_| submit(&pool, body("0.5")).unwrap())
            .collect();
        let who: HashSet<_> = asked.iter().map(|asked| text(asked.answer())).collect();
        assert_eq!(who.len(), 2);
    }
}

#[test]
fn a_crowd_brings_workers_and_idleness_ends_them() {
    if !python() {
        return;
    }
    let mut model = Model::new(WHO);
    model.settings.workers.max = 3;
    model.settings.workers.max_idle = Duration::from_millis(300);
    let pool = model.pool();
    let asked: Vec<_> = (0..12)
        .map(|_| submit(&pool, body("0.3")).unwrap())
        .collect();
    let who: HashSet<_> = asked.iter().map(|asked| text(asked.answer())).collect();
    assert!((2..=3).contains(&who.len()), "{who:?}");
    let until = Instant::now() + Duration::from_secs(20);
    let alive = || {
        who.iter()
            .filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
            .count()
    };
    while alive() > 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(alive(), 1);
    assert!(who.contains(&text(submit(&pool, body("0")).unwrap().answer())));
}

#[test]
fn a_full_queue_refuses_at_once() {
    if !python() {
        return;
    }
    let mut model = Model::new(WHO);
    model.settings.queue = 2;
    let pool = model.pool();
    let busy = submit(&pool, body("3")).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while pool.load().running == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waiting: Vec<_> = (0..2).map(|_| submit(&pool, body("0")).unwrap()).collect();
    let refused = submit(&pool, body("0")).err();
    let full = ServeError::QueueFull {
        model: "m".into(),
        limit: 2,
    };
    assert_eq!(refused, Some(full));
    assert_eq!((pool.load().running, pool.load().queued), (1, 2));
    for asked in waiting.iter().chain([&busy]) {
        text(asked.answer());
    }
    rests(&pool);
}

#[test]
fn a_request_whose_client_has_left_is_not_computed() {
    if !python() {
        return;
    }
    let model = Model::new(
        "from djl_python import Output\nimport time\n\
         def handle(inputs):\n    \
         if inputs.is_empty():\n        return None\n    \
         open(inputs.get_as_string(), 'w').close()\n    time.sleep(0.3)\n    \
         return Output().add('ok')\n",
    );
    let pool = model.pool();
    let first = submit(&pool, body("first")).unwrap();
    let second = submit(&pool, body("second")).unwrap();
    let third = submit(&pool, body("third")).unwrap();
    second.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    text(first.answer());
    text(third.answer());
    assert!(model.path("third").exists() && !model.path("second").exists());
}
