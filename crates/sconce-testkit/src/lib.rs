//! Only for tests: goldens, tolerances, HTTP client, fakes.

pub mod browser;
pub mod client;
pub mod close;
pub mod fakes;
pub mod golden;
pub mod hub;
pub mod reference;
pub mod registry;
pub mod reply;
pub mod s3;
pub mod server;
