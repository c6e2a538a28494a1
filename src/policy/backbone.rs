//! Pretrained vision transformers: read under the names of torchvision, timm or Hugging Face, used under ours.
//!
//! [`Backbone::read`] finds out whose names a file uses and checks every tensor; [`Backbone::for_encoder`] gives them
//! the names and shapes of `flowmatching`'s encoder, with position embeddings for the policy's picture size.
//!
//! The number of heads is in no tensor; `ViT-B/16` has 12. Norms are taken with eps 1e-6 (Hugging Face: 1e-12).

mod names;
mod positions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use names::{Names, TORCHVISION};

use super::{Tensor, Tensors};
use crate::graph::ops::ChannelScale;
use crate::nn::{IMAGENET, VitSizes};
use crate::{Error, Result};

/// In front of the encoder's parameters in a `flowmatching` checkpoint.
pub const PREFIX: &str = "model.vision_encoder.vit_encoder.";

/// Tensors in memory, by name.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// The sizes of a vision transformer that its weights tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackboneSizes {
    /// Layers.
    pub layers: usize,
    /// Width of a token, d.
    pub embed_dim: usize,
    /// Width of the feed-forward networks.
    pub mlp_dim: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
}

impl fmt::Display for BackboneSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, embed_dim, mlp_dim, patch_size } = self;
        write!(f, "{layers} layers, width {embed_dim}, feed-forward {mlp_dim}, patches of {patch_size}")
    }
}

/// A file of pretrained weights, checked; values are read when [`Self::tensors`] asks for them.
#[derive(Debug)]
pub struct Backbone {
    file: Tensors,
    names: Names,
    prefix: String,
    sizes: BackboneSizes,
    /// Rows and columns of tokens.
    grid: [usize; 2],
    /// Whether `grid` is a guess: the tokens make no square.
    oblong: bool,
    /// What the weights expect of pixels in [0, 1].
    pixels: ChannelScale,
}

/// A tensor of ours: its name, its shape, and the one or three tensors of the file that it is made of.
struct Wanted {
    name: String,
    shape: Vec<usize>,
    sources: Vec<String>,
}

