//! What a channel's messages look like: the `FileDescriptorSet` that readers decode them by.
//!
//! Pictures and lines of text have the schemas that Foxglove publishes (package `foxglove`, MIT), numbers have one
//! of their own, a field for each component, so that a plot can name it.

use std::collections::BTreeSet;

use super::wire::Message;

/// The package of schemas made here.
const PACKAGE: &str = "flowgpu";
const TIMESTAMP: &str = "google/protobuf/timestamp.proto";

/// A message type, and the files that define it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    /// With its package: `foxglove.Log`.
    pub(super) name: String,
    /// A serialised `FileDescriptorSet`.
    pub(super) data: Vec<u8>,
}

/// A field's type, by its number in `FieldDescriptorProto.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Double,
    /// An array of any length.
    Floats,
    Int64,
    Int32,
    Fixed32,
    Text,
    Bytes,
    Timestamp,
    /// By its full name.
    Enum(&'static str),
}

impl Kind {
    fn number(self) -> u64 {
        match self {
            Self::Double => 1,
            Self::Floats => 2,
            Self::Int64 => 3,
            Self::Int32 => 5,
            Self::Fixed32 => 7,
            Self::Text => 9,
            Self::Timestamp => 11,
            Self::Bytes => 12,
            Self::Enum(_) => 14,
        }
    }

    /// `LABEL_OPTIONAL` or `LABEL_REPEATED`; proto3 packs what is repeated.
    fn label(self) -> u64 {
        if self == Self::Floats { 3 } else { 1 }
    }

    fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Timestamp => Some(".google.protobuf.Timestamp"),
            Self::Enum(name) => Some(name),
            _ => None,
        }
    }
}

/// A field's name, number and type.
type Field<'a> = (&'a str, u32, Kind);

/// `foxglove.CompressedImage`: a picture as a file's bytes.
pub(super) fn compressed_image() -> Schema {
    let fields = [
        ("timestamp", 1, Kind::Timestamp),
        ("frame_id", 4, Kind::Text),
        ("data", 2, Kind::Bytes),
        ("format", 3, Kind::Text),
    ];
    foxglove("CompressedImage", descriptor("CompressedImage", &fields))
}

/// `foxglove.Log`: a line of text.
pub(super) fn log() -> Schema {
    const LEVELS: [&str; 6] = ["UNKNOWN", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL"];
    let fields = [
        ("timestamp", 1, Kind::Timestamp),
        ("level", 2, Kind::Enum(".foxglove.Log.Level")),
        ("message", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("file", 5, Kind::Text),
        ("line", 6, Kind::Fixed32),
    ];
    let level = (0..).zip(LEVELS).fold(Message::default().text(1, "Level"), |level, (number, name)| {
        level.message(2, &Message::default().text(1, name).integer(2, number))
    });
    foxglove("Log", descriptor("Log", &fields).message(4, &level))
}

/// `flowgpu.<type_name>`: one field of this kind for each component, numbered from 1.
pub(super) fn of_components(type_name: &str, kind: Kind, components: &[String]) -> Schema {
    let fields: Vec<Field> =
        (1..).zip(components).map(|(number, name)| (name.as_str(), number, kind)).collect();
    let file = file(&format!("{PACKAGE}/{type_name}.proto"), PACKAGE, &[], &descriptor(type_name, &fields));
    Schema { name: format!("{PACKAGE}.{type_name}"), data: Message::default().message(1, &file).into_bytes() }
}

fn foxglove(type_name: &str, message: Message) -> Schema {
    let stamp = descriptor("Timestamp", &[("seconds", 1, Kind::Int64), ("nanos", 2, Kind::Int32)]);
    let stamp = file(TIMESTAMP, "google.protobuf", &[], &stamp);
    let own = file(&format!("foxglove/{type_name}.proto"), "foxglove", &[TIMESTAMP], &message);
    let data = Message::default().message(1, &stamp).message(1, &own).into_bytes();
    Schema { name: format!("foxglove.{type_name}"), data }
}

/// A `FileDescriptorProto` with one message.
fn file(name: &str, package: &str, dependencies: &[&str], message: &Message) -> Message {
    let file = Message::default().text(1, name).text(2, package);
    let file = dependencies.iter().fold(file, |file, name| file.text(3, name));
    file.message(4, message).text(12, "proto3")
}

/// A `DescriptorProto`.
fn descriptor(name: &str, fields: &[Field]) -> Message {
    fields.iter().fold(Message::default().text(1, name), |message, &(name, number, kind)| {
        let field = Message::default().text(1, name).integer(3, number.into());
        let field = field.integer(4, kind.label()).integer(5, kind.number());
        let field = match kind.type_name() {
            Some(name) => field.text(6, name),
            None => field,
        };
        message.message(2, &field)
    })
}

/// Names of fields for names of components, in their order: `x (px)` becomes `x_px`, what begins with a digit gets
/// `value_` in front (rerun's selectors take no underscore there), what has no letter of ASCII becomes `value`, and
/// a name that is taken gets a number. JSON's spelling of a field drops underscores, so names that differ in them
/// alone count as the same.
pub(super) fn field_names(components: &[&str]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut named = |component: &&str| {
        let name = match words(component).collect::<Vec<_>>().join("_") {
            name if name.is_empty() => "value".to_owned(),
            name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("value_{name}"),
            name => name,
        };
        let mut number = 1;
        while !taken.insert(numbered(&name, number).replace('_', "").to_ascii_lowercase()) {
            number += 1;
        }
        numbered(&name, number)
    };
    components.iter().map(&mut named).collect()
}

/// A type's name for a topic, of its last part: `/episode_0042/observation/state` holds a `State`.
pub(super) fn type_name(topic: &str) -> String {
    let last = topic.rsplit('/').next().unwrap_or(topic);
    let name: String = words(last).map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("Numbers{name}") }
}

/// The first user of a name has it as it is, the second with `_2` behind it, and so on.
pub(super) fn numbered(name: &str, number: usize) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}_{number}") }
}

