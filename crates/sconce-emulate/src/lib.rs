//! A local stand-in for the runtime API of SageMaker in front of one container: what boto3 and the
//! SageMaker SDK send to an endpoint goes to the container as the platform would send it, and back.
//!
//! The wire forms are those of botocore's service model `sagemaker-runtime/2017-05-13` and of the
//! developer guide's page on custom inference code. Where neither says what happens, the module
//! that decides says so. Signatures are not verified. Starting containers, and the other APIs of
//! SageMaker, are left to others.

mod answer;
mod app;
mod call;
mod event_stream;
mod failure;
mod headers;
mod health;
mod invoke;
mod models;
mod server;
mod settings;
mod upstream;

#[cfg(test)]
mod tests;

pub use health::NeverHealthy;
pub use server::Emulator;
pub use settings::{ModelFolder, Settings};
pub use upstream::{BadUpstream, Upstream};
