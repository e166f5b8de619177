//! The adapters of one model: which there are, and which of them are in memory.
//!
//! Registered are as many as one likes; in memory are [`Lora::most`] at a time, those used last. A job holds the adapter
//! that it began with, so that one can be removed or replaced while it is in use; until the last such job ends it counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sconce_core::{AdapterInfo, AdapterRefusal, Adapters, ServeError};
use sconce_models::{Adapter, AdapterLoader};
use sconce_nn::weights::StoredDtype;
use tracing::info;

use crate::error::EngineError;

/// How a model takes adapters.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Adapters in memory at the same time.
    pub most: usize,
    /// The greatest rank of one.
    pub max_rank: usize,
    /// What they are kept as; `None`: as the weights are asked for, else as they are stored.
    pub dtype: Option<StoredDtype>,
    /// The folder whose folders are registered from the start; `None`: there is none.
    pub dir: Option<PathBuf>,
    /// The folder of the one that changes the model for requests that name none.
    pub own: Option<PathBuf>,
}

/// An adapter that a job holds.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    /// What tells its keys and values from those of others.
    pub(crate) number: u64,
    pub(crate) adapter: Arc<Adapter>,
}

/// The adapters of a model.
pub(crate) struct AdapterStore {
    loader: AdapterLoader,
    /// The model's folder, in which relative paths are.
    home: PathBuf,
    most: usize,
    state: Mutex<State>,
    /// Held while one is loaded, so that nobody else waits for the disk.
    loading: Mutex<()>,
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, Known>,
    /// All that were loaded and may still be in use.
    alive: Vec<Weak<Adapter>>,
    /// The number of the adapter that was registered last.
    last: u64,
    /// Counts uses.
    clock: u64,
}

struct Known {
    info: AdapterInfo,
    number: u64,
    loaded: Option<Arc<Adapter>>,
    used: u64,
}

impl Lent {
    /// The model's own adapter, in this folder.
    pub(crate) fn own(loader: &AdapterLoader, dir: &Path) -> Result<Self, EngineError> {
        let adapter = loader.load(dir).map_err(|error| {
            EngineError::Adapter(AdapterRefusal::Unusable {
                name: dir.display().to_string(),
                cause: error.to_string(),
            })
        })?;
        info!(
            "every request has the adapter of rank {} in {}: {:.1} MiB",
            adapter.rank,
            dir.display(),
            adapter.bytes as f64 / f64::from(1 << 20),
        );
        // Those that are registered have numbers from 1 on.
        Ok(Self {
            number: u64::MAX,
            adapter: Arc::new(adapter),
        })
    }
}

impl AdapterStore {
    pub(crate) fn new(loader: AdapterLoader, home: PathBuf, most: usize) -> Self {
        Self {
            loader,
            home,
            most,
            state: Mutex::default(),
            loading: Mutex::default(),
        }
    }

