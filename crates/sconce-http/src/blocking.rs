//! Work that would hold up other requests, in a thread where waiting is allowed.

use sconce_core::ServeError;

/// What it gives; its panic goes on where it is waited for.
///
/// # Errors
/// The runtime ends, and takes no more work.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(died) => match died.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ServeError::Draining),
        },
    }
}
