//! Which replica gets a job, and what one that fails or stands still changes.

use sconce_core::{Event, Generate, Input, JobId, Reply};

use super::*;

/// A replica that keeps what it is asked.
#[derive(Default)]
struct Fake(Mutex<Now>);

#[derive(Default)]
struct Now {
    load: Load,
    failure: Option<String>,
    asked: usize,
}

impl Fake {
    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.0.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }
}

impl Backend for Fake {
    fn submit(&self, _: Job) -> Result<(), ServeError> {
        self.change(|now| {
            now.asked += 1;
            now.load.queued += 1;
        });
        Ok(())
    }
    fn task(&self) -> Option<Task> {
        Some(Task::TextGeneration)
    }
    fn load(&self) -> Load {
        self.0.lock().unwrap().load
    }
    fn failure(&self) -> Option<String> {
        self.0.lock().unwrap().failure.clone()
    }
    fn stop(&self) {
        self.change(|now| now.failure = Some("stopped".into()));
    }
}

struct Nobody;
impl Reply for Nobody {
    fn send(&mut self, _: Event) -> bool {
        false
    }
    fn gone(&self) -> bool {
        true
    }
}

fn job() -> Job {
    Job {
        id: JobId(1),
        input: Input::Generate(Generate::default()),
        reply: Box::new(Nobody),
        deadline: Instant::now(),
    }
}

fn three() -> (Vec<Arc<Fake>>, Replicas) {
    let fakes: Vec<Arc<Fake>> = (0..3).map(|_| Arc::default()).collect();
    let engines = fakes
        .iter()
        .map(|fake| Arc::clone(fake) as Arc<dyn Backend>);
    let replicas = Replicas::new("m", engines.collect());
    (fakes, replicas)
}

fn asked(fakes: &[Arc<Fake>]) -> Vec<usize> {
    fakes.iter().map(|fake| fake.asked()).collect()
}

#[test]
fn jobs_go_to_whoever_has_least_to_do() {
    let (fakes, replicas) = three();
    for _ in 0..9 {
        replicas.submit(job()).unwrap();
    }
    assert_eq!(asked(&fakes), [3, 3, 3]);
    fakes[1].change(|now| now.load.queued = 0);
    for _ in 0..3 {
        replicas.submit(job()).unwrap();
    }
    assert_eq!(asked(&fakes), [3, 6, 3]);
    assert_eq!(replicas.load().queued, 9);
    // Those who compute count as well.
    fakes[2].change(|now| now.load = Load::default());
    fakes[2].change(|now| now.load.running = 7);
    replicas.submit(job()).unwrap();
    assert_eq!(fakes[2].asked(), 3);
}

#[test]
fn whoever_has_failed_is_left_out_and_all_have_to_fail_for_the_model() {
    let (fakes, replicas) = three();
    let ready = || -> Vec<bool> {
        replicas
            .crew()
            .workers
            .iter()
            .map(|worker| worker.is_ready)
            .collect()
    };
    assert_eq!(ready(), [true; 3]);
    fakes[0].change(|now| now.failure = Some("its GPU is lost".into()));
    for _ in 0..4 {
        replicas.submit(job()).unwrap();
    }
    assert_eq!(asked(&fakes), [0, 2, 2]);
    assert_eq!(
        (ready(), replicas.failure()),
        (vec![false, true, true], None)
    );
    for fake in &fakes[1..] {
        fake.change(|now| now.failure = Some("too".into()));
    }
    assert_eq!(replicas.failure().as_deref(), Some("its GPU is lost"));
    let refused = replicas.submit(job()).unwrap_err();
    assert!(refused.to_string().contains("its GPU is lost"), "{refused}");
}

#[test]
fn whoever_stands_still_waits_until_it_goes_on() {
    let (fakes, replicas) = three();
    let begin = Instant::now();
    fakes[1].change(|now| now.load.works = true);
    let choose = |seconds| {
        replicas
            .choose(begin + Duration::from_secs(seconds))
            .unwrap()
    };
    let chosen = |seconds: [u64; 3]| seconds.map(choose);
    assert!(chosen([0, 1, 2]).contains(&1));
    assert!(!chosen([20, 21, 22]).contains(&1));
    fakes[1].change(|now| now.load.signs = 1);
    assert!(chosen([23, 24, 25]).contains(&1));
    // Where all stand still, somebody has to.
    for fake in &fakes {
        fake.change(|now| now.load.works = true);
    }
    chosen([40, 60, 80]);
    assert_eq!(replicas.crew().workers.len(), 3);
}

#[test]
fn all_are_stopped() {
    let (fakes, replicas) = three();
    replicas.stop();
    assert!(fakes.iter().all(|fake| fake.failure().is_some()));
}
