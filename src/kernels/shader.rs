//! Shaders as data: their source, their knobs, and how many workgroups to launch.

/// A WGSL shader, complete but for the shared snippets that its first line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The file's name without `.wgsl`.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
}

/// `shader!("name")`: the shader of that file; a missing file is a compile error.
macro_rules! shader {
    ($name:literal) => {
        $crate::kernels::Shader {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
        }
    };
}
pub(crate) use shader;

/// Snippets of `shaders/shared/`, by name.
const SHARED: &[(&str, &str)] = &[
    ("activation", include_str!("../../shaders/shared/activation.wgsl")),
    ("adam", include_str!("../../shaders/shared/adam.wgsl")),
    ("eight_rows", include_str!("../../shaders/shared/eight_rows.wgsl")),
    ("square_tile", include_str!("../../shaders/shared/square_tile.wgsl")),
    ("operands", include_str!("../../shaders/shared/operands.wgsl")),
    ("product", include_str!("../../shaders/shared/product.wgsl")),
    ("result", include_str!("../../shaders/shared/result.wgsl")),
    ("philox", include_str!("../../shaders/shared/philox.wgsl")),
    ("fused", include_str!("../../shaders/shared/fused.wgsl")),
    ("dropout", include_str!("../../shaders/shared/dropout.wgsl")),
    ("attention", include_str!("../../shaders/shared/attention.wgsl")),
    ("attention_broadcast", include_str!("../../shaders/shared/attention_broadcast.wgsl")),
    ("decoder", include_str!("../../shaders/shared/decoder.wgsl")),
    ("tiles", include_str!("../../shaders/shared/tiles.wgsl")),
    ("total", include_str!("../../shaders/shared/total.wgsl")),
    ("total_subgroup", include_str!("../../shaders/shared/total_subgroup.wgsl")),
    ("whole_rows", include_str!("../../shaders/shared/whole_rows.wgsl")),
    ("layer_norm", include_str!("../../shaders/shared/layer_norm.wgsl")),
    ("layer_norm_backward", include_str!("../../shaders/shared/layer_norm_backward.wgsl")),
    ("cooperative", include_str!("../../shaders/shared/cooperative.wgsl")),
];

impl Shader {
    /// The full text: what a second line `// enables: a, b` asks of the language, the snippets named in a first line
    /// `// uses: a, b`, then the file.
    ///
    /// # Panics
    /// If a snippet is unknown; a test loads every shader.
    pub fn text(&self) -> String {
        let enables = self.names("// enables:").map(|name| format!("enable {name};\n"));
        let snippets = self.names("// uses:").map(|name| {
            let snippet = SHARED.iter().find(|(known, _)| *known == name);
            snippet.unwrap_or_else(|| panic!("{}: no snippet {name}", self.name)).1.to_owned()
        });
        enables.chain(snippets).chain([self.source.to_owned()]).collect()
    }

    /// What one of the first lines names.
    fn names(&self, line: &'static str) -> impl Iterator<Item = &'static str> {
        let named = self.source.lines().take(2).find_map(|text| text.strip_prefix(line));
        named.into_iter().flat_map(|names| names.split(',')).map(str::trim)
    }
}

/// What kind of adapter a kernel is to run on, as far as the choice of variants goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterClass {
    /// A real GPU: workgroup memory is fast, many workgroups run at once.
    Gpu(Abilities),
    /// A software adapter (WARP, SwiftShader): workgroup memory and barriers cost more than they save.
    Software,
    /// A software adapter whose subgroups are of eight invocations (lavapipe on AVX): loads cost most, and what one
    /// invocation loaded reaches the others by broadcast.
    SoftwareSubgroup,
}

impl AdapterClass {
    /// Whether it is a real GPU.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// What it can do beyond what every GPU can; nothing that software adapters would be asked for.
    pub fn abilities(self) -> Abilities {
        match self {
            Self::Gpu(abilities) => abilities,
            Self::Software | Self::SoftwareSubgroup => Abilities::default(),
        }
    }
}

/// What some GPUs can and others cannot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Abilities {
    /// Invocations of a subgroup, where shaders may use subgroups and there is but one size of them.
    pub subgroup: Option<u32>,
    /// Products of small matrices, where subgroups are of one size.
    pub matrices: Option<Matrices>,
}

/// What an adapter's subgroups multiply together: square f16 matrices, their sums f32 (WGSL's cooperative matrices).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Rows and columns of each: 8 or 16.
    pub side: u32,
}

/// One launch: which shader, with which knobs, over how many workgroups.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The shader variant; its entry point is `main`.
    pub shader: Shader,
    /// Values of the shader's `override`s.
    pub knobs: Vec<(&'static str, f64)>,
    /// Workgroups in x, y, z, each at most 65,535.
    pub workgroups: [u32; 3],
    /// The input that the shader binds as a uniform buffer of [`UNIFORM_BYTES`], where there is one.
    pub uniform_input: Option<usize>,
}

/// Bytes of an input that is bound as a uniform buffer: as many as lavapipe and most GPUs allow.
pub const UNIFORM_BYTES: usize = 64 << 10;

/// Workgroups a dimension may have under WebGPU's default limits.
pub const MAX_WORKGROUPS: usize = 65_535;

impl Dispatch {
    /// A launch of `items` invocations in workgroups of `size`, folded over x and y. The shader finds its place
    /// with `(group.y * groups.x + group.x) * size + local`.
    pub fn linear(shader: Shader, items: usize, size: usize) -> Self {
        Self::groups(shader, items.div_ceil(size))
    }

    /// A launch of `count` workgroups, folded over x and y.
    pub fn groups(shader: Shader, count: usize) -> Self {
        let count = count.max(1);
        let rows = count.div_ceil(MAX_WORKGROUPS);
        let columns = count.div_ceil(rows);
        Self { shader, knobs: Vec::new(), workgroups: [columns as u32, rows as u32, 1], uniform_input: None }
    }

    /// The same launch with an input bound as a uniform buffer.
    #[must_use]
    pub fn with_uniform_input(self, input: usize) -> Self {
        Self { uniform_input: Some(input), ..self }
    }

    /// The same launch with an `override` set.
    #[must_use]
    pub fn with(mut self, knob: &'static str, value: impl Into<f64>) -> Self {
        self.knobs.push((knob, value.into()));
        self
    }
}
