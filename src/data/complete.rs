//! Statistics that a dataset's folder lacks, computed from its frames as LeRobot would have written them: by episode,
//! then as one.

use rayon::prelude::*;

use super::{
    Dataset, Stats,
    dataset::matters,
    describe::{self, NAMES},
};
use crate::Result;

impl Dataset {
    /// Computes what statistics of vectors are missing, and says which dimensions never change.
    pub(super) fn complete_vectors(&mut self) -> Result<()> {
        let incomplete = |(key, width, values): &(&str, usize, &[f32])| {
            let lacks = NAMES.iter().any(|name| self.stats.get(key, name).is_err());
            // Rewards and the like may hold what has no statistics.
            (lacks && values.iter().all(|v| v.is_finite())).then(|| (key.to_string(), *width))
        };
        let missing: Vec<_> = self.all_vectors().filter_map(|column| incomplete(&column)).collect();
        for (key, width) in missing {
            let values = self.vectors(&key)?.1;
            let part = |frames: &std::ops::Range<usize>| {
                let values: Vec<f64> =
                    values[frames.start * width..frames.end * width].iter().copied().map(f64::from).collect();
                let mut stats = Stats::new("");
                describe::vectors(&mut stats, &key, width, &values).map(|()| stats)
            };
            let parts = self.episodes.par_iter().map(|e| part(&e.frames)).collect::<Result<Vec<_>>>()?;
            self.adopt(&key, &parts)?;
        }
        self.settle_constants()
    }

    /// Computes the statistics of a camera's pictures, from a sample of each episode's frames, unless all of `names`
    /// (`mean`, `std`, `min`, ...) are there. Vectors have theirs from the start.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn complete_stats(&mut self, key: &str, names: &[&str]) -> Result<()> {
        if names.iter().all(|name| self.stats.get(key, name).is_ok()) {
            return Ok(());
        }
        let part = |frames: &std::ops::Range<usize>| {
            let mut stats = Stats::new("");
            let image = |i: usize| self.image(key, frames.start + i);
            describe::pictures(&mut stats, key, frames.len(), image).map(|()| stats)
        };
        let parts = self.episodes.par_iter().map(|e| part(&e.frames)).collect::<Result<Vec<_>>>()?;
        self.adopt(key, &parts)
    }

    /// Sets the statistics that are not there.
    fn adopt(&mut self, key: &str, parts: &[Stats]) -> Result<()> {
        let whole = Stats::aggregate(parts)?;
        for name in NAMES {
            if self.stats.get(key, name).is_err() {
                self.stats.set(key, name, whole.get(key, name)?.clone())?;
            }
        }
        Ok(())
    }

    /// A dimension that never changes has its value as mean and no spread, exactly: what rounding left of both would
    /// be blown up by a normaliser that divides by the spread.
    fn settle_constants(&mut self) -> Result<()> {
        let keys: Vec<String> =
            self.all_vectors().map(|column| column.0.to_owned()).filter(|key| matters(key)).collect();
        for key in keys {
            let constant = self.constants(&key);
            if constant.is_empty() {
                continue;
            }
            let low = self.stats.get(&key, "min")?.clone();
            for (name, settled) in [("mean", &low.values), ("std", &vec![0.0; low.values.len()])] {
                let mut stat = self.stats.get(&key, name)?.clone();
                for &i in &constant {
                    if let Some(value) = stat.values.get_mut(i) {
                        *value = settled[i];
                    }
                }
                self.stats.set(&key, name, stat)?;
            }
            let list: Vec<_> = constant.iter().map(|i| format!("{i} ({})", low.values[*i])).collect();
            self.warnings.push(format!(
                "{}: `{key}` never changes in dimension {}: no policy can learn what another value there means",
                self.roots[0].display(),
                list.join(", ")
            ));
        }
        Ok(())
    }

    /// The dimensions of a vector that never change, by its statistics.
    pub(super) fn constants(&self, key: &str) -> Vec<usize> {
        let (Ok(low), Ok(high)) = (self.stats.get(key, "min"), self.stats.get(key, "max")) else {
            return Vec::new();
        };
        let pairs = low.values.iter().zip(&high.values).enumerate();
        pairs.filter(|(_, (low, high))| low == high).map(|(i, _)| i).collect()
    }
}
