//! Recordings: what was asked and answered, in a folder, with all that it takes to ask again and get the same bytes.
//!
//! A folder holds `recording.json` (the program, the machine, arguments and settings), `checkpoints.json` (a hash of every
//! file of the models) and `exchanges.jsonl` (a line for each request, in the order in which answers ended). How requests
//! come and answers go is HTTP's; how a server is started again is the program's.

mod checkpoint;
mod content;
mod difference;
mod error;
mod exchange;
mod folder;
mod recorder;

pub use checkpoint::{Checkpoint, Stored, hash_of};
pub use content::Content;
pub use difference::{Verdict, compare};
pub use error::RecordError;
pub use exchange::{Answer, Asked, Exchange, Fixed};
pub use folder::{About, ModelAbout, Recording, Setting};
pub use recorder::Recorder;
