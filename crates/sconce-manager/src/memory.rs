//! The memory of this machine, shared out among models: what was planned for those that are there is
//! taken, though they may not have touched it yet.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sconce_config::PythonSettings;

use crate::error::ManagerError;

/// What all models share.
pub(crate) struct Memory {
    /// What was there before the first of them; `None`: the system does not tell.
    whole: Option<u64>,
    /// What was promised to those that are there.
    promised: Mutex<u64>,
    /// Held by whoever plans and loads: two plans at the same time would share out the same bytes.
    turn: Mutex<()>,
}

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
            turn: Mutex::default(),
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
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (loaded, bytes) = load(self.left())?;
        Ok((loaded, self.grant(bytes)))
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
/// it to be, the size of its files and a fifth more. Fails where that is not left.
pub(crate) fn require(
    python: &PythonSettings,
    multi_model: bool,
    left: Option<u64>,
) -> Result<u64, ManagerError> {
    let of_files = || multi_model.then(|| size(&python.dir) / 5 * 6);
    let said = python.required_memory.filter(|bytes| *bytes > 0);
    let needed = said.or_else(of_files);
    let spare = python.reserved_memory;
    let now = sconce_engine::available_memory();
    match (needed, now.into_iter().chain(left).min()) {
        (Some(needed), Some(left)) if left.saturating_sub(spare) < needed => {
            Err(ManagerError::NoMemory {
                needed,
                left,
                spare,
            })
        }
        (needed, _) => Ok(needed.unwrap_or(0)),
    }
}

fn size(dir: &Path) -> u64 {
    let items = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |item: fs::DirEntry| match item.metadata() {
        Ok(file) if file.is_dir() => size(&item.path()),
        Ok(file) => file.len(),
        Err(_) => 0,
    };
    items.map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_is_not_left_until_it_is_given_back() {
        let memory = Arc::new(Memory {
            whole: Some(100),
            promised: Mutex::default(),
            turn: Mutex::default(),
        });
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
        let asks = |required, reserved| {
            let mut python = PythonSettings::default();
            python.required_memory = required;
            python.reserved_memory = reserved;
            python
        };
        assert_eq!(require(&asks(Some(3), 7), false, Some(10)).unwrap(), 3);
        let refused = require(&asks(Some(4), 7), false, Some(10)).unwrap_err();
        assert_eq!(refused.missing_memory(), Some(1));
        let told = refused.to_string();
        assert!(
            told.contains("about 4 bytes and 10 are left, of which 7"),
            "{told}"
        );
        assert_eq!(require(&asks(None, 7), false, Some(0)).unwrap(), 0);
    }

    #[test]
    fn among_many_models_the_files_say_what_one_needs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("weights"), [0; 1000]).unwrap();
        let mut python = PythonSettings::default();
        python.dir = dir.path().into();
        assert_eq!(require(&python, true, Some(1200)).unwrap(), 1200);
        assert_eq!(require(&python, false, Some(1199)).unwrap(), 0);
        let told = require(&python, true, Some(1199)).unwrap_err().to_string();
        assert!(
            told.contains("about 1200 bytes and 1199 are left"),
            "{told}"
        );
    }

    #[test]
    fn files_of_folders_count_too() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), [0; 10]).unwrap();
        fs::write(dir.path().join("sub/b"), [0; 5]).unwrap();
        assert_eq!(size(dir.path()), 15);
    }
}
