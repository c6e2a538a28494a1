//! Named parameters and where they lie: flat shards, so that clipping, AdamW and averaging are a few launches.

use std::collections::HashMap;

use half::f16;

use crate::kernels::Dtype;
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// A parameter of one [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParamId(pub(super) usize);

/// How a parameter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Uniform in ± this bound.
    Uniform(f64),
    /// The same, but one value for each run of so many elements.
    UniformRuns(f64, usize),
    /// Normal with this standard deviation.
    Normal(f64),
    /// These values.
    Values(Vec<f32>),
    /// Of a weight [out, ..] declared before: minus its product with this input, a row's values, which then gives zeros.
    MinusProduct(ParamId, Vec<f32>),
}

impl Init {
    /// PyTorch's default of a linear or convolutional layer: U(±1/√fan_in), for weight and bias.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f64).sqrt())
    }

    /// The same spread, `factor` times as wide.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::Uniform(bound) => Self::Uniform(bound * factor),
            Self::UniformRuns(bound, len) => Self::UniformRuns(bound * factor, len),
            Self::Normal(std) => Self::Normal(std * factor),
            other => other,
        }
    }

    /// Glorot's uniform (AISTATS 2010), PyTorch's `xavier_uniform_`: U(±√(6 / (fan_in + fan_out))).
    pub fn xavier(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform((6.0 / (fan_in + fan_out) as f64).sqrt())
    }
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Which flat buffer it lies in.
    pub shard: usize,
    /// Its first element there.
    pub offset: usize,
    /// Elements.
    pub len: usize,
    /// What it is stored as: f32, or f16.
    pub dtype: Dtype,
    /// Whether it is nothing but a right operand of products.
    operand: bool,
}

impl Param {
    /// Checks that values can be stored.
    ///
    /// # Errors
    /// Names the parameter if a value lies beyond f16, where it is stored as that.
    pub fn check(&self, values: &[f32]) -> Result<()> {
        let beyond = |value: &f32| self.dtype == Dtype::F16 && value.abs() > f16::MAX.to_f32();
        match values.iter().position(beyond) {
            Some(at) => Err(Error::input(format!(
                "tensor `{}` holds {} at element {at}: f16 ends at {}, keep the weights as f32",
                self.name,
                values[at],
                f16::MAX
            ))),
            None => Ok(()),
        }
    }
}

/// A flat buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shard {
    /// Elements.
    pub len: usize,
    /// What they are stored as.
    pub dtype: Dtype,
    /// What the learning rate of its parameters is multiplied by; 0 for those that stay as they are.
    pub rate: f32,
}

/// Bytes of a shard at most: the least a WebGPU device lets a shader see.
const SHARD: usize = 128 << 20;
/// Offsets are multiples of this many bytes, so that a parameter can be bound by itself.
const ALIGN: usize = 256;
/// Neighbouring parameters take turns over this many shards, so that the launches that make their gradients
/// touch different buffers and need not wait for one another.
const TURNS: usize = 4;

/// The parameters of a policy, in the order its layers declare them.
#[derive(Debug, Clone)]
pub struct Params {
    list: Vec<Param>,
    by_name: HashMap<String, ParamId>,
    shards: Vec<Shard>,
    /// The shard that each turn fills at present, by the turn, the bits of the rate, and what is stored.
    turns: HashMap<(usize, u32, Dtype), usize>,
    /// What the learning rate of parameters declared now is multiplied by.
    rate: f32,
    half_products: bool,
}

impl Default for Params {
    fn default() -> Self {
        let (list, by_name, shards) = (Vec::new(), HashMap::new(), Vec::new());
        Self { list, by_name, shards, turns: HashMap::new(), rate: 1.0, half_products: false }
    }
}

