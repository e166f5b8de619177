//! Why a model cannot be served.

use sconce_core::Task;
use sconce_diffusion::DiffusionError;
use sconce_engine::{DeviceError, EngineError};
use sconce_python::PythonError;
use sconce_seq2seq::Seq2SeqError;
use sconce_tasks::StartError;
use thiserror::Error;

use crate::hub_error::HubError;
use crate::s3::S3Error;
use crate::task::TaskError;

/// The first cause that keeps a model from being ready.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// One of several engines does not start.
    #[error("replica {number} of {count}, on {}: {cause}", on(.gpus))]
    Replica {
        /// Its number, from 1.
        number: usize,
        /// How many there are to be.
        count: usize,
        /// The numbers of its GPUs.
        gpus: Vec<usize>,
        /// Why.
        cause: Box<EngineError>,
    },
    /// The device that is asked for cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The engine of a task does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine of an encoder-decoder does not start.
    #[error(transparent)]
    Seq2Seq(#[from] Seq2SeqError),
    /// The engine of pictures does not start.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// The user's code does not start.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// The hub does not give what is asked for.
    #[error(transparent)]
    Hub(#[from] Box<HubError>),
    /// S3 does not give what is asked for.
    #[error(transparent)]
    S3(#[from] Box<S3Error>),
    /// The model is for something that no engine does.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// There is nothing where the model is said to be.
    #[error("there are no files at {place}: check the name, and that the copy has arrived")]
    Empty {
        /// The place.
        place: String,
    },
    /// The headers of a model elsewhere have no place here.
    #[error(
        "the headers of the model cannot be kept in the directory for temporary files: {cause}; set TMPDIR to one that can be written"
    )]
    Temporary {
        /// What the system says.
        cause: String,
    },
    /// `load_on_devices` names a GPU that is not there.
    #[error(
        "load_on_devices names GPU {number}, and {visible} are visible, numbered from 0; name \
         another, or see what nvidia-smi and CUDA_VISIBLE_DEVICES say"
    )]
    NoSuchGpu {
        /// Its number.
        number: usize,
        /// How many there are.
        visible: usize,
    },
    /// A worker's code is split over more GPUs than there are.
    #[error(
        "option.tensor_parallel_degree times option.pipeline_parallel_degree asks for {wanted} GPUs \
         for each worker, and {usable} can be used; lower them"
    )]
    TooFewGpus {
        /// For each worker.
        wanted: usize,
        /// How many there are.
        usable: usize,
    },
    /// What the model takes is not left.
    #[error(
        "it takes about {needed} bytes and {left} are left, of which {spare} stay free; unload \
         another model, or choose a machine with more memory"
    )]
    NoMemory {
        /// What it takes.
        needed: u64,
        /// What is left.
        left: u64,
        /// What is to stay free beside it.
        spare: u64,
    },
    /// The engine of the task reads files.
    #[error(
        "option.load_format = stream: models for {task} are loaded from files; remove the option, and they are fetched first"
    )]
    NotStreamed {
        /// The task.
        task: Task,
    },
    /// A library that loads failed in a way that it should not.
    #[error("loading panicked; the lines above say where")]
    Panic,
}

fn on(gpus: &[usize]) -> String {
    let numbers: Vec<_> = gpus.iter().map(usize::to_string).collect();
    match &*numbers {
        [one] => format!("GPU {one}"),
        several => format!("GPUs {}", several.join(", ")),
    }
}

impl ManagerError {
    pub(crate) fn temporary(cause: &std::io::Error) -> Self {
        Self::Temporary {
            cause: cause.to_string(),
        }
    }

    /// Bytes that have to become free before the model can start, if nothing but memory is missing.
    pub(crate) fn missing_memory(&self) -> Option<u64> {
        match self {
            Self::Engine(error) => error.missing_memory(),
            Self::Device(_) => None,
            Self::Start(error) => error.missing_memory(),
            Self::Seq2Seq(error) => error.missing_memory(),
            Self::Diffusion(error) => error.missing_memory(),
            Self::NoMemory {
                needed,
                left,
                spare,
            } => Some((needed + spare).saturating_sub(*left)),
            _ => None,
        }
    }

    /// Whether it may be over soon.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Hub(error) => error.is_passing(),
            Self::S3(error) => error.is_passing(),
            _ => false,
        }
    }

    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Replica { cause, .. } => cause.code(),
            Self::Device(error) => error.code(),
            Self::Start(error) => error.code(),
            Self::Seq2Seq(error) => error.code(),
            Self::Diffusion(error) => error.code(),
            Self::Python(error) => error.code(),
            Self::Hub(error) => error.code(),
            Self::S3(error) => error.code(),
            Self::Task(error) => error.code(),
            Self::Empty { .. } => "empty-prefix",
            Self::Temporary { .. } => "no-temporary-directory",
            Self::NoSuchGpu { .. } => "no-such-gpu",
            Self::TooFewGpus { .. } => "too-few-gpus",
            Self::NoMemory { .. } => "not-enough-memory",
            Self::NotStreamed { .. } => "not-streamed",
            Self::Panic => "panic",
        }
    }
}
