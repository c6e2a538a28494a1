//! Values and ops, the backward pass, the memory plan, replay on a device.
//!
//! A [`Graph`] is built once for a policy and a batch size: static shapes, row-major values, named parameters.
//! Each op appends the kernel launches of its forward pass and leaves behind a record that knows how to append
//! those of its backward pass, given the gradients of its outputs. Nothing is traced and nothing is interpreted:
//! what is built is a flat list of launches, which [`Program`] replays.

mod backward;
mod bank;
mod compiled;
mod device;
pub mod ops;
mod params;
mod planner;
mod program;
pub mod trial;

pub use bank::Bank;
pub use device::Device;
pub use params::{Init, Param, ParamId, Params, Shard};
pub use program::Program;

use std::collections::HashMap;
use std::sync::Arc;

use crate::kernels::{Dtype, Kernel, Merged, Set};
use backward::{Backward, Rectified};

/// A value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(usize);

/// Where a value lives.
#[derive(Debug, Clone, PartialEq)]
enum Home {
    /// A buffer that may be used again once the last reader is done.
    Temporary,
    /// A buffer that the host writes or reads, for as long as the program lives.
    Kept,
    /// Floats known when the graph is built.
    Constant(Vec<f32>),
    /// A run of a flat set: a parameter, its gradient, or a whole shard.
    Shard { set: Set, shard: usize, offset: usize },
    /// A run of a kept value; the offset is a multiple of 64 elements.
    View { of: Value, offset: usize },
}

#[derive(Debug, Clone)]
struct Info {
    shape: Vec<usize>,
    dtype: Dtype,
    home: Home,
    /// Whether a gradient with respect to this value is of use.
    needs_grad: bool,
}

/// One kernel launch on values.
#[derive(Debug, Clone)]
struct Launch {
    kernel: Kernel,
    inputs: Vec<Option<Value>>,
    outputs: Vec<Value>,
}

/// Dropout while training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Probability that an element is dropped.
    pub dropout: f32,
}

/// A static program under construction.
pub struct Graph {
    params: Arc<Params>,
    training: Option<Training>,
    /// Where it is to run, if that is known.
    device: Option<Device>,
    /// Whether parameters stay as they are: a backward pass then ends at inputs alone.
    frozen: bool,
    values: Vec<Info>,
    launches: Vec<Launch>,
    /// Those before the backward pass.
    forward_launches: usize,
    /// Those that may be run without the later ones, which join none of them.
    parted: usize,
    backward: Vec<Box<dyn Backward>>,
    gradients: HashMap<Value, Value>,
    /// Results of rectifiers, see [`Rectified`].
    rectified: HashMap<Value, Rectified>,
    /// Runs of parameter gradients that some launch has written, to notice a parameter that is used twice.
    written: Vec<(ParamId, std::ops::Range<usize>)>,
    names: HashMap<String, Value>,
    param_values: HashMap<(Set, ParamId), Value>,
    dropout_sites: u32,
    differentiated: bool,
}

impl Graph {
    /// An empty graph over a policy's parameters. `training` keeps what the backward pass needs and drops out.
    pub fn new(params: Arc<Params>, training: Option<Training>) -> Self {
        Self {
            params,
            training,
            device: None,
            frozen: false,
            values: Vec::new(),
            launches: Vec::new(),
            forward_launches: 0,
            parted: 0,
            backward: Vec::new(),
            gradients: HashMap::new(),
            rectified: HashMap::new(),
            written: Vec::new(),
            names: HashMap::new(),
            param_values: HashMap::new(),
            dropout_sites: 0,
            differentiated: false,
        }
    }

    /// An empty graph whose parameters stay as they are: its backward pass makes gradients of inputs that ask for one
    /// ([`Self::want_gradient`]), and none of parameters, so that a bank needs nothing but weights. Nothing is dropped
    /// out.
    pub fn frozen(params: Arc<Params>) -> Self {
        Self { frozen: true, ..Self::new(params, Some(Training { dropout: 0.0 })) }
    }

