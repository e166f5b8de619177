//! The memory of this machine, shared out among models: what was planned for those that are there is
//! taken, though they may not have touched it yet.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sconce_config::PythonSettings;

use crate::error::ManagerError;

/// What all models share.
pub(crate) struct Memory {
    /// What was there before the first of them; `None`: the system does not tell.
    whole: Option<u64>,
    /// What was promised to those that are there.
    promised: Mutex<u64>,
    /// Whether somebody plans and loads: two plans at the same time would share out the same bytes.
    is_planning: Mutex<bool>,
    planned: Condvar,
}

/// The only one who plans, until it is dropped.
struct Turn(Arc<Memory>);

impl Drop for Turn {
    fn drop(&mut self) {
        let planning = self.0.is_planning.lock();
        *planning.unwrap_or_else(PoisonError::into_inner) = false;
        self.0.planned.notify_one();
    }
}

/// Hears what a model takes as soon as it has planned.
pub(crate) type Planned = Box<dyn FnOnce(u64) + Send>;

/// Bytes that were promised to a model, until it gives them back or this is dropped.
pub(crate) struct Promise {
    memory: Arc<Memory>,
    bytes: AtomicU64,
}

impl Memory {
    /// Measures the machine.
    pub(crate) fn measure() -> Arc<Self> {
        Arc::new(Self {
            whole: sconce_engine::available_memory(),
            promised: Mutex::default(),
            is_planning: Mutex::default(),
            planned: Condvar::new(),
        })
    }

    /// Bytes that the next model may take; `None`: nobody can tell.
    pub(crate) fn left(&self) -> Option<u64> {
        let promised = *self.lock();
        self.whole.map(|whole| whole.saturating_sub(promised))
    }

    /// Loads a model that plans: it is told what is left, and says what it takes.
    pub(crate) fn promise<T, E>(
        self: &Arc<Self>,
        load: impl FnOnce(Option<u64>) -> Result<(T, u64), E>,
    ) -> Result<(T, Promise), E> {
        let _turn = self.turn();
        let (loaded, bytes) = load(self.left())?;
        Ok((loaded, self.grant(bytes)))
    }

    /// The same for a model whose weights are still on their way: others have their turn once it has planned.
    pub(crate) fn promise_early<T, E>(
        self: &Arc<Self>,
        load: impl FnOnce(Option<u64>, Planned) -> Result<T, E>,
    ) -> Result<(T, Promise), E> {
        let turn = self.turn();
        let left = self.left();
        let promise: Arc<Mutex<Option<Promise>>> = Arc::default();
        let (memory, promised) = (Arc::clone(self), Arc::clone(&promise));
        let planned = move |bytes| {
            let mut promised = promised.lock().unwrap_or_else(PoisonError::into_inner);
            *promised = Some(memory.grant(bytes));
            drop(turn);
        };
        let loaded = load(left, Box::new(planned))?;
        let promise = promise
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Ok((loaded, promise.unwrap_or_else(|| self.grant(0))))
    }

    /// Waits until nobody else plans.
    fn turn(self: &Arc<Self>) -> Turn {
        let planning = self
            .is_planning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self.planned.wait_while(planning, |planning| *planning);
        *waited.unwrap_or_else(PoisonError::into_inner) = true;
        Turn(Arc::clone(self))
    }

    /// Promises what somebody needs before any of it is touched, if it is left beside what stays free. Who can name nothing
    /// does not wait for others that plan.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        need: Option<u64>,
        spare: u64,
    ) -> Result<Promise, ManagerError> {
        let Some(needed) = need else {
            return Ok(self.grant(0));
        };
        let _turn = self.turn();
        let now = sconce_engine::available_memory();
        match now.into_iter().chain(self.left()).min() {
            Some(left) if left.saturating_sub(spare) < needed => Err(ManagerError::NoMemory {
                needed,
                left,
                spare,
            }),
            _ => Ok(self.grant(needed)),
        }
    }

    /// Promises so many bytes, whether they are left or not.
    pub(crate) fn grant(self: &Arc<Self>, bytes: u64) -> Promise {
        *self.lock() += bytes;
        Promise {
            memory: Arc::clone(self),
            bytes: AtomicU64::new(bytes),
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promise {
    /// How many bytes it is about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Gives them back.
    pub(crate) fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::SeqCst);
        let mut promised = self.memory.lock();
        *promised = promised.saturating_sub(bytes);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.release();
    }
}

