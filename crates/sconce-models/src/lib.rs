//! The decoder and its architectures.