impl Params {
    /// Declares a parameter.
    ///
    /// # Panics
    /// If the name was declared before: a mistake of a policy, not of a user.
    pub fn declare(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> ParamId {
        self.add(name.into(), shape.to_vec(), init, Dtype::F32, false)
    }

    /// Declares a weight [out, ..] that is nothing but a right operand of products: [`Self::with_half_weights`] may
    /// store it as f16.
    ///
    /// # Panics
    /// As [`Self::declare`].
    pub fn declare_weight(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> ParamId {
        self.add(name.into(), shape.to_vec(), init, Dtype::F32, true)
    }

    /// The same parameters with the weights of products stored as f16, in shards of their own; for inference.
    #[must_use]
    pub fn with_half_weights(self) -> Self {
        let mut halved = Self::default();
        for Param { name, shape, init, shard, operand, .. } in self.list {
            halved.rate = self.shards[shard].rate;
            halved.add(name, shape, init, if operand { Dtype::F16 } else { Dtype::F32 }, operand);
        }
        Self { rate: self.rate, half_products: self.half_products, ..halved }
    }

    /// The same parameters; products with f16 weights may round their other operand to f16 as well.
    #[must_use]
    pub fn with_half_products(self) -> Self {
        Self { half_products: true, ..self.with_half_weights() }
    }

    /// Whether products with f16 weights may round their other operand.
    pub fn half_products(&self) -> bool {
        self.half_products
    }

    fn add(&mut self, name: String, shape: Vec<usize>, init: Init, dtype: Dtype, operand: bool) -> ParamId {
        let len: usize = shape.iter().product();
        let id = ParamId(self.list.len());
        // The optimiser takes a shard as a whole, hence one rate each.
        let turn = (id.0 % TURNS, self.rate.to_bits(), dtype);
        let full = |shard: Shard| (shard.len + len) * dtype.bytes() > SHARD && shard.len > 0;
        let shard = match self.turns.get(&turn) {
            Some(&at) if !full(self.shards[at]) => at,
            _ => {
                self.shards.push(Shard { len: 0, dtype, rate: self.rate });
                self.shards.len() - 1
            }
        };
        self.turns.insert(turn, shard);
        let offset = self.shards[shard].len;
        self.shards[shard].len = (offset + len).next_multiple_of(ALIGN / dtype.bytes());
        let earlier = self.by_name.insert(name.clone(), id);
        assert!(earlier.is_none(), "parameter {name} is declared twice");
        self.list.push(Param { name, shape, init, shard, offset, len, dtype, operand });
        id
    }

    /// Declares parameters whose learning rate is multiplied by `rate`; at 0 they stay as they are and have no gradient.
    pub fn at_rate<R>(&mut self, rate: f32, declare: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.rate, rate);
        let declared = declare(self);
        self.rate = outer;
        declared
    }

    /// What the learning rate of a parameter is multiplied by.
    pub fn rate(&self, id: ParamId) -> f32 {
        self.shards[self.get(id).shard].rate
    }

    /// All parameters, in order of declaration.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Param)> {
        self.list.iter().enumerate().map(|(i, param)| (ParamId(i), param))
    }

    /// One parameter.
    pub fn get(&self, id: ParamId) -> &Param {
        &self.list[id.0]
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.by_name.get(name).copied()
    }

    /// The shards that learn, each with its number; those that stay as they are have no gradients.
    pub fn learning_shards(&self) -> impl Iterator<Item = (usize, Shard)> {
        self.shards.iter().copied().enumerate().filter(|(_, shard)| shard.rate > 0.0)
    }

    /// The shards.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// How many numbers the parameters hold.
    pub fn count(&self) -> usize {
        self.list.iter().map(|param| param.len).sum()
    }

