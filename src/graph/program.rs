//! Compiled graphs: write their inputs, run them, read their outputs.

use std::ops::Range;
use std::time::Duration;

use rayon::prelude::*;

use super::compiled::{Compiled, Named};
use super::{Bank, Graph};
use crate::kernels::{Dtype, Work};
use crate::{Error, Result, cpu};

/// A compiled graph, or several, each for a part of a batch: what is written is dealt out to them, what is read is put
/// together again, and they run side by side, each on one thread.
pub struct Program {
    parts: Vec<Compiled>,
    /// Whether a part runs on one thread alone: a program of a millisecond would wait longer for a busy machine's second
    /// thread than that thread spares it.
    by_parts: bool,
}

impl Program {
    /// Compiles a graph for the device its bank is on.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(graph: &Graph, bank: &Bank) -> Result<Self> {
        Ok(Self { parts: vec![Compiled::new(graph, bank)?], by_parts: false })
    }

    /// Compiles graphs that differ in their batch alone, the parts of a whole one. Every input and output has a row for
    /// each sample.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_parts(graphs: &[&Graph], bank: &Bank) -> Result<Self> {
        let parts = graphs.iter().map(|graph| Compiled::new(graph, bank)).collect::<Result<_>>()?;
        Ok(Self { parts, by_parts: true })
    }

    /// Bytes of this program's own buffers, the shared sets not counted.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Compiled::bytes).sum()
    }

    /// Launches that must wait for an earlier one, as a GPU's driver sees it.
    pub fn barriers(&self) -> usize {
        self.parts.iter().map(Compiled::barriers).sum()
    }

    /// Writes a float input.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write(&self, name: &str, values: &[f32]) -> Result<()> {
        self.deal(name, Dtype::F32, values, Compiled::write_floats)
    }

    /// Writes a byte input.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.deal(name, Dtype::U8, bytes, Compiled::write_bytes)
    }

    /// Writes an input of words.
    ///
    /// # Errors
    /// If there is no such input, or the length differs.
    pub fn write_words(&self, name: &str, words: &[u32]) -> Result<()> {
        self.deal(name, Dtype::U32, words, Compiled::write_words)
    }

    /// Whether the program has an input or output of that name.
    pub fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.find(name).is_some())
    }

    /// Runs it. On a GPU the work is submitted, not awaited: reading waits.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn run(&self) -> Result<()> {
        self.run_part(0..self.launches())
    }

    /// Runs some of its launches: what earlier ones left in kept values ([`Graph::keep`]) is still there.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn run_part(&self, part: Range<usize>) -> Result<()> {
        match &self.parts[..] {
            [whole] if self.by_parts => cpu::alone(|| whole.run_part(part)),
            [whole] => whole.run_part(part),
            parts => parts.par_iter().try_for_each(|one| cpu::alone(|| one.run_part(part.clone()))),
        }
    }

    /// How many launches a part has.
    pub fn launches(&self) -> usize {
        self.parts.first().map_or(0, Compiled::launches)
    }

    /// Runs it launch by launch, on as many threads as in a run, and says how long each took.
    ///
    /// # Errors
    /// If the GPU was lost or has no timestamps.
    pub fn profile(&self) -> Result<Vec<(&'static str, Duration)>> {
        let mut times = Vec::new();
        for part in &self.parts {
            times.extend(if self.by_parts { cpu::alone(|| part.profile())? } else { part.profile()? });
        }
        Ok(times)
    }

    /// The same, kernel by kernel: the time of all its launches and their number, the largest time first.
    ///
    /// # Errors
    /// As [`Self::profile`].
    pub fn profile_by_kernel(&self) -> Result<Vec<(&'static str, Duration, usize)>> {
        let mut sums: Vec<(&str, Duration, usize)> = Vec::new();
        for (name, time) in self.profile()? {
            match sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + time, *count + 1),
                None => sums.push((name, time, 1)),
            }
        }
        sums.sort_by_key(|(_, sum, _)| std::cmp::Reverse(*sum));
        Ok(sums)
    }

    /// What each launch has to do, in the order of [`Self::profile`].
    pub fn work(&self) -> Vec<Work> {
        self.parts.iter().flat_map(Compiled::work).copied().collect()
    }

    /// Reads a named value.
    ///
    /// # Errors
    /// If there is no such value, or the GPU was lost.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.gather(name, Compiled::read)
    }

    /// Reads a named value in the device's own precision.
    ///
    /// # Errors
    /// If there is no such value, or the GPU was lost.
    pub fn read_wide(&self, name: &str) -> Result<Vec<f64>> {
        self.gather(name, Compiled::read_wide)
    }

    fn gather<T>(&self, name: &str, read: impl Fn(&Compiled, Named) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut places = self.places(name)?.into_iter();
        let mut values = match places.next() {
            Some((part, named)) => read(part, named)?,
            None => Vec::new(),
        };
        for (part, named) in places {
            values.extend(read(part, named)?);
        }
        Ok(values)
    }

    fn deal<T>(
        &self,
        name: &str,
        dtype: Dtype,
        values: &[T],
        write: impl Fn(&Compiled, Named, &[T]),
    ) -> Result<()> {
        let places = self.places(name)?;
        let len: usize = places.iter().map(|(_, named)| named.len).sum();
        if let Some((_, named)) =
            places.first().filter(|(_, named)| named.dtype != dtype || len != values.len())
        {
            return Err(Error::input(format!(
                "`{name}` takes {len} elements of {:?}, not {} of {dtype:?}",
                named.dtype,
                values.len()
            )));
        }
        let mut rest = values;
        for (part, named) in places {
            let (its, others) = rest.split_at(named.len);
            write(part, named, its);
            rest = others;
        }
        Ok(())
    }

    /// Where a value lies in each part.
    fn places(&self, name: &str) -> Result<Vec<(&Compiled, Named)>> {
        let unknown = || Error::failure(format!("the program has no value `{name}`"));
        self.parts.iter().map(|part| Ok((part, part.find(name).ok_or_else(unknown)?))).collect()
    }
}
