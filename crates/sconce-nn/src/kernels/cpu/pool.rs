//! The one pool of worker threads for all kernels of the process.
//!
//! A call of [`run`] costs a fraction of a microsecond while the workers are hot: they spin for some tens of
//! microseconds after each call before they sleep. Two calls never run at the same time, because two spinning pools on
//! the same cores destroy each other: the second caller waits. What the tasks compute must not depend on who runs them.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod door;

use parking_lot::{Condvar, Mutex};

use crate::pulse;
use door::Door;

/// How long a worker looks for the next call before it sleeps.
const SPIN: Duration = Duration::from_micros(40);

/// Rounds of spinning between two looks at the clock, or before the processor is given away.
const SPIN_ROUNDS: usize = 64;

/// Sets the number of threads that compute, the caller of [`run`] included; 0 stands for one per processor.
///
/// Workers start with the first call of [`run`]. Waits for a call of [`run`] that is under way.
pub fn configure(threads: usize) {
    let mut pool = POOL.lock();
    let threads = if threads == 0 { processors() } else { threads };
    THREADS.store(threads, Ordering::Relaxed);
    if pool.as_ref().is_some_and(|pool| pool.threads != threads) {
        // Dropping the pool ends its workers.
        *pool = None;
    }
}

/// The number of threads that compute, the caller of [`run`] included.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => processors(),
        threads => threads,
    }
}

/// Calls `task` once with each of `0..tasks`, on all threads of the pool and the caller's, and returns when all are done.
///
/// Inside a task the calls run one after the other in that task's thread.
///
/// # Panics
/// When a task does, with the first task's panic; tasks that have not begun are then left out. The pool stays usable.
pub fn run(tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    if tasks <= 1 || threads() == 1 || IN_TASK.get() {
        for index in 0..tasks {
            task(index);
            pulse::beat();
        }
        return;
    }
    let mut gate = POOL.lock();
    let outcome = gate
        .get_or_insert_with(|| Pool::start(threads()))
        .run(tasks, task);
    drop(gate);
    if let Some(panic) = outcome {
        resume_unwind(panic);
    }
}

/// The pool, once it was used; its lock is held during every call, which makes it the gate. That of the standard library
/// goes to who comes first: beside a model that calls all the time, another waits for seconds. This one is handed on to who
/// waits, about every half millisecond.
static POOL: Mutex<Option<Pool>> = parking_lot::const_mutex(None);

/// What was configured; 0 before.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

type Panic = Box<dyn Any + Send>;

fn processors() -> usize {
    static PROCESSORS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

struct Pool {
    /// As configured; fewer may run when the system refused to start some.
    threads: usize,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    door: Door,
    /// Next task to hand out.
    next: AtomicUsize,
    /// First panic of a task in this call.
    panic: Mutex<Option<Panic>>,
    stop: AtomicBool,
    /// Workers that sleep or are about to.
    sleeping: AtomicUsize,
    bed: Mutex<()>,
    alarm: Condvar,
}

impl Pool {
    fn start(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            door: Door::new(),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("kernel-{index}"));
            // A machine that refuses threads computes with those it gave.
            builder.spawn(move || shared.work()).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Self {
            threads,
            shared,
            workers,
        }
    }

    fn run(&mut self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Option<Panic> {
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        // SAFETY: `close` below returns after every worker has left, and nothing in between unwinds, so no worker
        // uses `task` after this function.
        unsafe { shared.door.open(tasks, task) };
        shared.wake();
        shared.drain(tasks, task);
        shared.door.close();
        shared.panic.lock().take()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // Workers catch the panics of tasks and have none of their own.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self) {
        let mut last = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let visit = self.door.enter(last);
            match visit {
                Some(visit) => {
                    last = visit.call();
                    self.drain(visit.tasks(), visit.task());
                }
                None => self.wait(last),
            }
        }
    }

    /// Runs tasks until none is left.
    fn drain(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        IN_TASK.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    return;
                }
                task(index);
                pulse::beat();
            }
        }));
        IN_TASK.set(false);
        if let Err(panic) = outcome {
            self.next.store(tasks, Ordering::Relaxed);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// Spins, then sleeps, until there is a call after `last` or the pool ends.
    fn wait(&self, last: usize) {
        let began = Instant::now();
        while began.elapsed() < SPIN {
            for _ in 0..SPIN_ROUNDS {
                if self.is_wanted(last) {
                    return;
                }
                spin_loop();
            }
        }
        let mut bed = self.bed.lock();
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        // Asked again after `sleeping` is visible: a caller that opened the door before has not seen it.
        while !self.is_wanted(last) {
            self.alarm.wait(&mut bed);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }

    fn is_wanted(&self, last: usize) -> bool {
        self.door.is_open_after(last) || self.stop.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            // Taken, so that no worker is between its last look and its sleep.
            let _bed = self.bed.lock();
            self.alarm.notify_all();
        }
    }
}

/// Configures the pool until the guard is dropped: tests of one process share it, so they take turns.
#[cfg(test)]
pub(crate) fn turn(threads: usize) -> parking_lot::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = parking_lot::const_mutex(());
    let turn = TURN.lock();
    configure(threads);
    turn
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn counts(tasks: usize) -> Vec<AtomicU32> {
        (0..tasks).map(|_| AtomicU32::new(0)).collect()
    }

    fn all_one(counts: &[AtomicU32]) -> bool {
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1)
    }

    #[test]
    fn every_task_runs_once_for_any_number_of_threads_and_after_sleep() {
        let _turn = turn(0);
        for threads in [1, 2, 5, 3] {
            configure(threads);
            assert_eq!(super::threads(), threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let counts = counts(tasks);
                run(tasks, &|index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(all_one(&counts));
            }
            // Longer than the workers spin.
            std::thread::sleep(SPIN * 20);
        }
        configure(0);
        assert_eq!(super::threads(), processors());
    }

    #[test]
    fn callers_from_several_threads_take_turns() {
        let _turn = turn(3);
        let inside = counts(4);
        let call = |caller: usize| {
            for _ in 0..200 {
                run(4, &|_| {
                    inside[caller].fetch_add(1, Ordering::SeqCst);
                    let callers = inside
                        .iter()
                        .filter(|count| count.load(Ordering::SeqCst) > 0)
                        .count();
                    assert_eq!(callers, 1, "tasks of two calls at once");
                    inside[caller].fetch_sub(1, Ordering::SeqCst);
                });
            }
        };
        std::thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn({
                    let call = &call;
                    move || call(caller)
                });
            }
        });
    }

    #[test]
    fn a_panic_of_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let _turn = turn(3);
        for culprit in [0, 5, 63] {
            let outcome =
                catch_unwind(|| run(64, &|index| assert!(index != culprit, "task {index}")));
            let panic = outcome.expect_err("one task panics");
            assert_eq!(
                panic.downcast_ref::<String>().map(String::as_str),
                Some(&*format!("task {culprit}"))
            );
            let counts = counts(64);
            run(64, &|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(all_one(&counts));
        }
    }

    #[test]
    fn a_call_inside_a_task_runs_in_its_thread() {
        let _turn = turn(3);
        let counts = counts(64);
        run(8, &|outer| {
            let thread = std::thread::current().id();
            run(8, &|inner| {
                assert_eq!(std::thread::current().id(), thread);
                counts[outer * 8 + inner].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(all_one(&counts));
    }
}
