//! What a dataset's columns hold, and which of them a policy sees.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A column's element type, as `info.json` spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Dtype {
    /// `float32`
    Float32,
    /// `float64`; read as f32, as all other numbers.
    Float64,
    /// `int64`
    Int64,
    /// `bool`
    Bool,
    /// `image`: an encoded picture in every row.
    Image,
    /// `video`: pictures in MP4 files.
    Video,
    /// Numbers of other widths, and what a policy does not read (`string`, `language`).
    Other(String),
}

impl Dtype {
    /// Whether its values are numbers (or truth values, which are read as 0 and 1).
    pub fn is_number(&self) -> bool {
        match self {
            Self::Float32 | Self::Float64 | Self::Int64 | Self::Bool => true,
            Self::Image | Self::Video => false,
            Self::Other(name) => ["float16", "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"]
                .contains(&name.as_str()),
        }
    }
}

impl From<String> for Dtype {
    fn from(name: String) -> Self {
        match name.as_str() {
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "int64" => Self::Int64,
            "bool" => Self::Bool,
            "image" => Self::Image,
            "video" => Self::Video,
            _ => Self::Other(name),
        }
    }
}

impl From<Dtype> for String {
    fn from(dtype: Dtype) -> Self {
        dtype.to_string()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Image => "image",
            Self::Video => "video",
            Self::Other(name) => name,
        })
    }
}

/// One column of a dataset, as `info.json` declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Element type.
    pub dtype: Dtype,
    /// Shape of one frame's value: `[N]` for vectors, `[H, W, C]` or `[C, H, W]` for pictures (see `names`).
    /// Null stands for no dimension.
    #[serde(default, deserialize_with = "shape")]
    pub shape: Vec<usize>,
    /// Names of the dimensions, in whatever form the dataset has them: null, a list, nested lists, a map.
    #[serde(default)]
    pub names: Value,
    /// Whatever else the file says (`info`, `fps`, ...), kept as it is.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<usize>, D::Error> {
    Ok(Option::<Vec<usize>>::deserialize(deserializer)?.unwrap_or_default())
}

impl Feature {
    /// A vector of `names.len()` float32 values.
    pub fn vector(names: &[&str]) -> Self {
        Self {
            dtype: Dtype::Float32,
            shape: vec![names.len()],
            names: names.iter().copied().collect(),
            rest: Map::new(),
        }
    }

    /// One value of a type.
    pub fn scalar(dtype: Dtype) -> Self {
        Self { dtype, shape: vec![1], names: Value::Null, rest: Map::new() }
    }

    /// An RGB picture, stored as PNG in every row.
    pub fn image(width: usize, height: usize) -> Self {
        let names = ["height", "width", "channels"].into_iter().collect();
        Self { dtype: Dtype::Image, shape: vec![height, width, 3], names, rest: Map::new() }
    }

    /// Whether this is a picture, in the rows or in a video.
    pub fn is_visual(&self) -> bool {
        matches!(self.dtype, Dtype::Image | Dtype::Video)
    }

    /// Values in one frame: the product of the shape, at most `usize::MAX`.
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |len: usize, &size| len.saturating_mul(size))
    }

    /// Whether a frame holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape a policy sees: pictures as `[C, H, W]`, all else flat, `[N]`.
    ///
    /// The names decide, as in LeRobot; where there are none, a last dimension of 1 or 3 is the channel.
    pub fn policy_shape(&self) -> Vec<usize> {
        let shape = &self.shape;
        if !self.is_visual() {
            return vec![self.len()];
        }
        if shape.len() != 3 {
            return shape.clone();
        }
        let channel = |n: &Value| matches!(n.as_str(), Some("channel" | "channels"));
        let named = |axis: usize| self.names.get(axis).is_some_and(channel);
        let last = named(2) || (!named(0) && [1, 3].contains(&shape[2]) && ![1, 3].contains(&shape[0]));
        if last { vec![shape[2], shape[0], shape[1]] } else { shape.clone() }
    }
}

/// The part a feature plays for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A picture.
    Visual,
    /// A vector the robot measures (`observation.*`), or the environment's state.
    State,
    /// What the robot is told to do (`action`).
    Action,
}

/// A feature as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFeature {
    /// The dataset's column.
    pub key: String,
    /// The part it plays.
    pub role: Role,
    /// `[C, H, W]` for pictures, `[N]` for vectors.
    pub shape: Vec<usize>,
}

/// A dataset's columns by name, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features(Vec<(String, Feature)>);