    /// A parameter's first values, keyed by the seed and its place.
    pub fn initial(&self, id: ParamId, seed: u64) -> Vec<f32> {
        let param = self.get(id);
        let mut rng = Rng::new(seed, Stream::Init, id.0 as u64, 0);
        let mut uniform = |bound: f64| (bound * (2.0 * rng.uniform() - 1.0)) as f32;
        match &param.init {
            Init::Zeros => vec![0.0; param.len],
            Init::Ones => vec![1.0; param.len],
            Init::Uniform(bound) => (0..param.len).map(|_| uniform(*bound)).collect(),
            Init::UniformRuns(bound, len) => {
                let runs = (0..param.len.div_ceil(*len)).map(|_| uniform(*bound));
                runs.flat_map(|value| std::iter::repeat_n(value, *len)).take(param.len).collect()
            }
            Init::Normal(std) => (0..param.len).map(|_| (std * rng.normal()) as f32).collect(),
            Init::Values(values) => values.clone(),
            Init::MinusProduct(weight, input) => {
                let rows = self.initial(*weight, seed);
                let product = |row: &[f32]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f32>();
                rows.chunks(input.len()).map(|row| -product(row)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_lie_in_different_shards_at_aligned_offsets() {
        let mut params = Params::default();
        for i in 0..9 {
            params.declare(format!("p{i}"), &[3, i + 1], Init::Zeros);
        }
        for ((_, a), (_, b)) in params.iter().zip(params.iter().skip(1)) {
            assert_ne!(a.shard, b.shard);
            assert_eq!(a.offset * 4 % ALIGN, 0);
        }
        assert_eq!(params.count(), (1..=9).map(|i| 3 * i).sum::<usize>());
        assert_eq!(params.shards().len(), TURNS);
    }

    #[test]
    fn a_full_shard_is_followed_by_another() {
        let mut params = Params::default();
        for i in 0..5 {
            params.declare(format!("p{i}"), &[SHARD / 4 - 1], Init::Zeros);
        }
        assert_eq!(params.shards().len(), 5);
        assert!(params.shards().iter().all(|shard| shard.len * 4 <= SHARD));
    }

    #[test]
    fn a_run_has_one_value_and_the_next_another() {
        let mut params = Params::default();
        let p = params.declare("p", &[2, 3, 4], Init::UniformRuns(0.5, 4));
        let values = params.initial(p, 7);
        let mut runs: Vec<f32> = values.chunks(4).map(|run| run[0]).collect();
        assert!(values.chunks(4).all(|run| run.iter().all(|value| *value == run[0])), "{values:?}");
        assert!(runs.iter().all(|value| value.abs() < 0.5));
        runs.sort_by(f32::total_cmp);
        runs.dedup();
        assert_eq!((values.len(), runs.len()), (24, 6));
    }

    #[test]
    fn halves_have_shards_of_their_own_and_keep_their_names_and_rates() {
        let mut params = Params::default();
        for (i, rate) in [1.0, 0.1, 1.0, 0.0, 1.0, 1.0].into_iter().enumerate() {
            params.at_rate(rate, |params| {
                params.declare_weight(format!("w{i}"), &[3, 5 + i], Init::Ones);
                params.declare(format!("b{i}"), &[3], Init::Zeros);
            });
        }
        let halved = params.clone().with_half_weights();
        for ((id, before), (same, after)) in params.iter().zip(halved.iter()) {
            assert_eq!((id, &before.name, &before.shape), (same, &after.name, &after.shape));
            assert_eq!(params.rate(id), halved.rate(id));
            let dtype = if before.name.starts_with('w') { Dtype::F16 } else { Dtype::F32 };
            assert_eq!((before.dtype, after.dtype), (Dtype::F32, dtype));
            assert_eq!(halved.shards()[after.shard].dtype, dtype);
            assert_eq!(after.offset * dtype.bytes() % ALIGN, 0);
        }
        let wide = [0.5, -65_504.0, 1e6];
        let told = halved.get(ParamId(0)).check(&wide).expect_err("beyond f16").to_string();
        assert_eq!(
            told,
            "tensor `w0` holds 1000000 at element 2: f16 ends at 65504, keep the weights as f32"
        );
        assert!(halved.get(ParamId(1)).check(&wide).is_ok() && params.get(ParamId(0)).check(&wide).is_ok());
    }
}