/// What a model in Python needs: what its configuration asks for, or in a container of many models what DJL Serving takes
/// it to be, the size of its files and a fifth more. `None`: nobody says.
pub(crate) fn needed(python: &PythonSettings, multi_model: bool, files: &[&Path]) -> Option<u64> {
    let of_files = || {
        let mut counted = HashSet::new();
        let sizes = files.iter().map(|dir| size(dir, &mut counted));
        multi_model.then(|| sizes.sum::<u64>() / 5 * 6)
    };
    let said = python.required_memory.filter(|bytes| *bytes > 0);
    said.or_else(of_files)
}

/// The bytes of all files below a directory. Links are followed, as what a hub fetched is kept elsewhere and linked to;
/// what is `counted` counts no more.
fn size(dir: &Path, counted: &mut HashSet<(u64, u64)>) -> u64 {
    let items = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut bytes = 0;
    for item in items {
        // A link to nowhere has no bytes.
        let Ok(file) = fs::metadata(item.path()) else {
            continue;
        };
        if !counted.insert((file.dev(), file.ino())) {
            continue;
        }
        bytes += match file.is_dir() {
            true => size(&item.path(), counted),
            false => file.len(),
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(whole: u64) -> Arc<Memory> {
        Arc::new(Memory {
            whole: Some(whole),
            promised: Mutex::default(),
            is_planning: Mutex::default(),
            planned: Condvar::new(),
        })
    }

    #[test]
    fn what_was_promised_is_not_left_until_it_is_given_back() {
        let memory = of(100);
        let take = |bytes| memory.promise(|left| Ok::<_, ()>((left, bytes))).unwrap();
        let (left, first) = take(30);
        assert_eq!(left, Some(100));
        let (left, second) = take(300);
        assert_eq!(left, Some(70));
        assert_eq!(memory.left(), Some(0));
        second.release();
        assert_eq!((memory.left(), second.bytes()), (Some(70), 0));
        drop(second);
        assert_eq!((memory.left(), first.bytes()), (Some(70), 30));
        drop(first);
        assert_eq!(memory.left(), Some(100));
        assert!(memory.promise(|_| Err::<((), u64), _>("no")).is_err());
        assert_eq!(memory.left(), Some(100));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_all_numbers() {
        let memory = of(10);
        let promise = memory.reserve(Some(3), 7).unwrap();
        assert_eq!((promise.bytes(), memory.left()), (3, Some(7)));
        drop(promise);
        let refused = memory.reserve(Some(4), 7).err().unwrap();
        assert_eq!(refused.missing_memory(), Some(1));
        let told = refused.to_string();
        assert!(
            told.contains("about 4 bytes and 10 are left, of which 7"),
            "{told}"
        );
        assert_eq!(of(0).reserve(None, 7).unwrap().bytes(), 0);
    }

    #[test]
    fn of_two_that_come_together_the_second_finds_less() {
        let memory = of(10);
        let come = || {
            let memory = Arc::clone(&memory);
            std::thread::spawn(move || memory.reserve(Some(6), 0))
        };
        let both = [come(), come()].map(|one| one.join().unwrap());
        assert_eq!(both.iter().filter(|promise| promise.is_ok()).count(), 1);
    }

    #[test]
    fn who_needs_nothing_that_is_named_does_not_wait_for_one_that_plans() {
        let memory = of(10);
        let loaded = memory.promise(|_| {
            let promise = memory.reserve(None, 0).unwrap();
            Ok::<_, ()>((promise.bytes(), 1))
        });
        assert_eq!(loaded.unwrap().0, 0);
    }

    #[test]
    fn among_many_models_the_files_say_what_one_needs() {
        let (code, weights) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(code.path().join("model.py"), [0; 200]).unwrap();
        fs::write(weights.path().join("weights"), [0; 800]).unwrap();
        let files = [code.path(), weights.path()];
        let mut python = PythonSettings::default();
        assert_eq!(needed(&python, true, &files), Some(1200));
        assert_eq!(needed(&python, false, &files), None);
        python.required_memory = Some(7);
        assert_eq!(needed(&python, true, &files), Some(7));
    }

    #[test]
    fn files_of_folders_count_once_and_so_does_what_is_linked_to() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (blob, snapshot) = (elsewhere.path().join("blob"), dir.path().join("snapshot"));
        fs::create_dir(&snapshot).unwrap();
        fs::write(dir.path().join("a"), [0; 10]).unwrap();
        fs::write(snapshot.join("b"), [0; 5]).unwrap();
        fs::write(&blob, [0; 100]).unwrap();
        symlink(&blob, snapshot.join("weights")).unwrap();
        symlink(&blob, snapshot.join("again")).unwrap();
        symlink(dir.path().join("nowhere"), snapshot.join("broken")).unwrap();
        symlink(dir.path(), snapshot.join("loop")).unwrap();
        assert_eq!(size(dir.path(), &mut HashSet::new()), 115);
    }
}
