//! Text generation: one thread per rank, continuous batching, sampling, text.
//!
//! [`Engine`] is a [`sconce_core::Backend`]. It checks and tokenises a job at the door, queues
//! it, and its thread repeats plan → forward → pick → answer → commit. What is computed next is
//! decided in `sconce-sched`, how in `sconce-models` and `sconce-nn`.

mod adapters;
pub mod beams;
mod converse;
mod describe;
mod device;
mod draws;
mod engine;
mod error;
mod guided;
mod length;
mod live;
mod load;
mod memory;
mod overview;
mod pace;
mod pack;
mod prompt;
mod ranks;
pub mod sampler;
mod search;
mod settings;
mod speculation;
mod vocabulary;
mod warm;
mod worker;

pub use adapters::Lora;
pub use describe::{Description, Overview, Stored, check_context, check_packing, check_vocabulary};
pub use device::{DeviceError, DeviceWish, Gpus, Spread, choose_gpus};
pub use engine::Engine;
pub use error::EngineError;
pub use load::{Checkpoint, Planned, open_checkpoint};
pub use memory::{DraftNeeds, Keys, Needs, Plan, Room, available_memory};
pub use overview::{TaskMemory, TaskOverview, parameters};
pub use pack::pack;
pub use ranks::{Loader, Obey, RankLoader, Seat, Team};
pub use sconce_core::Unstarted;
pub use sconce_models::{ConfigError, LoadError, Packing, Quantisation};
pub use sconce_nn::GpuInfo;
pub use sconce_nn::KvDtype as CacheDtype;
pub use sconce_nn::pool::threads;
pub use sconce_nn::weights::gguf::{find as find_gguf, first_files, header_end, set_of};
pub use sconce_nn::weights::{BlockFormat, Numbers, Part, StoredDtype, WeightError};
pub use sconce_nn::{Place, read_bandwidth};
pub use sconce_text::TextError;
pub use settings::{EngineSettings, GpuShare};
pub use speculation::draft::DraftCheckpoint;
pub use speculation::{Guesser, Speculation};
