//! Room for rules that lie deep within each other.

use std::thread;

/// Address space of the thread that compiles a rule: only what is touched becomes memory.
const STACK: usize = 256 << 20;

/// Calls `compile` on a thread of its own, whose stack holds the deepest rule that is short enough. A request's own
/// thread has a stack for requests, and one that overflows ends the server.
pub(super) fn with_room<T: Send>(
    compile: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("rule".into())
            .stack_size(STACK)
            .spawn_scoped(scope, compile)
            .map_err(|error| format!("there is no thread to compile it: {error}"))?;
        let done = thread.join();
        done.unwrap_or_else(|_| Err("compiling it failed; simplify it".into()))
    })
}
