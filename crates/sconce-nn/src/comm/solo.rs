//! The group of one rank.

use candle_core::{Device, Result, Tensor};

use super::Communicator;

/// A model that is not split, on the processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

/// A model that is not split, on a device.
#[derive(Clone, Debug)]
pub struct SoloOn(pub Device);

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn all_gather(&self, x: &Tensor, _dim: usize) -> Result<Tensor> {
        Ok(x.clone())
    }
}

impl Communicator for SoloOn {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn all_gather(&self, x: &Tensor, _dim: usize) -> Result<Tensor> {
        Ok(x.clone())
    }

    fn device(&self) -> Device {
        self.0.clone()
    }
}
