//! mt19937, the Mersenne twister of 32 bits (Matsumoto and Nishimura, 1998), seeded as torch does.

const LEN: usize = 624;
const SHIFT: usize = 397;
const MATRIX: u32 = 0x9908_b0df;
const UPPER: u32 = 0x8000_0000;

/// The state.
#[derive(Clone)]
pub(super) struct Twister {
    state: [u32; LEN],
    next: usize,
}

impl Twister {
    /// Of the low 32 bits of a seed: torch leaves the others unused.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = [0; LEN];
        state[0] = seed as u32;
        for at in 1..LEN {
            let before = state[at - 1];
            let mixed = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30));
            state[at] = mixed.wrapping_add(at as u32);
        }
        Self { state, next: LEN }
    }

    /// 32 bits.
    pub(super) fn bits(&mut self) -> u32 {
        if self.next == LEN {
            self.turn();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// 64 bits: the first 32 are the high ones.
    pub(super) fn long_bits(&mut self) -> u64 {
        let (high, low) = (self.bits(), self.bits());
        (u64::from(high) << 32) | u64::from(low)
    }

    fn turn(&mut self) {
        for at in 0..LEN {
            let (own, other) = (self.state[at], self.state[(at + 1) % LEN]);
            let both = (own & UPPER) | (other & !UPPER);
            let odd = if both & 1 == 1 { MATRIX } else { 0 };
            self.state[at] = self.state[(at + SHIFT) % LEN] ^ (both >> 1) ^ odd;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tenthousandth number of the seed 5489, which the C++ standard names.
    #[test]
    fn the_standard_names_this_number() {
        let mut twister = Twister::new(5489);
        let last = (0..10_000).map(|_| twister.bits()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
