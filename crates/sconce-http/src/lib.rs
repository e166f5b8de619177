//! axum: routes, limits, status codes.
//!
//! Takes requests off the network, hands jobs to models of a [`sconce_core::Gateway`] and sends back what
//! `sconce-api` renders. What a body means is known to `sconce-api`, what a model does to the
//! gateway; here are sockets, sizes, times, headers and statuses.

mod access;
mod adapters;
mod app;
mod auth;
mod blocking;
mod connections;
mod console;
mod deferred;
mod flights;
mod formatted;
mod head;
mod headers;
mod health;
mod inference;
mod limits;
mod management;
mod openai;
mod produce;
mod properties;
mod raw;
mod record;
mod refusal;
mod reply;
mod respond;
mod results;
mod server;
mod settings;
mod target;
mod tls;

pub use app::{Models, router};
pub use auth::ApiKeys;
pub use record::Replayer;
pub use server::serve;
pub use settings::{
    Cors, ErrorCodes, HttpSettings, LogSwitch, Management, PingCodes, ResultLimits, SetLevel,
};
pub use tls::{Tls, TlsError};

#[cfg(test)]
mod tests;