    /// Registers the folders in a folder by their names. As many are loaded as memory is planned for.
    pub(crate) fn register_all(&self, dir: &PathBuf) -> Result<(), EngineError> {
        let unreadable = |source| EngineError::System {
            what: "listing the folder of adapters",
            source,
        };
        let mut folders = Vec::new();
        match std::fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(unreadable)?.path();
                    if path.is_dir() {
                        folders.push(path);
                    }
                }
            }
        }
        folders.sort();
        for (at, folder) in folders.into_iter().enumerate() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let adapter = AdapterInfo {
                name: name.into_owned(),
                src: folder.to_string_lossy().into_owned(),
                preload: at < self.most,
                pin: false,
            };
            self.register(adapter).map_err(EngineError::Adapter)?;
        }
        Ok(())
    }

    /// The adapter of that name for a job.
    pub(crate) fn lend(&self, name: &str) -> Result<Lent, ServeError> {
        let unknown = || {
            let names = self.list().into_iter().map(|adapter| adapter.name);
            let names = names.collect::<Vec<_>>().join(", ");
            let problem = match names.is_empty() {
                true => "is not registered: no adapter is".to_owned(),
                false => format!("is not registered; registered are {names}"),
            };
            ServeError::parameter("adapters", name, problem)
        };
        if let Some(lent) = self.lock().use_loaded(name) {
            return Ok(lent);
        }
        let loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let info = self.find(name).ok_or_else(unknown)?;
        // Another job may just have waited for it.
        let loaded = self.lock().use_loaded(name);
        if let Some(lent) = loaded {
            return Ok(lent);
        }
        let made = self.load(&info);
        let adapter = made.map_err(|refusal| match refusal {
            AdapterRefusal::Full { most } => ServeError::AdaptersInUse { most },
            other => ServeError::parameter("adapters", name, other.to_string()),
        })?;
        let mut state = self.lock();
        if let Some(known) = state.known.get_mut(name).filter(|known| known.info == info) {
            known.loaded = Some(adapter);
        }
        let lent = state.use_loaded(name);
        drop(state);
        drop(loading);
        lent.ok_or_else(unknown)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads one, where necessary in place of the one that was not used for longest.
    fn load(&self, info: &AdapterInfo) -> Result<Arc<Adapter>, AdapterRefusal> {
        self.lock().make_room(self.most)?;
        let unusable = |cause: String| AdapterRefusal::Unusable {
            name: info.name.clone(),
            cause,
        };
        let dir = self.home.join(&info.src);
        let adapter = self
            .loader
            .load(&dir)
            .map_err(|error| unusable(error.to_string()))?;
        info!(
            "adapter {}: rank {}, {:.1} MiB, from {}",
            info.name,
            adapter.rank,
            adapter.bytes as f64 / f64::from(1 << 20),
            dir.display()
        );
        let adapter = Arc::new(adapter);
        self.lock().alive.push(Arc::downgrade(&adapter));
        Ok(adapter)
    }

    /// Checks one and loads it, if it is to be.
    fn take(&self, info: &AdapterInfo) -> Result<Option<Arc<Adapter>>, AdapterRefusal> {
        if info.src.contains("://") {
            return Err(AdapterRefusal::Url(info.src.clone()));
        }
        if info.preload || info.pin {
            return self.load(info).map(Some);
        }
        let file = self.home.join(&info.src).join("adapter_config.json");
        if !file.is_file() {
            return Err(AdapterRefusal::Unusable {
                name: info.name.clone(),
                cause: format!("{} is not there", file.display()),
            });
        }
        Ok(None)
    }
}

impl State {
    fn use_loaded(&mut self, name: &str) -> Option<Lent> {
        self.clock += 1;
        let known = self.known.get_mut(name)?;
        let adapter = Arc::clone(known.loaded.as_ref()?);
        known.used = self.clock;
        Some(Lent {
            number: known.number,
            adapter,
        })
    }

    /// Makes room for one more.
    fn make_room(&mut self, most: usize) -> Result<(), AdapterRefusal> {
        loop {
            self.alive.retain(|adapter| adapter.strong_count() > 0);
            if self.alive.len() < most {
                return Ok(());
            }
            let is_idle = |known: &&mut Known| {
                let loaded = known.loaded.as_ref();
                !known.info.pin && loaded.is_some_and(|loaded| Arc::strong_count(loaded) == 1)
            };
            let idle = self
                .known
                .values_mut()
                .filter(is_idle)
                .min_by_key(|known| known.used);
            match idle {
                Some(known) => known.loaded = None,
                None => return Err(AdapterRefusal::Full { most }),
            }
        }
    }

    fn put(&mut self, info: AdapterInfo, loaded: Option<Arc<Adapter>>) {
        self.last += 1;
        self.clock += 1;
        let known = Known {
            number: self.last,
            loaded,
            used: self.clock,
            info,
        };
        self.known.insert(known.info.name.clone(), known);
    }
}

impl Adapters for AdapterStore {
    fn list(&self) -> Vec<AdapterInfo> {
        let state = self.lock();
        state
            .known
            .values()
            .map(|known| known.info.clone())
            .collect()
    }

    fn register(&self, adapter: AdapterInfo) -> Result<(), AdapterRefusal> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(&adapter.name).is_some() {
            return Err(AdapterRefusal::Exists(adapter.name));
        }
        let loaded = self.take(&adapter)?;
        self.lock().put(adapter, loaded);
        Ok(())
    }

    fn update(&self, adapter: AdapterInfo) -> Result<(), AdapterRefusal> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(&adapter.name).is_none() {
            return Err(AdapterRefusal::Unknown(adapter.name));
        }
        let loaded = self.take(&adapter)?;
        self.lock().put(adapter, loaded);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), AdapterRefusal> {
        let removed = self.lock().known.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| AdapterRefusal::Unknown(name.to_owned()))
    }
}
