//! A guard around the tokenizers crate: a panic on a strange file is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the crate's code; its errors and panics become messages.
pub(crate) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(message.unwrap_or_else(|| "the tokenizers crate panicked".into()))
        }
    }
}