    /// The same graph for a device: launches that are better one there become one. A graph of no device has each by itself.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: Some(device.clone()), ..self }
    }

    /// The parameters.
    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    /// Whether a backward pass will follow.
    pub fn training(&self) -> Option<Training> {
        self.training
    }

    /// Whether parameters learn from the backward pass.
    pub fn learns(&self) -> bool {
        self.training.is_some() && !self.frozen
    }

    /// The backward pass will make an input's gradient. Comes before the input is used.
    pub fn want_gradient(&mut self, input: Value) {
        self.values[input.0].needs_grad = true;
    }

    /// A value that the host writes before each run, by name; asked for again, the same one.
    ///
    /// # Panics
    /// If it has another type or size than before.
    pub fn input(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Value {
        if let Some(&value) = self.names.get(name) {
            let known = (self.values[value.0].dtype, self.len(value));
            assert_eq!(known, (dtype, shape.iter().product()), "input {name} has one type and size");
            return value;
        }
        let value = self.add(shape, dtype, Home::Kept, false);
        self.names.insert(name.to_owned(), value);
        value
    }

    /// Gives a value a buffer of its own, which outlives a run.
    pub fn keep(&mut self, value: Value) {
        if self.values[value.0].home == Home::Temporary {
            self.values[value.0].home = Home::Kept;
        }
    }

    /// Gives a value a name under which the host reads it after a run.
    pub fn output(&mut self, name: &str, value: Value) {
        self.keep(value);
        self.names.insert(name.to_owned(), value);
    }

    /// Floats that never change.
    pub fn constant(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "a constant fills its shape");
        self.add(shape, Dtype::F32, Home::Constant(values), false)
    }

    /// A parameter's value.
    pub fn param(&mut self, id: ParamId) -> Value {
        self.in_set(Set::Weights, id)
    }

    /// A parameter's place in a flat set.
    fn in_set(&mut self, set: Set, id: ParamId) -> Value {
        if let Some(&value) = self.param_values.get(&(set, id)) {
            return value;
        }
        let param = self.params.get(id).clone();
        let home = Home::Shard { set, shard: param.shard, offset: param.offset };
        let learns = self.params.rate(id) > 0.0 && !self.frozen;
        let value = self.add(&param.shape, param.dtype, home, set == Set::Weights && learns);
        self.param_values.insert((set, id), value);
        value
    }

    /// A whole shard of a flat set.
    pub fn shard(&mut self, set: Set, shard: usize) -> Value {
        let Shard { len, dtype, .. } = self.params.shards()[shard];
        self.add(&[len], dtype, Home::Shard { set, shard, offset: 0 }, false)
    }

    /// A run of a kept value.
    pub fn view(&mut self, of: Value, offset: usize, len: usize) -> Value {
        assert!(
            self.values[of.0].home == Home::Kept && offset.is_multiple_of(64),
            "views are of kept values, aligned"
        );
        self.add(&[len], Dtype::F32, Home::View { of, offset }, false)
    }

    /// A value's shape.
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.values[value.0].shape
    }

    /// Gives a value another shape of as many elements.
    pub fn reshape(&mut self, value: Value, shape: &[usize]) {
        assert_eq!(self.len(value), shape.iter().product::<usize>(), "a new shape has as many elements");
        self.values[value.0].shape = shape.to_vec();
    }

    /// A value's elements.
    pub fn len(&self, value: Value) -> usize {
        self.shape(value).iter().product()
    }

    /// Rows and columns of a value, all dimensions but the last counted as rows.
    pub fn rows(&self, value: Value) -> (usize, usize) {
        let shape = self.shape(value);
        let columns = shape.last().copied().unwrap_or(1);
        (shape.iter().product::<usize>() / columns.max(1), columns)
    }

    /// A new temporary.
    pub fn temporary(&mut self, shape: &[usize]) -> Value {
        self.add(shape, Dtype::F32, Home::Temporary, false)
    }

    /// A new temporary of another value's shape.
    pub fn temporary_like(&mut self, value: Value) -> Value {
        let shape = self.shape(value).to_vec();
        self.temporary(&shape)
    }

    /// Appends a launch; its outputs need gradients if any of its inputs does.
    pub fn launch(&mut self, kernel: impl Into<Kernel>, inputs: &[Option<Value>], outputs: &[Value]) {
        let needs_grad = inputs.iter().flatten().any(|value| self.needs_grad(*value));
        for output in outputs {
            self.values[output.0].needs_grad |= needs_grad;
        }
        self.launches.push(Launch {
            kernel: kernel.into(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        });
    }

    /// How many launches one run makes.
    pub fn launches(&self) -> usize {
        self.launches.len()
    }

    /// Ends a part that is run by itself ([`Program::run_part`]) and says where: the launches so far.
    pub fn end_part(&mut self) -> usize {
        self.parted = self.launches.len();
        self.parted
    }

    /// Whether the device is better off with one launch instead of several. A backward pass needs what is between them.
    fn merges(&self, kernel: &impl Merged) -> bool {
        self.training.is_none() && self.device.as_ref().is_some_and(|device| device.merges(kernel))
    }

    /// The parameter that a value is, if it is one.
    fn param_of(&self, value: Value) -> Option<ParamId> {
        self.param_values
            .iter()
            .find(|((set, _), known)| *set == Set::Weights && **known == value)
            .map(|((_, id), _)| *id)
    }

    fn needs_grad(&self, value: Value) -> bool {
        self.values[value.0].needs_grad
    }

    fn add(&mut self, shape: &[usize], dtype: Dtype, home: Home, needs_grad: bool) -> Value {
        self.values.push(Info { shape: shape.to_vec(), dtype, home, needs_grad });
        Value(self.values.len() - 1)
    }
}
