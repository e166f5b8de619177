//! Only for tests: goldens, tolerances, HTTP client, fakes.

pub mod client;
pub mod fakes;
