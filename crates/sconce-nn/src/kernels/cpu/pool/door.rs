//! Lends a borrowed task to workers that may come late or never: they enter while the door is open, and closing it
//! waits for those inside. A worker that sleeps through a call costs the caller nothing.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SPIN_ROUNDS;

/// Low bits of the state: workers inside.
const INSIDE: usize = OPEN - 1;
/// One bit of the state: workers may enter.
const OPEN: usize = 1 << 15;
/// High bits of the state: number of the call. It wraps after 2^48 calls.
const CALL: usize = OPEN << 1;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

pub(super) struct Door {
    state: AtomicUsize,
    /// Written only while the door is closed and nobody is inside.
    job: UnsafeCell<Option<Job>>,
}

#[derive(Clone, Copy)]
struct Job {
    tasks: usize,
    task: *const Task<'static>,
}

// SAFETY: the job is written by the one caller of `open` while no worker is inside, and read by workers inside; the
// state's release and acquire order the two. The task behind the pointer is `Sync`.
unsafe impl Sync for Door {}
// SAFETY: as above; a door owns nothing that is bound to a thread.
unsafe impl Send for Door {}

impl Door {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
        }
    }

    /// Offers a task to the workers.
    ///
    /// # Safety
    /// The caller holds the pool's lock, the door is closed, and `close` is called before `task` ends, whatever happens.
    pub(super) unsafe fn open(&self, tasks: usize, task: &Task<'_>) {
        // SAFETY: only the lifetime changes, and the caller promises to close the door within it.
        let task = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        // SAFETY: the door is closed, so no worker reads the job.
        unsafe { *self.job.get() = Some(Job { tasks, task }) };
        let call = self.state.load(Ordering::Relaxed).wrapping_add(CALL) & !(CALL - 1);
        self.state.store(call | OPEN, Ordering::SeqCst);
    }

    /// Lets nobody in any more and waits for those inside.
    pub(super) fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut rounds = 0;
        while state & INSIDE != 0 {
            rounds += 1;
            // A worker that lost its processor needs ours.
            if rounds % SPIN_ROUNDS == 0 {
                std::thread::yield_now()
            } else {
                spin_loop()
            }
            state = self.state.load(Ordering::Acquire);
        }
    }

    /// Whether a call other than `last` wants workers.
    pub(super) fn is_open_after(&self, last: usize) -> bool {
        let state = self.state.load(Ordering::SeqCst);
        state & OPEN != 0 && state / CALL != last
    }

    /// Goes in, unless the door is closed or the call is `last`.
    pub(super) fn enter(&self, last: usize) -> Option<Visit<'_>> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state & OPEN == 0 || state / CALL == last {
                return None;
            }
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: this worker is counted inside, so the job stays until the visit ends.
        let job = unsafe { *self.job.get() }.expect("an open door has a job");
        Some(Visit {
            door: self,
            call: state / CALL,
            job,
        })
    }
}

/// A worker's stay inside; the task is valid until it ends.
pub(super) struct Visit<'a> {
    door: &'a Door,
    call: usize,
    job: Job,
}

impl Visit<'_> {
    /// Number of the call.
    pub(super) fn call(&self) -> usize {
        self.call
    }

    pub(super) fn tasks(&self) -> usize {
        self.job.tasks
    }

    pub(super) fn task(&self) -> &Task<'_> {
        // SAFETY: `close` waits for this visit, and the task lives until `close` returns.
        unsafe { &*self.job.task }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.door.state.fetch_sub(1, Ordering::Release);
    }
}