impl Features {
    /// No columns yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These columns and one more; a column of the same name is replaced.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, feature: Feature) -> Self {
        self.insert(key, feature);
        self
    }

    /// Adds a column, or replaces the one of that name.
    pub fn insert(&mut self, key: impl Into<String>, feature: Feature) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = feature,
            None => self.0.push((key, feature)),
        }
    }

    /// The column of that name.
    pub fn get(&self, key: &str) -> Option<&Feature> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, feature)| feature)
    }

    /// Names and columns in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.0.iter().map(|(key, feature)| (key.as_str(), feature))
    }

    /// The names in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// What a policy can see and must produce: pictures, `observation.*` vectors and `action`, in the file's order.
    pub fn for_policy(&self) -> Vec<PolicyFeature> {
        let role = |key: &str, feature: &Feature| match key {
            _ if feature.is_visual() => Some(Role::Visual),
            _ if !feature.dtype.is_number() => None,
            "action" => Some(Role::Action),
            _ if key.starts_with("observation") => Some(Role::State),
            _ => None,
        };
        self.iter()
            .filter_map(|(key, feature)| {
                let role = role(key, feature)?;
                Some(PolicyFeature { key: key.into(), role, shape: feature.policy_shape() })
            })
            .collect()
    }

    /// Says which column differs first between two datasets in type or shape.
    ///
    /// # Errors
    /// If one does, or if it is missing on either side.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        let describe = |feature: Option<&Feature>| match feature {
            Some(f) => format!("{} {:?}", f.dtype, f.policy_shape()),
            None => "missing".into(),
        };
        for key in self.keys().chain(other.keys()) {
            let (mine, theirs) = (describe(self.get(key)), describe(other.get(key)));
            if mine != theirs {
                return Err(Error::input(format!(
                    "feature `{key}` is {mine} in one and {theirs} in the other"
                )));
            }
        }
        Ok(())
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, feature) in &self.0 {
            map.serialize_entry(key, feature)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        let parse = |(key, value)| match Feature::deserialize(&value) {
            Ok(feature) => Ok((key, feature)),
            Err(e) => Err(serde::de::Error::custom(format!("feature `{key}`: {e}"))),
        };
        map.into_iter().map(parse).collect::<std::result::Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visual(shape: [usize; 3], names: Value) -> Feature {
        Feature { dtype: Dtype::Video, shape: shape.to_vec(), names, rest: Map::new() }
    }

    #[test]
    fn pictures_reach_a_policy_with_channels_first() {
        let names = |text: &str| serde_json::from_str::<Value>(text).expect("valid");
        let hwc = visual([48, 64, 3], names(r#"["height", "width", "channel"]"#));
        assert_eq!(hwc.policy_shape(), [3, 48, 64]);
        let chw = visual([3, 48, 64], names(r#"["channels", "height", "width"]"#));
        assert_eq!(chw.policy_shape(), [3, 48, 64]);
        assert_eq!(visual([48, 64, 3], Value::Null).policy_shape(), [3, 48, 64]);
        assert_eq!(visual([3, 48, 64], Value::Null).policy_shape(), [3, 48, 64]);
    }

    #[test]
    fn files_in_the_wild_parse_and_keep_their_order_and_extras() {
        let text = r#"{"observation.image": {"dtype": "video", "shape": [3, 96, 96], "names": null, "video_info": {"has_audio": false}},
            "observation.state": {"dtype": "float64", "shape": [2], "names": {"motors": ["x", "y"]}, "fps": 10.0},
            "next.reward": {"dtype": "float32", "shape": [1]},
            "observation.note": {"dtype": "string", "shape": [1]},
            "observation.wrench": {"dtype": "float32", "shape": [2, 3], "names": null},
            "action": {"dtype": "float32", "shape": [2], "names": [["x", "y"]]}}"#;
        let features: Features = serde_json::from_str(text).expect("parses");
        let seen: Vec<_> = features.for_policy().into_iter().map(|f| (f.key, f.role)).collect();
        let expected = [
            ("observation.image", Role::Visual),
            ("observation.state", Role::State),
            ("observation.wrench", Role::State),
            ("action", Role::Action),
        ];
        assert_eq!(features.for_policy()[2].shape, [6], "flat");
        assert_eq!(seen, expected.map(|(key, role)| (key.to_string(), role)));
        let again: Features =
            serde_json::from_str(&serde_json::to_string(&features).expect("writes")).expect("parses");
        assert_eq!(again, features);
    }

    #[test]
    fn the_first_difference_between_datasets_is_named() {
        let one = Features::new().with("action", Feature::vector(&["x", "y"]));
        let two = Features::new().with("action", Feature::vector(&["x"]));
        assert!(one.check_same(&one).is_ok());
        assert!(one.check_same(&two).is_err_and(|e| e.to_string().contains("`action`")));
        assert!(one.check_same(&Features::new()).is_err_and(|e| e.to_string().contains("missing")));
    }
}
