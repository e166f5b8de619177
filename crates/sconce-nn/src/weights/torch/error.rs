//! Why a pickle is not the data of a checkpoint.

/// A problem and the place of the instruction that has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its pickle at byte {at}: {problem}")]
pub struct PickleError {
    /// Byte of the instruction in the pickle.
    pub at: usize,
    /// What is wrong there.
    pub problem: PickleProblem,
}

/// What a pickle does that a checkpoint never needs, or gets wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleProblem {
    /// A name that is not on the short list of names that checkpoints need.
    #[error(
        "it asks for the Python object `{0}`; sconce reads tensors and plain data only and never executes pickles: \
         save the `state_dict` alone, or convert the checkpoint to safetensors"
    )]
    Global(String),
    /// Numbers of a type without a reader.
    #[error("it holds numbers of type `{0}`, which is not supported")]
    Dtype(String),
    /// The bytes end within an instruction or before the last one.
    #[error("it ends before it is complete")]
    Ends,
    /// An instruction that pickle protocols 2 to 5 do not write for checkpoints.
    #[error("instruction 0x{0:02x} does not occur in checkpoints")]
    Opcode(u8),
    /// A protocol newer than the reader.
    #[error("protocol {0} is not supported, 2 to 5 are")]
    Protocol(u8),
    /// An instruction finds fewer values than it takes.
    #[error("it takes a value that was never given")]
    Missing,
    /// A value of another kind than the instruction needs.
    #[error("{wanted} is needed, not {found}")]
    Kind {
        /// What the instruction takes.
        wanted: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Text,
    /// Something grows beyond what any checkpoint needs.
    #[error("{what} beyond the limit of {limit}")]
    Limit {
        /// What grows.
        what: &'static str,
        /// The largest value accepted.
        limit: usize,
    },
}
