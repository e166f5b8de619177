//! Words shared by all crates: jobs, parameters, events, errors, and the traits between layers.
//!
//! Nothing here knows of a runtime, a tensor or a wire format. A request becomes a [`Job`], its
//! answers are [`Event`]s, its failures are [`ServeError`]s; [`Gateway`], [`Served`], [`Registry`],
//! [`Backend`] and [`Reply`] are the seams between HTTP, the models and whoever waits for an answer. [`Inbox`] is the
//! queue and the thread that engines have in common.

pub mod adapters;
pub mod decoding;
pub mod dialogue;
pub mod draw;
pub mod error;
pub mod event;
pub mod gauges;
pub mod guide;
pub mod inbox;
pub mod job;
pub mod manner;
pub mod params;
pub mod raw;
pub mod registry;
pub mod status;
pub mod task;
pub mod traits;

pub use adapters::{AdapterInfo, AdapterRefusal, Adapters};
pub use decoding::{AskedDecoding, EarlyStopping};
pub use dialogue::Dialogue;
pub use draw::{Draw, Picture, PictureFormat, Preview, Progressed};
pub use error::{Blame, ServeError};
pub use event::{Event, FinishReason, Finished, Output, PromptToken, Token, TopToken};
pub use gauges::{Gauges, Permit};
pub use guide::{Guide, Rule};
pub use inbox::{Inbox, InboxSettings, Unstarted};
pub use job::{Generate, Input, Job, JobId, Prompt, Tokenised};
pub use manner::{Dialect, Manner, OutputFormatter};
pub use params::{AskedSampling, BeamSearch, GenerateParams, MaxTokens, Report, Sampling, Stop};
pub use raw::{Formats, RawEvent, RawHead, RawInput};
pub use registry::{Coming, Registration, Registry, RegistryError, Scaled};
pub use status::{
    Batching, Crew, Load, LoadTimes, ModelStatus, Observer, Phase, Progress, Spread, Worker,
};
pub use task::{Answered, Ask, Task, TaskAnswer};
pub use traits::{Backend, Gateway, Reply, Served};
