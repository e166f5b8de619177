//! Who computes next, in which blocks; pure.