/// Letters and digits of ASCII that stand together.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(data: &[u8], part: &[u8]) -> bool {
        data.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn pictures_and_log_lines_have_the_schemas_foxglove_publishes() {
        // `DESCRIPTOR.serialized_pb` of foxglove-schemas-protobuf 0.4.0.
        let image = b"\n\x1efoxglove/CompressedImage.proto\x12\x08foxglove\x1a\x1fgoogle/protobuf/timestamp.proto\
            \"p\n\x0fCompressedImage\x12-\n\ttimestamp\x18\x01 \x01(\x0b2\x1a.google.protobuf.Timestamp\
            \x12\x10\n\x08frame_id\x18\x04 \x01(\t\x12\x0c\n\x04data\x18\x02 \x01(\x0c\x12\x0e\n\x06format\x18\x03 \x01(\t\
            b\x06proto3";
        let log = b"\n\x12foxglove/Log.proto\x12\x08foxglove\x1a\x1fgoogle/protobuf/timestamp.proto\
            \"\xe1\x01\n\x03Log\x12-\n\ttimestamp\x18\x01 \x01(\x0b2\x1a.google.protobuf.Timestamp\
            \x12\"\n\x05level\x18\x02 \x01(\x0e2\x13.foxglove.Log.Level\x12\x0f\n\x07message\x18\x03 \x01(\t\
            \x12\x0c\n\x04name\x18\x04 \x01(\t\x12\x0c\n\x04file\x18\x05 \x01(\t\x12\x0c\n\x04line\x18\x06 \x01(\x07\
            \"L\n\x05Level\x12\x0b\n\x07UNKNOWN\x10\x00\x12\t\n\x05DEBUG\x10\x01\x12\x08\n\x04INFO\x10\x02\
            \x12\x0b\n\x07WARNING\x10\x03\x12\t\n\x05ERROR\x10\x04\x12\t\n\x05FATAL\x10\x05b\x06proto3";
        assert!(contains(&compressed_image().data, image));
        assert!(contains(&super::log().data, log));
    }

    #[test]
    fn every_component_becomes_a_field_with_a_name_of_its_own() {
        let names = field_names(&["x (px)", "x px", "xPx", "2nd joint", "θ", "", "gripper", "value"]);
        assert_eq!(
            names,
            ["x_px", "x_px_2", "xPx_3", "value_2nd_joint", "value", "value_2", "gripper", "value_3"]
        );
    }

    #[test]
    fn a_type_is_named_after_the_last_part_of_its_topic() {
        assert_eq!(type_name("/episode_0042/observation/state"), "State");
        assert_eq!(type_name("observation.state"), "ObservationState");
        assert_eq!(type_name("/episode/7"), "Numbers7");
        assert_eq!(type_name("/größe"), "GrE");
        assert_eq!(type_name("/"), "Numbers");
    }
}
