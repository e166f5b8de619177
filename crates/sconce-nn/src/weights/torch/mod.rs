//! Files of `torch.save`: a zip archive of raw storages and one pickle that says which tensor is which part of which storage.
//! The pickle is read as data by an interpreter that knows no calls but those that rebuild tensors; nothing is executed.

mod error;

pub use error::{PickleError, PickleProblem};