impl Backbone {
    /// Opens a safetensors file of f32, f16 or bf16.
    ///
    /// # Errors
    /// If it is no vision transformer under known names, or names the first tensor that is missing, of another shape
    /// or type, or unexpected. A head or a pooler is left out silently.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let file = Tensors::open(path.as_ref())?;
        let (names, prefix) = Names::find(&file)?;
        let wrong = |what: String| Error::input(what).at(file.place());
        let shape = |pattern: &str| {
            let name = format!("{prefix}{}", names::weight(pattern));
            let shape = file.shape(&name).map(<[usize]>::to_vec);
            shape.ok_or_else(|| wrong(format!("tensor `{name}` is missing ({} names)", names.library)))
        };
        let patches = shape(names.patches)?;
        let [embed_dim, 3, patch_size, _] = patches[..] else {
            return Err(wrong(format!(
                "the product of patches has shape {patches:?}, expected [width, 3, patch, patch]"
            )));
        };
        let mlp = shape(&names.of_layer(0, 4))?;
        let positions = shape(names.positions)?;
        let (&[mlp_dim, _], &[1, tokens, _]) = (&mlp[..], &positions[..]) else {
            return Err(wrong(format!(
                "the first feed-forward product has shape {mlp:?}, the position embeddings have {positions:?}; \
                 expected [feed-forward, width] and [1, 1 + patches, width]"
            )));
        };
        if embed_dim.min(patch_size).min(mlp_dim) == 0 || tokens < 2 {
            return Err(wrong("a tensor has no values".to_owned()));
        }
        let (tokens, side) = (tokens - 1, (tokens - 1).isqrt());
        let oblong = side * side != tokens;
        let grid = if oblong { [1, tokens] } else { [side, side] };
        let sizes = BackboneSizes { layers: names.layers(&file, &prefix), embed_dim, mlp_dim, patch_size };
        let pixels = IMAGENET;
        let backbone = Self { file, names, prefix, sizes, grid, oblong, pixels };
        backbone.check()?;
        Ok(backbone)
    }

    /// Whose names the file uses.
    pub fn library(&self) -> &'static str {
        self.names.library
    }

    /// The sizes found.
    pub fn sizes(&self) -> BackboneSizes {
        self.sizes
    }

    /// Rows and columns of the patches the weights were trained with.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// The same network for weights that were trained on pixels with another mean subtracted and another deviation
    /// divided by, of pixels in [0, 1] (0.5 and 0.5 for most of timm's and Hugging Face's). The difference goes into
    /// the product of patches, exactly.
    ///
    /// # Errors
    /// If a number is not finite, or a deviation not above 0.
    pub fn trained_on(mut self, pixels: ChannelScale) -> Result<Self> {
        let ChannelScale { mean, std } = pixels;
        if !mean.iter().chain(&std).all(|v| v.is_finite()) || !std.iter().all(|&v| v > 0.0) {
            return Err(Error::input(format!("pixels cannot have mean {mean:?} and deviation {std:?}")));
        }
        self.pixels = pixels;
        Ok(self)
    }

    /// [`Self::tensors`] for an encoder of these sizes, but for its number of heads, which no weight tells.
    ///
    /// # Errors
    /// As of [`Self::tensors`].
    pub fn for_encoder(&mut self, encoder: &VitSizes) -> Result<NamedTensors> {
        let VitSizes { patch, width, layers, mlp, .. } = *encoder;
        let wanted = BackboneSizes { layers, embed_dim: width, mlp_dim: mlp, patch_size: patch };
        self.tensors(&wanted, encoder.grid())
    }

    /// The encoder's tensors under our names (with [`PREFIX`]), f32, with position embeddings for `grid` rows and
    /// columns of patches.
    ///
    /// # Errors
    /// Says which size is not the wanted one, or which tensor is not finite.
    pub fn tensors(&mut self, wanted: &BackboneSizes, grid: [usize; 2]) -> Result<NamedTensors> {
        self.check_sizes(wanted)?;
        let mut map = NamedTensors::new();
        for tensor in self.wanted() {
            let mut values = Vec::with_capacity(tensor.shape.iter().product());
            let mut shape = tensor.shape.clone();
            shape[0] /= tensor.sources.len();
            for source in &tensor.sources {
                let read = self.file.read(source, &shape)?;
                if tensor.sources.len() == 1 { values = read } else { values.extend(read) }
            }
            map.insert(tensor.name, Tensor { shape: tensor.shape, values });
        }
        let place = self.file.place();
        let ours = |pattern: &str, kind| format!("{PREFIX}{}", pattern.replace('*', kind));
        let missing = || Error::failure(format!("{place}: a tensor was lost"));
        let positions = map.get_mut(&ours(TORCHVISION.positions, "")).ok_or_else(missing)?;
        let from = self.grid_for(grid)?;
        positions.values = positions::resized(&positions.values, self.sizes.embed_dim, from, grid);
        positions.shape[1] = 1 + grid[0] * grid[1];
        if self.pixels != IMAGENET {
            let mut bias = map.remove(&ours(TORCHVISION.patches, "bias")).ok_or_else(missing)?;
            let weight = map.get_mut(&ours(TORCHVISION.patches, "weight")).ok_or_else(missing)?;
            self.fold_pixels(&mut weight.values, &mut bias.values);
            map.insert(ours(TORCHVISION.patches, "bias"), bias);
        }
        Ok(map)
    }

    /// Everything our encoder has, in its order.
    fn wanted(&self) -> Vec<Wanted> {
        let BackboneSizes { layers, embed_dim: d, mlp_dim, patch_size: p } = self.sizes;
        let (theirs, ours) = (&self.names, &TORCHVISION);
        let tokens = 1 + self.grid[0] * self.grid[1];
        let mut all = Vec::new();
        let mut add = |ours: &str, theirs: &str, shapes: &[(&str, Vec<usize>)]| {
            for (kind, shape) in shapes {
                let name = format!("{PREFIX}{}", ours.replace('*', kind));
                let source = format!("{}{}", self.prefix, theirs.replace('*', kind));
                let sources = match source.contains('?') {
                    true => ["query", "key", "value"].map(|part| source.replace('?', part)).into(),
                    false => vec![source],
                };
                all.push(Wanted { name, shape: shape.clone(), sources });
            }
        };
        let norm = [("weight", vec![d]), ("bias", vec![d])];
        let product = |out, input| [("weight", vec![out, input]), ("bias", vec![out])];
        let parts = [
            norm.clone(),
            product(3 * d, d),
            product(d, d),
            norm.clone(),
            product(mlp_dim, d),
            product(d, mlp_dim),
        ];
        add(ours.class_token, theirs.class_token, &[("", vec![1, 1, d])]);
        add(ours.patches, theirs.patches, &[("weight", vec![d, 3, p, p]), ("bias", vec![d])]);
        add(ours.positions, theirs.positions, &[("", vec![1, tokens, d])]);
        for layer in 0..layers {
            for (part, shapes) in parts.iter().enumerate() {
                add(&ours.of_layer(layer, part), &theirs.of_layer(layer, part), shapes);
            }
        }
        add(ours.norm, theirs.norm, &norm);
        all
    }

    /// Every tensor is there, in its shape; below the prefix there is nothing else but a head.
    fn check(&self) -> Result<()> {
        let norm = format!("{}{}", self.prefix, names::weight(self.names.norm));
        let averaged = format!("{}fc_norm.weight", self.prefix);
        if self.file.shape(&norm).is_none() && self.file.shape(&averaged).is_some() {
            return Err(self.wrong(format!(
                "it has `{averaged}` in place of `{norm}`: it was trained on the mean of its patches, and the \
                 policy reads a class token; use weights that have one"
            )));
        }
        // A damaged name can claim any number of layers; the first that is missing ends the search.
        if self.sizes.layers > self.file.iter().count() {
            return Err(self.wrong(format!("it names {} layers and has fewer tensors", self.sizes.layers)));
        }
        let wanted = self.wanted();
        for Wanted { shape, sources, .. } in &wanted {
            let mut shape = shape.clone();
            shape[0] /= sources.len();
            sources.iter().try_for_each(|source| self.file.check(source, &shape))?;
        }
        let known: BTreeSet<&str> =
            wanted.iter().flat_map(|wanted| &wanted.sources).map(String::as_str).collect();
        let ignored = |name: &str| self.names.ignored.iter().any(|start| name.starts_with(start));
        let extra = self.file.iter().map(|(name, _)| name).find(|name| {
            name.strip_prefix(&self.prefix).is_some_and(|rest| !known.contains(name) && !ignored(rest))
        });
        match extra {
            Some(name) => Err(self.wrong(format!(
                "tensor `{name}` is no part of a plain vision transformer with a class token ({} names)",
                self.names.library
            ))),
            None => Ok(()),
        }
    }

    fn check_sizes(&self, wanted: &BackboneSizes) -> Result<()> {
        let found = &self.sizes;
        let pairs = [
            ("layers", found.layers, wanted.layers),
            ("embed_dim", found.embed_dim, wanted.embed_dim),
            ("mlp_dim", found.mlp_dim, wanted.mlp_dim),
            ("patch_size", found.patch_size, wanted.patch_size),
        ];
        match pairs.iter().find(|(_, found, wanted)| found != wanted) {
            Some((name, has, asks)) => Err(self.wrong(format!(
                "its {name} is {has} where the configuration asks for {asks}; it has {found}"
            ))),
            None => Ok(()),
        }
    }

    /// The grid the file's position embeddings are of. Tokens that make no square can be used as they are only.
    fn grid_for(&self, grid: [usize; 2]) -> Result<[usize; 2]> {
        let tokens = self.grid[0] * self.grid[1];
        match self.oblong {
            _ if grid[0] == 0 || grid[1] == 0 => Err(Error::input(format!("no patches in a grid of {grid:?}"))),
            false => Ok(self.grid),
            true if grid[0] * grid[1] == tokens => Ok(grid),
            true => Err(self.wrong(format!(
                "its {tokens} position embeddings make no square, so they cannot be interpolated to {} x {}: use \
                 pictures of the size it was trained with",
                grid[0], grid[1]
            ))),
        }
    }

    /// The product of patches for pixels as our encoder normalises them: y = (p − m)/s where the weights expect
    /// z = (p − m')/s' = y·s/s' + (m − m')/s'.
    fn fold_pixels(&self, weight: &mut [f32], bias: &mut [f32]) {
        let ChannelScale { mean, std } = self.pixels;
        let area = self.sizes.patch_size * self.sizes.patch_size;
        for (filter, bias) in weight.chunks_exact_mut(3 * area).zip(bias) {
            let mut shift = 0.0;
            for (channel, plane) in filter.chunks_exact_mut(area).enumerate() {
                let sum: f64 = plane.iter().map(|&w| f64::from(w)).sum();
                shift += sum * (IMAGENET.mean[channel] - mean[channel]) / std[channel];
                let scale = IMAGENET.std[channel] / std[channel];
                plane.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            }
            *bias = (f64::from(*bias) + shift) as f32;
        }
    }

    fn wrong(&self, what: String) -> Error {
        Error::input(what).at(self.file.place())
    }
}
