//! Models by name: fetches them, loads them, routes jobs to them, says how they are.
//!
//! [`Manager`] is the [`sconce_core::Gateway`] that HTTP asks and the [`sconce_core::Registry`] by
//! which models come and go. Each is loaded in a thread of its own while the others answer; `entry`
//! holds its state, `memory` shares out what the machine has.

mod archive;
mod build;
mod coming;
mod device;
mod disk;
mod entry;
mod error;
mod hub;
mod hub_error;
mod inspect;
mod manager;
mod manner;
mod memory;
mod outside;
mod progress;
mod python;
mod registry;
mod remote;
mod replicas;
mod s3;
mod store;
mod task;
mod times;
mod torch_headers;
mod wanted;
mod watchdog;
mod worker_gpus;

pub use device::{at_hand, of_the_processor, require_device};
pub use error::ManagerError;
pub use hub_error::HubError;
pub use inspect::Inspection;
pub use manager::{Manager, Outcome};
pub use outside::Reached;
pub use s3::S3Error;
pub use sconce_diffusion::{DiffusionError, DiffusionOverview};
pub use sconce_engine::DeviceError;
pub use sconce_seq2seq::Seq2SeqError;
pub use sconce_tasks::StartError;
pub use store::files_of;
pub use task::TaskError;
