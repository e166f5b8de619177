//! CLIP: texts to the states that a UNet attends to, and images to vectors for the safety checker.

mod block;
mod text;
mod vision;

pub use block::ClipDims;
pub use text::{ClipText, ClipTextSpec, TextStates};
pub use vision::{ClipVision, ClipVisionSpec};
