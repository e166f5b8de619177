//! Wire dialects to and from jobs and events; pure functions.
