//! Models by name: fetches them, loads them, routes jobs to them, says how they are.
//!
//! [`Manager`] is the [`sconce_core::Gateway`] that HTTP talks to. A model is loaded in a
//! thread of its own while the port is already open; `entry` holds its state.

mod build;
mod entry;
mod error;
mod manager;
mod store;

pub use error::ManagerError;
pub use manager::{Manager, Outcome};
