//! Engine thread, ranks, runner, sampling.
