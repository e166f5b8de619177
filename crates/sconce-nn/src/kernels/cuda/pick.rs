//! What picking tokens needs of logits that stay on a GPU.

use candle_core::{DType, Device, Result, Tensor};

use super::gpu::{Arg, Gpu};
use super::layers::rows;
use super::numbers::{pointer, suffix, to_host, words_to_host};
use crate::scores::{Best, MOST_BEST, Scores};

/// Words before the candidates of a row; `TOLD` in pick.cuh.
const HEAD: usize = 3;

/// The state of a row that has been told; `COMPLETE` in pick.cuh.
const COMPLETE: u32 = 0;

/// Threads of a row.
const THREADS: u32 = 1024;

/// As [`Scores::of`]: at most two copies to the host, of candidates and of whole rows, unless a row turns out to be
/// needed whole.
pub(crate) fn scores(
    logits: &Tensor,
    best: &[u32],
    settle: &dyn Fn() -> Result<()>,
) -> Result<Scores> {
    let (height, vocab) = logits.dims2()?;
    let wanted = |row: usize| {
        best.get(row)
            .map_or(0, |&count| count.min(MOST_BEST as u32))
    };
    let asked: Vec<u32> = (0..height as u32)
        .filter(|&row| wanted(row as usize) > 0)
        .collect();
    let told = Told::launch(logits, &asked, |row| wanted(row as usize), vocab)?;
    settle()?;
    let found = told.read(asked.len())?;
    let mut all = vec![None; height];
    for (&row, best) in asked.iter().zip(found) {
        all[row as usize] = best;
    }
    let whole: Vec<u32> = (0..height as u32)
        .filter(|&row| all[row as usize].is_none())
        .collect();
    let logits = match whole.len() {
        0 => Tensor::zeros((0, vocab), DType::F32, &Device::Cpu)?,
        count if count == height => host(logits)?,
        _ => host(&rows(logits, &whole)?)?,
    };
    Ok(Scores { logits, best: all })
}

fn host(logits: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(to_host(logits, &|| Ok(()))?, logits.dims(), &Device::Cpu)
}

/// What the kernel tells of the rows that it was asked.
struct Told {
    words: Tensor,
    room: usize,
}

impl Told {
    fn launch(
        logits: &Tensor,
        asked: &[u32],
        wanted: impl Fn(u32) -> u32,
        vocab: usize,
    ) -> Result<Self> {
        let gpu = Gpu::of(logits)?;
        let counts: Vec<u32> = asked.iter().map(|&row| wanted(row)).collect();
        // Of one the first of equals is told; of several all that are as large as the last.
        let room = match counts.iter().max() {
            None | Some(0 | 1) => 1,
            Some(&most) => 2 * most as usize + 32,
        };
        let uploaded = Tensor::new([asked, &counts].concat(), logits.device())?;
        let words = gpu.room(DType::U32, &[asked.len(), HEAD + 2 * room])?;
        let args = [
            pointer(logits, "logits")?,
            pointer(&uploaded.narrow(0, 0, asked.len())?, "rows")?,
            pointer(&uploaded.narrow(0, asked.len(), asked.len())?, "counts")?,
            Arg::Index(vocab as u32),
            Arg::Index(room as u32),
            pointer(&words, "the largest logits")?,
        ];
        let name = format!("best_of_row_{}", suffix(logits.dtype())?);
        gpu.launch(name, [asked.len(), 1, 1], THREADS, &args)?;
        Ok(Self { words, room })
    }

    /// By row; `None`: the row is needed whole.
    fn read(&self, rows: usize) -> Result<Vec<Option<Best>>> {
        let words = words_to_host(&self.words)?;
        let rows = words.chunks_exact(HEAD + 2 * self.room).take(rows);
        Ok(rows.map(|words| self.best(words)).collect())
    }

    fn best(&self, words: &[u32]) -> Option<Best> {
        let [state, count, ln_sum] = [words[0], words[1], words[2]];
        let (ids, bits) = words[HEAD..].split_at(self.room);
        let count = (state == COMPLETE).then_some(count as usize)?;
        // Threads put them where they found a place.
        let mut pairs: Vec<_> = ids
            .iter()
            .copied()
            .zip(bits.iter().copied())
            .take(count)
            .collect();
        pairs.sort_unstable();
        Some(Best {
            ids: pairs.iter().map(|pair| pair.0).collect(),
            logits: pairs.iter().map(|pair| f32::from_bits(pair.1)).collect(),
            ln_sum: f64::from(f32::from_bits(ln_sum)),
        })
    }
}
